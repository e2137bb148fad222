"""Connections of the gateway: deadlines, bounds, what is no HTTP, stopping. Pins what protocol.py rests on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.gateway_parts import TOKEN, Parts, running

WRITE = b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nAuthorization: Token good\r\n"
SOON_S = 3.0


class Connection:
    """A plain connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, parts: Parts) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", parts.port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything until the gateway ends the connection."""
        async with asyncio.timeout(SOON_S):
            received = b""
            try:
                while piece := await self.reader.read(65536):
                    received += piece
            except ConnectionResetError:
                pass
            self.writer.close()
            return received

    async def head(self) -> bytes:
        """One answer without a body."""
        async with asyncio.timeout(SOON_S):
            return await self.reader.readuntil(b"\r\n\r\n")


def status_of(answer: bytes) -> int:
    """The status of an answer; what is no HTTP is answered as HTTP/1.0."""
    assert answer.startswith((b"HTTP/1.0 ", b"HTTP/1.1 ")), answer
    return int(answer[9:12])


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path, header_timeout_s=0.3, body_timeout_s=0.3, idle_timeout_s=2.0) as parts:
        yield parts


async def drip(connection: Connection, data: bytes, pause_s: float = 0.05) -> None:
    for position in range(len(data)):
        if connection.writer.is_closing():
            return
        connection.send(data[position : position + 1])
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("start", [b"", WRITE + b"Content-Length: 5\r\n\r\nm v=1"])
async def test_a_half_head_is_cut(parts: Parts, start: bytes) -> None:
    connection = await Connection.open(parts)
    if start:
        connection.send(start)
        assert (await connection.head()).startswith(b"HTTP/1.1 204")
    connection.send(b"POST /write HTTP/1.1\r\nHost: x\r\nX-Half:")
    assert (await connection.rest()).startswith(b"HTTP/1.1 408")


async def test_a_dripped_head_is_cut_though_it_never_pauses(parts: Parts) -> None:
    connection = await Connection.open(parts)
    dripping = asyncio.create_task(drip(connection, WRITE + b"X: " + b"y" * 200))
    assert (await connection.rest()).startswith(b"HTTP/1.1 408")
    await dripping


@pytest.mark.parametrize("kind", [b"Content-Length: 500\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1f4\r\n"])
async def test_a_dripped_body_is_cut_and_writes_nothing(parts: Parts, kind: bytes) -> None:
    connection = await Connection.open(parts)
    connection.send(WRITE + kind)
    dripping = asyncio.create_task(drip(connection, b"m v=1\n" * 80))
    assert not (await connection.rest()).startswith(b"HTTP/1.1 2")
    await dripping
    assert not parts.ingest.writes
    assert parts.gateway.budget.used_bytes == 0


async def test_a_large_body_that_stops_is_cut(parts: Parts) -> None:
    connection = await Connection.open(parts)
    connection.send(WRITE + b"Content-Length: 1000000\r\n\r\n" + bytes(300_000))
    await connection.rest()
    async with asyncio.timeout(SOON_S):
        while any(one.in_flight for one in parts.gateway.replicas.everyone()):
            await asyncio.sleep(0.01)
    assert not parts.ingest.writes
    assert parts.gateway.budget.used_bytes == 0


async def test_a_body_that_goes_on_is_not_cut_however_long_it_takes(parts: Parts) -> None:
    connection = await Connection.open(parts)
    connection.send(WRITE + b"Content-Length: 20480\r\n\r\n")
    for _ in range(10):
        connection.send(bytes(2048))
        await asyncio.sleep(0.1)
    assert (await connection.head()).startswith(b"HTTP/1.1 204")
    connection.writer.close()


async def test_a_slow_ingest_does_not_cut_the_client(parts: Parts) -> None:
    async with running(Path(parts.folder), header_timeout_s=0.2, body_timeout_s=0.2, ingests=0) as waiting:
        connection = await Connection.open(waiting)
        body = bytes(2_000_000)
        connection.send(WRITE + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(0.7)  # no ingest: nobody reads the body
        waiting.auth.tell({"instances": [["ingest-0", "ingest", parts.ingest.service.url]]})
        assert (await connection.head()).startswith(b"HTTP/1.1 204")
        connection.writer.close()
    assert parts.ingest.writes[0][1] == body


async def test_an_idle_connection_outlives_the_head_deadline_and_ends_at_its_own(parts: Parts) -> None:
    connection = await Connection.open(parts)
    for _ in range(2):
        connection.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await connection.head()).startswith(b"HTTP/1.1 204")
        await asyncio.sleep(0.5)
    assert await connection.rest() == b""


async def test_a_head_that_is_on_its_way_is_no_idle_connection(tmp_path: Path) -> None:
    async with running(tmp_path, header_timeout_s=5, idle_timeout_s=0.3) as parts:
        connection = await Connection.open(parts)
        connection.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await connection.head()).startswith(b"HTTP/1.1 204")
        connection.send(b"GET /ping HTTP/1.1\r\n")
        await asyncio.sleep(0.7)
        connection.send(b"Host: x\r\n\r\n")
        assert (await connection.head()).startswith(b"HTTP/1.1 204")
        assert await connection.rest() == b""


async def test_a_refusal_before_the_body_is_out_leaves_the_connection_for_the_next_request(tmp_path: Path) -> None:
    async with running(tmp_path, memory_bytes=1000) as parts:
        connection = await Connection.open(parts)
        for _ in range(60):
            connection.send(WRITE + b"Content-Length: 300000\r\n\r\n" + bytes(100_000))
            head = await connection.head()
            assert head.startswith(b"HTTP/1.1 503")
            assert b"Connection: close" not in head
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            await connection.reader.readexactly(length)
            connection.send(bytes(200_000) + b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await connection.head()).startswith(b"HTTP/1.1 204")
        connection.writer.close()


async def test_requests_in_a_row_on_one_connection(parts: Parts) -> None:
    connection = await Connection.open(parts)
    connection.send((WRITE + b"Content-Length: 5\r\n\r\nm v=1") * 50)
    for _ in range(50):
        assert (await connection.head()).startswith(b"HTTP/1.1 204")
    connection.send(WRITE + b"Content-Length: 5\r\n\r\nm v=1" + WRITE[:20])  # and a half one behind it
    assert (await connection.head()).startswith(b"HTTP/1.1 204")
    connection.send(WRITE[20:] + b"Content-Length: 5\r\nConnection: close\r\n\r\nm v=1")
    assert (await connection.rest()).startswith(b"HTTP/1.1 204")
    assert len(parts.ingest.writes) == 52


async def test_one_connection_too_many_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2) as parts:
        first, second = await Connection.open(parts), await Connection.open(parts)
        for connection in (first, second):
            connection.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await connection.head()).startswith(b"HTTP/1.1 204")
        third = await Connection.open(parts)
        answer = await third.rest()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1\r\n" in answer
        first.writer.close()
        async with asyncio.timeout(SOON_S):
            while True:
                fourth = await Connection.open(parts)
                fourth.send(b"GET /ping HTTP/1.0\r\n\r\n")
                if (await fourth.rest()).startswith(b"HTTP/1.0 204"):
                    break
                await asyncio.sleep(0.01)
        second.writer.close()


NO_HTTP = {
    "two lengths": WRITE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nm v=1",
    "length and chunked": WRITE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nm v=1\r\n0\r\n\r\n",
    "chunked twice": WRITE + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "odd coding": WRITE + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "blank before colon": WRITE + b"Content-Length : 5\r\n\r\nm v=1",
    "folded header": WRITE + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a header": WRITE + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "negative length": WRITE + b"Content-Length: -1\r\n\r\n",
    "length with a plus": WRITE + b"Content-Length: +5\r\n\r\nm v=1",
    "length no number": WRITE + b"Content-Length: five\r\n\r\nm v=1",
    "two hosts": WRITE + b"Host: y\r\nContent-Length: 0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "HTTP/9": b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n",
    "blank in the path": b"GET /pi ng HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_what_is_no_http_is_400_and_the_end(
    parts: Parts, name: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await Connection.open(parts)
    connection.send(NO_HTTP[name])
    answer = await connection.rest()
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.") == 1
    assert b"X-Influxdb-Version: v2.9.0" in answer
    assert not parts.ingest.writes
    captured = capsys.readouterr()
    assert "Traceback" not in caplog.text + captured.out + captured.err


async def test_a_broken_chunk_in_a_body_is_400_and_writes_nothing(parts: Parts) -> None:
    for size in (b"5", b"30D40"):  # small, and so large that it streams
        connection = await Connection.open(parts)
        connection.send(WRITE + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
        connection.send(bytes(int(size, 16)) + b"\r\nzz\r\nm v=1\r\n0\r\n\r\n")
        answer = await connection.rest()
        assert status_of(answer) == 400
    assert not parts.ingest.writes
    assert parts.gateway.budget.used_bytes == 0


@pytest.mark.parametrize("size", [60_000, 70_000, 3_000_000])
@pytest.mark.parametrize("place", ["path", "header"])
async def test_long_heads(parts: Parts, size: int, place: str) -> None:
    connection = await Connection.open(parts)
    long = b"x" * size
    path, header = (b"?a=" + long, b"") if place == "path" else (b"", b"X: " + long + b"\r\n")
    connection.send(b"GET /ping" + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n")
    answer = await connection.rest()
    # What is far too long may be met by the end of the connection before the answer is read.
    assert (not answer and size > 1_000_000) or status_of(answer) == (204 if size < 65_536 else 431)


async def test_many_headers_are_refused(parts: Parts) -> None:
    connection = await Connection.open(parts)
    connection.send(b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n")
    assert status_of(await connection.rest()) in (400, 431)


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"PROPFIND", b"MADEUP", b"get"])
@pytest.mark.parametrize("path", [b"/write?db=d", b"/ping", b"/api/v2/buckets", b"/nothing"])
async def test_odd_methods_are_405_or_404_or_ask_for_credentials(parts: Parts, method: bytes, path: bytes) -> None:
    connection = await Connection.open(parts)
    connection.send(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status_of(await connection.rest()) in (400, 401, 404, 405)


async def test_an_upgrade_is_not_taken(parts: Parts) -> None:
    connection = await Connection.open(parts)
    connection.send(
        b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await connection.rest()).startswith(b"HTTP/1.1 204")


async def test_a_slow_reader_is_cut(tmp_path: Path) -> None:
    async with running(tmp_path, send_timeout_s=0.3) as parts:

        async def pieces(_head: object) -> AsyncIterator[bytes]:
            for _ in range(2000):
                yield bytes(100_000)

        parts.query.parts = pieces
        connection = await Connection.open(parts)
        connection.send(b"GET /query?q=x HTTP/1.1\r\nHost: x\r\nAuthorization: Token good\r\n\r\n")
        async with asyncio.timeout(SOON_S):
            await parts.query.cancelled.wait()
            while parts.gateway.replicas.of("query")[0].in_flight:
                await asyncio.sleep(0.01)
        connection.writer.close()


async def test_a_stop_lets_requests_under_way_end(tmp_path: Path) -> None:
    async with running(tmp_path) as parts:
        parts.ingest.hold = asyncio.Event()
        writes = [asyncio.create_task(parts.write(body)) for body in (b"m v=1", bytes(300_000))]
        while len(parts.ingest.calls) < 2:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(parts.server.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        parts.ingest.hold.set()
        assert await asyncio.gather(*writes) == [204, 204]
        await stopping
        with pytest.raises(OSError):
            await Connection.open(parts)


async def test_a_stop_tells_clients_to_go_before_it_closes_their_connections(tmp_path: Path) -> None:
    async with running(tmp_path) as parts:
        connection = await Connection.open(parts)
        connection.send(WRITE + b"Content-Length: 5\r\n\r\nm v=1")
        assert b"Connection: close" not in await connection.head()
        stopping = asyncio.create_task(parts.server.stop())
        await asyncio.sleep(0.05)
        connection.send(WRITE + b"Content-Length: 5\r\n\r\nm v=1")
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 204")
        assert b"Connection: close" in answer
        await stopping


async def test_many_half_heads_do_not_keep_others_waiting(parts: Parts) -> None:
    half = [await Connection.open(parts) for _ in range(200)]
    for connection in half:
        connection.send(b"GET /ping HTTP/1.1\r\nX:")
    assert await parts.write() == 204
    answers = await asyncio.gather(*(connection.rest() for connection in half))
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
    assert (await parts.ask("GET", "/ping", headers=TOKEN))[0] == 204
