"""Internal calls over real HTTP: what is refused, and what comes back (S13, S14, B20)."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator

import aiohttp
import msgpack
import pytest

from common.errors import Conflict, InternalError, Invalid, Unavailable
from common.rpc import small, wire
from common.rpc.client import STREAMED_PART_BYTES, RpcClient, Streamed
from common.rpc.clock import now_ms
from common.rpc.server import Call, Reply
from common.web import Server, internal_app

KEYS = wire.Keys(b"k" * 32, (b"k" * 32,))
PART = secrets.token_bytes(300_000)


class Fixture:
    """A service ``storage`` with five methods, and how often each ran to its end."""

    def __init__(self) -> None:
        self.done = 0
        self.closed = asyncio.Event()
        self.cancelled = asyncio.Event()
        app = internal_app(
            "storage",
            KEYS,
            {
                "append": self.append,
                "results": self.results,
                "plan": self.plan,
                "schema": self.schema,
                "hello": self.hello,
            },
            lambda: {"status": "ready"},
        )
        self.server = Server(app, "127.0.0.1", 0)
        self.client = RpcClient(KEYS, "ingest")
        self.url = ""

    async def append(self, call: Call) -> Reply:
        parts = await call.parts(max_bytes=10 << 20)
        self.done += 1
        return Reply({"head": call.head, "count": len(parts)}, parts)

    async def results(self, call: Call) -> Reply:
        body = b"".join([bytes(piece) async for piece in call.iter_pieces()])
        self.done += 1
        return Reply({}, [body])

    async def hello(self, call: Call) -> Reply:
        await call.finish()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled.set()

    async def plan(self, call: Call) -> Reply:
        await call.finish()
        raise Conflict("taken", details={"condition": 3})

    async def schema(self, call: Call) -> Reply:
        await call.finish()

        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                while call.head.get("endless"):
                    yield PART
                raise RuntimeError("in mid-stream")
            finally:
                self.closed.set()

        return Reply({}, parts())

    async def raw(self, body: bytes, header: str | None, head_size: int | None, method: str = "storage.append") -> int:
        headers = {"Content-Type": wire.CONTENT_TYPE}
        if header is not None:
            headers[wire.CALL_HEADER] = header
        if head_size is not None:
            headers[wire.HEAD_HEADER] = str(head_size)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/rpc/{method}", data=body, headers=headers) as answer,
        ):
            return answer.status


@pytest.fixture
async def service() -> AsyncIterator[Fixture]:
    fixture = Fixture()
    fixture.url = await fixture.server.start()
    await fixture.client.open()
    yield fixture
    await fixture.client.close()
    await fixture.server.stop()


def signed_body(
    head: bytes,
    parts: list[bytes],
    method: str = "storage.append",
    audience: str = "storage",
    expires_in_ms: int = 20_000,
) -> tuple[bytes, str]:
    nonce = secrets.token_bytes(wire.NONCE_BYTES)
    body = b"".join(wire.encode_call(KEYS, nonce, head, parts))
    return body, wire.sign_call(KEYS, method, audience, "ingest", now_ms() + expires_in_ms, nonce, head)


HEAD = wire.encode_head({"n": 1})


async def test_head_and_parts_go_and_come_whole(service: Fixture) -> None:
    answer = await service.client.call(service.url, "storage.append", {"n": 1}, [b"", b"x", PART])
    assert answer.head == {"head": {"n": 1}, "count": 3}
    assert answer.parts == [b"", b"x", PART]


async def test_parts_may_be_streamed(service: Fixture) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield PART

    async with service.client.stream(service.url, "storage.append", {}, pieces()) as answer:
        assert [part async for part in answer.parts()] == [PART] * 5


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_pieces_of_known_size_are_cut_into_parts_anew(service: Fixture, count: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield PART

    parts = Streamed(pieces(), count * len(PART))
    async with service.client.stream(service.url, "storage.append", {}, parts) as answer:
        got = [part async for part in answer.parts()]
    assert b"".join(got) == PART * count
    assert [len(part) for part in got[:-1]] == [STREAMED_PART_BYTES] * (len(got) - 1)


@pytest.mark.parametrize("size", [2 * len(PART) - 1, 2 * len(PART) + 1])
async def test_pieces_of_another_size_than_was_said_do_nothing(service: Fixture, size: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield PART
        yield PART

    with pytest.raises(Invalid):
        async with service.client.stream(service.url, "storage.append", {}, Streamed(pieces(), size)):
            pass
    assert service.done == 0
    assert (await service.client.call(service.url, "storage.append", {}, [PART])).parts == [PART]


async def test_a_call_refused_before_its_pieces_are_out_is_told_at_once(service: Fixture) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield PART

    with pytest.raises(Unavailable, match="refused with 401"):
        async with service.client.stream(service.url, "storage.plan", {}, Streamed(pieces(), 1000 * len(PART))):
            pass
    assert sent < 1000


async def test_a_method_may_be_called_by_those_of_the_table_alone(service: Fixture) -> None:
    with pytest.raises(Unavailable, match="refused with 401"):  # plan is for query
        await service.client.call(service.url, "storage.plan", {})


async def test_an_error_is_raised_again_as_the_same_class_with_its_details(service: Fixture) -> None:
    client = RpcClient(KEYS, "query")
    await client.open()
    with pytest.raises(Conflict) as caught:
        await client.call(service.url, "storage.plan", {})
    await client.close()
    assert caught.value.details["condition"] == 3


async def test_an_answer_that_breaks_off_is_an_error_never_a_short_answer(service: Fixture) -> None:
    with pytest.raises(Unavailable):
        await service.client.call(service.url, "storage.schema", {})


async def test_a_caller_that_goes_away_ends_the_answer(service: Fixture) -> None:
    async with service.client.stream(service.url, "storage.schema", {"endless": True}) as answer:
        assert await anext(answer.parts()) == b"one"
    async with asyncio.timeout(5):
        await service.closed.wait()


async def test_a_caller_that_takes_nothing_is_given_up(service: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.rpc.server.SEND_TIMEOUT_S", 0.1)
    with pytest.raises(Unavailable):
        async with service.client.stream(service.url, "storage.schema", {"endless": True}) as answer:
            async with asyncio.timeout(5):
                await service.closed.wait()
            async for _ in answer.parts():
                pass


async def test_nobody_there_is_unavailable(service: Fixture) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable):
            await service.client.call(f"http://127.0.0.1:{nobody.getsockname()[1]}", "storage.append", {})


async def test_a_source_that_fails_raises_its_own_error(service: Fixture) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield PART
        raise InternalError("the client went away")

    for parts in (failing(), Streamed(failing(), 3 * len(PART))):
        with pytest.raises(InternalError, match="the client went away"):
            async with service.client.stream(service.url, "storage.append", {}, parts):
                pass
    assert service.done == 0


async def test_calls_that_are_not_what_was_signed_are_refused_with_401(service: Fixture) -> None:
    good, header = signed_body(HEAD, [b"abc"])
    refused = {
        "unsigned": (good, None, len(HEAD), "storage.append"),
        "no head": (good, header, None, "storage.append"),
        "expired": (*signed_body(HEAD, [b"abc"], expires_in_ms=-1), len(HEAD), "storage.append"),
        "other method": (good, header, len(HEAD), "storage.schema"),
        "other audience": (*signed_body(HEAD, [b"abc"], audience="auth"), len(HEAD), "storage.append"),
        "other head": (good.replace(b"\x01", b"\x02", 1), header, len(HEAD), "storage.append"),
        "truncated head": (good[:3], header, len(HEAD), "storage.append"),
    }
    for name, (body, claim, size, method) in refused.items():
        assert await service.raw(body, claim, size, method) == 401, name
    assert service.done == 0
    # The call itself was good all the time; sent again, it is a replay.
    assert await service.raw(good, header, len(HEAD)) == 200
    assert await service.raw(good, header, len(HEAD)) == 401
    assert service.done == 1


async def test_altered_or_cut_parts_are_refused_before_anything_is_done(service: Fixture) -> None:
    body, header = signed_body(HEAD, [b"abc"])
    assert await service.raw(body.replace(b"abc", b"abd"), header, len(HEAD)) != 200
    body, header = signed_body(HEAD, [b"abc"])
    assert await service.raw(body[:-5], header, len(HEAD)) != 200
    body, header = signed_body(HEAD, [b"abc"])
    assert await service.raw(body + b"x", header, len(HEAD)) != 200
    assert service.done == 0


async def test_what_is_signed_as_a_whole_is_neither_longer_nor_shorter_nor_another(service: Fixture) -> None:
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def past_aiohttp(claim: str, body: bytes) -> bool:
        writer.write(small.request_head("storage", "storage.append", claim, len(HEAD), len(body)) + body)
        return (await read_message(reader)).startswith(b"HTTP/1.1 200 ")

    async def by_aiohttp(claim: str, body: bytes) -> bool:
        return await service.raw(body, claim, len(HEAD)) == 200

    def signed(body: bytes, form: str = wire.WHOLE) -> str:
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        return wire.sign_call(KEYS, "storage.append", "storage", "ingest", now_ms() + 20_000, nonce, body, form)

    part, end = wire.part_prefix(3) + b"abc", wire.END
    for ask in (by_aiohttp, past_aiohttp):
        done = service.done
        assert await ask(signed(HEAD + part + end), HEAD + part + end)
        assert await ask(signed(HEAD + end), HEAD + end)
        assert service.done == done + 2
        for body in (HEAD + end, HEAD + part, HEAD + part + part + end, HEAD + part.replace(b"a", b"b") + end, HEAD):
            assert not await ask(signed(HEAD + part + end), body)
        # Closed in the way of the other form, or another form than was signed.
        assert not await ask(signed(HEAD + part), HEAD + part)
        assert not await ask(signed(HEAD, wire.SEALED), HEAD + part + end)
        assert not await ask("1" + signed(HEAD + end)[1:], HEAD + end)
        assert service.done == done + 2
    long = HEAD + (wire.part_prefix(60_000) + bytes(60_000)) * 2 + end
    assert not await by_aiohttp(signed(long), long)
    writer.close()


async def test_a_body_read_in_pieces_is_checked_as_one_in_parts(service: Fixture) -> None:
    parts = [b"", b"x", PART, b"abc"]
    answer = await service.client.call(service.url, "storage.results", {"n": 1}, parts)
    assert answer.parts == [b"".join(parts)]
    assert service.done == 1
    method = "storage.results"
    for change in (lambda b: b.replace(b"abc", b"abd"), lambda b: b[:-5], lambda b: b[:40], lambda b: b + b"x"):
        body, header = signed_body(HEAD, parts, method)
        assert await service.raw(change(body), header, len(HEAD), method) != 200
    assert service.done == 1


@pytest.mark.parametrize("bomb", [b"\x91" * 50_000, b"\xdd\xff\xff\xff\xff", msgpack.packb({1: 2}), b"\xc1"])
async def test_junk_in_a_signed_head_is_400(service: Fixture, bomb: bytes) -> None:
    body, header = signed_body(bomb, [])
    assert await service.raw(body, header, len(bomb)) == 400


async def test_every_service_shows_its_state(service: Fixture) -> None:
    async with aiohttp.ClientSession() as session:
        for path, words in (("/health", "pass"), ("/ready", "ready"), ("/metrics", "tidegate_event_loop_lag_seconds")):
            async with session.get(service.url + path) as answer:
                assert answer.status == 200
                assert words in await answer.text()


async def test_a_slow_head_is_given_up(service: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.rpc.server.HEAD_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    _, header = signed_body(HEAD, [])
    request = f"POST /rpc/storage.append HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n{wire.CALL_HEADER}: {header}\r\n"
    writer.write(f"{request}{wire.HEAD_HEADER}: {len(HEAD)}\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()


def test_a_handler_that_no_table_lists_is_a_mistake_at_start() -> None:
    async def handler(_call: Call) -> Reply:
        return Reply()

    with pytest.raises(ValueError, match="storage"):
        internal_app("storage", KEYS, {"nonsense": handler}, dict)


# ---------------------------------------------------------------- small calls, which aiohttp does not see


async def test_a_kept_connection_carries_small_calls_past_aiohttp(service: Fixture) -> None:
    def seen() -> int:
        manager = service.server._runner.server
        assert manager is not None
        return manager.requests_count

    for number in range(5):
        answer = await service.client.call(service.url, "storage.append", {"n": number}, [b"abc"])
        assert (answer.head["head"], answer.parts) == ({"n": number}, [b"abc"])
    small_ones = seen()
    assert small_ones <= 1  # the first one, if the connection was not ready yet
    assert (await service.client.call(service.url, "storage.append", {}, [PART])).parts == [PART]
    assert seen() == small_ones + 1


async def test_small_calls_fail_as_others_do(service: Fixture) -> None:
    for _ in range(3):
        with pytest.raises(Unavailable, match="refused with 401"):
            await service.client.call(service.url, "storage.plan", {})
        with pytest.raises(Unavailable):
            await service.client.call(service.url, "storage.schema", {})  # breaks off
        assert (await service.client.call(service.url, "storage.append", {}, [b"x"])).parts == [b"x"]
    client = RpcClient(KEYS, "query")
    await client.open()
    for _ in range(3):
        with pytest.raises(Conflict) as caught:
            await client.call(service.url, "storage.plan", {})
        assert caught.value.details["condition"] == 3
    await client.close()


async def test_bytes_of_calls_in_any_pieces_are_answered_in_their_order(service: Fixture) -> None:
    def request(number: int) -> bytes:
        head = wire.encode_head({"n": number})
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        body = b"".join(wire.encode_call(KEYS, nonce, head, [b"part"]))
        claim = wire.sign_call(KEYS, "storage.append", "storage", "ingest", now_ms() + 20_000, nonce, head)
        return small.request_head("storage", "storage.append", claim, len(head), len(body)) + body

    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = 0
    # Whole, two at once, in pieces, one behind another that is still being answered.
    for piece_bytes in (10**6, 10**6, 7, 200, 331):
        data = b"".join(request(sent + more) for more in range(2 if piece_bytes != 10**6 or sent else 1))
        sent += data.count(b"POST ")
        for at in range(0, len(data), piece_bytes):
            writer.write(data[at : at + piece_bytes])
            await asyncio.sleep(0)
            await writer.drain()
    numbers = []
    async with asyncio.timeout(10):
        for _ in range(sent):
            answered = small.parse_answer(await read_message(reader))
            assert answered is not None
            numbers.append(wire.decode_head(answered.body[: answered.head_size])["head"]["n"])
    assert numbers == list(range(sent))
    writer.close()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))


async def test_a_caller_that_leaves_a_small_call_cancels_it(service: Fixture) -> None:
    await service.client.call(service.url, "storage.append", {})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await service.client.call(service.url, "storage.hello", {})
    async with asyncio.timeout(5):
        await service.cancelled.wait()
