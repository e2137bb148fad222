"""The gateway alone, over real HTTP: writes, queries, resources, credentials, small endpoints."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from common import log
from common.errors import Forbidden, Invalid, NotFound, Unavailable
from common.rpc.server import Reply
from services.gateway.identity import MAX_ASKING
from tests.services.gateway_parts import ORG, TOKEN, Parts, PlayedIngest, error_body, identity, running

OTHER = {"Authorization": "Token other"}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path) as parts:
        yield parts


# ---------------------------------------------------------------- writes


async def test_a_write_reaches_ingest_with_id_time_and_identity(parts: Parts) -> None:
    before_ns = time.time_ns()
    status, headers, body = await parts.ask(
        "POST", "/write?db=d&rp=r&precision=s&u=&x=1", data=b"m v=1", headers=TOKEN | {"Content-Encoding": "gzip"}
    )
    assert (status, body) == (204, b"")
    assert headers["Vary"] == "Accept-Encoding"
    assert "Content-Type" not in headers
    ((item, sent),) = parts.ingest.writes
    assert sent == b"m v=1"
    assert item["params"] == {"db": "d", "rp": "r", "precision": "s"}
    assert (item["dialect"], item["encoding"], item["size"], item["attempt"]) == ("v1", "gzip", 5, 0)
    assert before_ns <= item["now_ns"] <= time.time_ns()
    assert int.from_bytes(item["id"][:8], "big") == item["now_ns"] // 1_000_000
    assert parts.ingest.identities[item["identity"]] == identity().to_wire()


async def test_a_v2_write_keeps_its_own_parameters(parts: Parts) -> None:
    assert await parts.write(path="/api/v2/write/?org=o&orgID=i&bucket=b&precision=ms&accept_partial=true&db=d") == 204
    item, _ = parts.ingest.writes[0]
    assert item["dialect"] == "v2"
    assert set(item["params"]) == {"org", "orgID", "bucket", "precision", "accept_partial"}


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 300_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_arrive_whole_small_or_large(parts: Parts, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 50_000):
            yield body[start : start + 50_000]

    assert await parts.write(pieces() if chunked else body) == 204  # type: ignore[arg-type]
    item, sent = parts.ingest.writes[0]
    assert sent == body
    assert item["size"] == (size if size <= 65_536 else -1)


async def test_small_writes_that_arrive_during_calls_travel_together(parts: Parts) -> None:
    parts.ingest.hold = asyncio.Event()
    writes = []
    for number in range(40):
        writes.append(asyncio.create_task(parts.write(b"m v=%d" % number)))
        while number < 3 and len(parts.ingest.calls) <= number:
            await asyncio.sleep(0.005)
    while len(parts.gateway.batcher) < 37:
        await asyncio.sleep(0.005)
    parts.ingest.hold.set()
    assert set(await asyncio.gather(*writes)) == {204}
    assert len(parts.ingest.writes) == 40
    assert parts.ingest.calls == [1, 1, 1, 37]
    assert len({item["id"] for item, _ in parts.ingest.writes}) == 40


async def test_what_ingest_says_of_one_write_is_told_to_that_client_alone(parts: Parts) -> None:
    def answer(_item: dict[str, Any], body: bytes) -> dict[str, Any] | None:
        if body != b"bad":
            return None
        text = "partial write: unable to parse 'bad': missing fields dropped=0"
        return {"code": "invalid", "message": text, "retry_after_s": None, "details": {"dropped": 1}}

    parts.ingest.answer = answer
    good, bad = await asyncio.gather(parts.write(), parts.ask("POST", "/write?db=d", data=b"bad", headers=TOKEN))
    assert good == 204
    status, headers, body = bad
    assert status == 400
    assert headers["X-Platform-Error-Code"] == "invalid"
    assert headers["X-Influxdb-Error"].startswith("partial write: unable to parse")
    assert json.loads(body)["error"] == json.loads(body)["message"]
    assert "details" not in json.loads(body)


async def test_a_dead_ingest_is_passed_over_under_the_same_id(tmp_path: Path) -> None:
    async with running(tmp_path, ingests=2) as parts:
        dead, alive = parts.ingests
        await dead.service.stop()
        assert [await parts.write(b"m v=%d" % number) for number in range(10)] == [204] * 10
        assert await parts.write(bytes(200_000)) == 204
        assert len(alive.writes) == 11
        assert len({item["id"] for item, _ in alive.writes}) == 11


async def test_an_ingest_that_dies_with_a_write_in_hand_costs_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, ingests=2) as parts:
        hold = asyncio.Event()
        for ingest in parts.ingests:
            ingest.hold = hold
        writing = asyncio.create_task(parts.write())
        while not any(ingest.calls for ingest in parts.ingests):
            await asyncio.sleep(0.005)
        (dying,) = [ingest for ingest in parts.ingests if ingest.calls]
        (other,) = [ingest for ingest in parts.ingests if ingest is not dying]
        for connection in dying.service.server._runner.server.connections:  # as kill -9 would
            connection.force_close()
        while not other.calls:
            await asyncio.sleep(0.005)
        hold.set()
        assert await writing == 204
        ((item, _),) = other.writes
        assert item["attempt"] == 1


async def test_a_new_ingest_is_taken_in_and_a_listed_out_one_left_alone(parts: Parts) -> None:
    new = PlayedIngest("ingest-9")
    await new.service.start()
    try:
        parts.auth.tell({"instances": [["ingest-9", "ingest", new.service.url]]})
        while [one.instance for one in parts.gateway.replicas.of("ingest")] != ["ingest-9"]:
            await asyncio.sleep(0.005)
        assert await parts.write() == 204
        assert len(new.writes) == 1
        assert not parts.ingest.writes
    finally:
        await new.service.stop()


async def test_an_overloaded_ingest_is_asked_again_then_it_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, write_timeout_s=0.3) as parts:
        refusals = [Unavailable("out of memory budget", retry_after_s=3)] * 2
        parts.ingest.before = lambda: refusals.pop() if refusals else None
        assert await parts.write() == 204
        assert parts.ingest.writes[0][0]["attempt"] == 2
        parts.ingest.before = lambda: Unavailable("out of memory budget", retry_after_s=3)
        status, headers, body = await parts.ask("POST", "/write?db=d", data=b"m v=1", headers=TOKEN)
        assert (status, headers["Retry-After"]) == (503, "3")
        assert json.loads(body)["code"] == "unavailable"


async def test_no_ingest_at_all_is_503_in_time(tmp_path: Path) -> None:
    async with running(tmp_path, ingests=0, write_timeout_s=0.2) as parts:
        for body in (b"m v=1", bytes(200_000)):
            status, headers, _ = await parts.ask("POST", "/write?db=d", data=body, headers=TOKEN)
            assert status == 503
            assert int(headers["Retry-After"]) >= 1


async def test_an_ingest_that_hangs_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, write_timeout_s=0.2, stream_timeout_s=0.2) as parts:
        parts.ingest.hold = asyncio.Event()
        assert await parts.write() == 503
        assert await parts.write(bytes(200_000)) == 503
        parts.ingest.hold.set()


async def test_a_large_body_whose_ingest_dies_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, ingests=2) as parts:
        half = asyncio.Event()
        go_on = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield bytes(400_000)
            half.set()
            await go_on.wait()
            yield bytes(400_000)

        writing = asyncio.create_task(parts.ask("POST", "/write?db=d", data=pieces(), headers=TOKEN))
        await half.wait()
        while not any(one.streams for one in parts.gateway.replicas.of("ingest")):
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        for ingest in parts.ingests:
            for connection in ingest.service.server._runner.server.connections:
                connection.force_close()
        go_on.set()
        status, headers, _ = await writing
        assert (status, headers["Retry-After"]) == (503, "1")
        assert not any(ingest.writes for ingest in parts.ingests)
        assert [one.streams for one in parts.gateway.replicas.of("ingest")] == [0, 0]


async def test_a_client_that_leaves_in_mid_body_writes_nothing(parts: Parts) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    writer.write(b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nAuthorization: Token good\r\nContent-Length: 900000\r\n\r\n")
    writer.write(bytes(500_000))
    await writer.drain()
    while not any(one.streams for one in parts.gateway.replicas.of("ingest")):
        await asyncio.sleep(0.005)
    writer.transport.abort()
    while any(one.streams for one in parts.gateway.replicas.of("ingest")):
        await asyncio.sleep(0.005)
    assert await parts.write() == 204
    assert len(parts.ingest.writes) == 1
    assert parts.gateway.budget.used_bytes == 0


@pytest.mark.parametrize(("path", "most"), [("/write?db=d", 1000), ("/api/v2/write?bucket=b", 200_000)])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_at_the_limit(tmp_path: Path, path: str, most: int, chunked: bool) -> None:
    async with running(tmp_path, max_v1_body_bytes=1000, max_v2_body_bytes=200_000) as parts:
        for size, expected in ((most - 1, 204), (most, 204), (most + 1, 413)):

            async def pieces(size: int = size) -> AsyncIterator[bytes]:
                yield bytes(size // 2)
                yield bytes(size - size // 2)

            data = pieces() if chunked else bytes(size)
            status, _, body = await parts.ask("POST", path, data=data, headers=TOKEN)
            assert status == expected
            if status == 413:
                assert json.loads(body)["code"] == "request too large"
                assert "TIDEGATE_MAX_V" in json.loads(body)["message"]
        assert len(parts.ingest.writes) == 2
        assert parts.gateway.budget.used_bytes == 0


async def test_past_the_memory_budget_it_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, memory_bytes=100_000) as parts:
        parts.ingest.hold = asyncio.Event()
        first = asyncio.create_task(parts.write(bytes(60_000)))
        while not parts.gateway.budget.used_bytes:
            await asyncio.sleep(0.005)
        status, headers, body = await parts.ask("POST", "/write?db=d", data=bytes(60_000), headers=TOKEN)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "TIDEGATE_MEMORY_BYTES" in json.loads(body)["message"]
        parts.ingest.hold.set()
        assert await first == 204
        assert parts.gateway.budget.used_bytes == 0


async def test_an_answer_before_the_body_is_sent_invites_no_body(parts: Parts) -> None:
    head = b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
    for credential, expected in ((b"", b"HTTP/1.1 401"), (b"Authorization: Token good\r\n", b"HTTP/1.1 100")):
        reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
        writer.write(head + credential + b"\r\n")
        assert (await reader.readline()).startswith(expected)
        if credential:
            assert await reader.readline() == b"\r\n"
            writer.write(b"m v=1")
            assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        writer.close()


async def test_wrong_methods_on_write(parts: Parts) -> None:
    for path in ("/write?db=d", "/api/v2/write?bucket=b"):
        for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
            status, headers, body = await parts.ask(method, path, headers=TOKEN)
            assert (status, headers["Allow"]) == (405, "OPTIONS, POST")
            assert json.loads(body)["message"] == "allow: OPTIONS, POST"
            assert (await parts.ask(method, path))[0] == 401
    status, headers, body = await parts.ask("OPTIONS", "/write", headers=TOKEN)
    assert (status, headers["Allow"], body) == (200, "OPTIONS, POST", b"")
    assert (await parts.ask("OPTIONS", "/write"))[0] == 401
    status, _, _ = await parts.ask("GET", "/write?db=d", headers=TOKEN | {"X-HTTP-Method-Override": "POST"})
    assert status == 405


# ---------------------------------------------------------------- credentials


async def test_a_credential_is_verified_once_and_a_change_forgets_it(parts: Parts) -> None:
    assert [await parts.write() for _ in range(3)] == [204] * 3
    assert len(parts.auth.asked) == 1
    del parts.auth.known["good"]
    parts.auth.tell({"number": 2, "tags": [f"auth:{identity().credential_id}"]})
    while len(parts.gateway.identities.cache):
        await asyncio.sleep(0.005)
    assert await parts.write() == 401


async def test_an_answer_that_a_change_has_overtaken_is_asked_for_again(parts: Parts) -> None:
    parts.gateway.identities.cache.drop([f"org:{ORG}"], 5)
    parts.auth.number = 4
    writing = asyncio.create_task(parts.write())
    while len(parts.auth.asked) < 2:
        await asyncio.sleep(0.005)
    del parts.auth.known["good"]
    assert await writing == 401
    assert len(parts.gateway.identities.cache) == 0


async def test_an_answer_that_stays_behind_a_change_is_never_an_allowance(parts: Parts) -> None:
    parts.gateway.identities.cache.drop([f"org:{ORG}"], 5)
    parts.auth.number = 4
    status, headers, _ = await parts.ask("POST", "/write?db=d", data=b"m v=1", headers=TOKEN)
    assert (status, headers["Retry-After"]) == (503, "1")
    parts.auth.number = 5
    assert await parts.write() == 204


async def test_a_flood_of_passwords_holds_up_no_token(parts: Parts) -> None:
    parts.auth.hold = asyncio.Event()
    flood = [asyncio.create_task(parts.write(path=f"/write?db=d&u=u{n}&p=wrong")) for n in range(MAX_ASKING + 16)]
    while len(parts.auth.asked) < MAX_ASKING:
        await asyncio.sleep(0.005)
    assert await parts.write() == 204
    parts.auth.hold.set()
    assert set(await asyncio.gather(*flood)) == {401}


@pytest.mark.parametrize("site", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}])
async def test_another_site_cannot_make_a_browser_set_the_server_up(parts: Parts, site: dict[str, str]) -> None:
    for path in ("/api/v2/setup", "/api/v2/setup/"):
        status, _, body = await parts.ask("POST", path, data=b"{}", headers=site)
        assert (status, error_body(body)["code"]) == (403, "forbidden")
        assert (await parts.ask("GET", path, headers=site))[0] == 200
    assert [head["method"] for head, _ in parts.auth.rest] == ["GET", "GET"]
    for own in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": parts.url}):
        assert (await parts.ask("POST", "/api/v2/setup", data=b"{}", headers=own))[0] == 200


async def test_a_refusal_is_asked_each_time(parts: Parts) -> None:
    for _ in range(2):
        assert await parts.write(headers={"Authorization": "Token bad"}) == 401
    assert len(parts.auth.asked) == 2


async def test_an_expired_credential_is_not_served_from_memory(parts: Parts) -> None:
    parts.auth.known["good"] = identity(expires_ms=1)
    for _ in range(2):
        await parts.write()
    assert len(parts.auth.asked) == 2


async def test_many_requests_with_one_new_credential_ask_once(parts: Parts) -> None:
    assert set(await asyncio.gather(*(parts.write() for _ in range(20)))) == {204}
    assert len(parts.auth.asked) == 1


async def test_no_secret_is_kept(parts: Parts) -> None:
    await parts.write()
    assert "good" not in repr(vars(parts.gateway.identities)) + repr(list(parts.gateway.identities.cache._entries))


async def test_with_auth_down_the_known_are_served_and_the_unknown_get_503(parts: Parts) -> None:
    assert await parts.write() == 204
    await parts.auth.stop()
    assert await parts.write() == 204
    status, headers, _ = await parts.ask("POST", "/write?db=d", data=b"m v=1", headers=OTHER)
    assert (status, headers["Retry-After"]) == (503, "1")


async def test_each_use_of_a_session_is_seen_by_auth(parts: Parts) -> None:
    for _ in range(2):
        status, _, _ = await parts.ask("GET", "/api/v2/me", headers={"Cookie": "influxdb-oss-session=good"})
        assert status == 200
    assert [head["scheme"] for head in parts.auth.asked] == ["session", "session"]


async def test_v1_refusals(parts: Parts) -> None:
    for path in ("/write?db=d", "/query?q=x", "/query/?q=x"):
        status, headers, body = await parts.ask("POST", path)
        assert status == 401
        assert json.loads(body) == dict.fromkeys(("message", "error"), "unauthorized access") | {"code": "unauthorized"}
        assert headers["WWW-Authenticate"] == 'Basic realm="InfluxDB"'
        assert headers["X-Platform-Error-Code"] == "unauthorized"
        assert "Vary" not in headers
    _, _, body = await parts.ask("POST", "/write?db=d&u=a&p=b")
    assert json.loads(body)["message"] == "Unauthorized"


async def test_u_and_p_in_a_form_body_are_no_credentials(parts: Parts) -> None:
    status, _, _ = await parts.ask("POST", "/query", data={"q": "SHOW DATABASES", "u": "a", "p": "good"})
    assert status == 401
    status, _, _ = await parts.ask("POST", "/query?u=a&p=good", data={"q": "SHOW DATABASES"})
    assert status == 200


async def test_forged_inner_headers_change_nothing(parts: Parts) -> None:
    forged = {
        "X-Tidegate-Call": "1 gateway 99999999999999 00 00",
        "X-Tidegate-Head": "10",
        "X-Internal-Identity": "admin",
        "X-Forwarded-For": "10.0.0.1",
        "Connection": "Authorization, X-Internal-Identity, keep-alive",
        "Proxy-Authorization": "Basic xx",
        "TE": "trailers",
    }
    assert await parts.write(headers=forged) == 204
    assert parts.ingest.identities == [identity().to_wire()]
    assert parts.auth.asked[0]["remote"] == "127.0.0.1"
    status, _, _ = await parts.ask("POST", "/rpc/ingest.write", data=b"x", headers=forged | TOKEN)
    assert status == 404
    await parts.ask("GET", "/api/v2/me", headers=forged | TOKEN)
    head, _ = parts.auth.rest[0]
    assert set(head["headers"]) <= {"accept", "content-type", "origin"}
    assert "admin" not in repr(parts.auth.rest)


async def test_a_trusted_proxy_is_believed(tmp_path: Path) -> None:
    async with running(tmp_path, trusted_proxies="127.0.0.0/8, 10.0.0.0/8") as parts:
        await parts.write(headers={"X-Forwarded-For": "1.1.1.1, 2.2.2.2, 10.0.0.9"})
        assert parts.auth.asked[0]["remote"] == "2.2.2.2"


# ---------------------------------------------------------------- queries


async def test_query_parameters_stand_in_the_url_or_the_body(parts: Parts) -> None:
    async def ask(method: str, path: str, **more: Any) -> dict[str, str]:
        status, _, body = await parts.ask(method, path, **({"headers": TOKEN} | more))
        assert status == 200, body
        params: dict[str, str] = parts.query.heads[-1]["params"]
        return params

    url = "/query?db=d&q=SELECT+1&epoch=ms&org=x&u=&p="
    expected = {"db": "d", "q": "SELECT 1", "epoch": "ms"}
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"):
        assert await ask(method, url) == expected
    form = {"q": "SELECT 2", "chunked": "true"}
    assert await ask("POST", url, data=form) == expected | form
    assert await ask("GET", url, data=form) == expected  # only methods with a body have a form
    multipart = aiohttp.FormData(form)
    multipart.add_field("db", "e", content_type="text/plain")
    assert await ask("POST", url, data=multipart) == expected | form | {"db": "e"}
    influxql = TOKEN | {"Content-Type": "application/vnd.influxql"}
    assert await ask("POST", "/query?db=d", data=b"SELECT 3", headers=influxql) == {"db": "d", "q": "SELECT 3"}
    packed = TOKEN | {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
    assert await ask("POST", "/query?db=d", data=gzip.compress(b"q=SELECT+4"), headers=packed) == {
        "db": "d",
        "q": "SELECT 4",
    }
    assert await ask("POST", "/query?db=d&q=x", data=b"", headers=packed) == {"db": "d", "q": "x"}
    assert await ask("GET", url, headers=TOKEN | {"Content-Encoding": "gzip"}) == expected


async def test_query_refuses_what_it_cannot_read(parts: Parts) -> None:
    packed = TOKEN | {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
    body = gzip.compress(b"q=SELECT+4")
    for spoiled in (body[:-1], body[:5], b"junk", body + b"junk"):
        status, _, answer = await parts.ask("POST", "/query?q=x", data=spoiled, headers=packed)
        assert (status, json.loads(answer)["code"]) == (400, "invalid")
    for path in ("/query", "/query?q=", "/query?q=+&db=d"):
        status, _, answer = await parts.ask("GET", path, headers=TOKEN)
        assert (status, json.loads(answer)["message"]) == (400, 'missing required parameter "q"')
    assert (await parts.ask("TRACE", "/query?q=x", headers=TOKEN))[0] == 405
    assert (await parts.ask("OPTIONS", "/query?q=x"))[0] == 401
    assert (await parts.ask("OPTIONS", "/query?q=x", headers=TOKEN))[0] == 200
    assert not parts.query.heads


async def test_a_form_past_its_bound_is_413(tmp_path: Path) -> None:
    async with running(tmp_path, query_max_body_bytes=10_000) as parts:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        for data, more in ((b"q=" + b"x" * 9_999, {}), (gzip.compress(bytes(100_000)), {"Content-Encoding": "gzip"})):
            status, _, _ = await parts.ask("POST", "/query", data=data, headers=TOKEN | kind | more)
            assert status == 413
        assert parts.gateway.budget.used_bytes == 0


async def test_errors_of_a_query_come_in_v1_dress(parts: Parts) -> None:
    parts.query.error = Invalid("failed to parse query: found x")
    status, headers, _ = await parts.ask("GET", "/query?q=x", headers=TOKEN)
    assert (status, headers["X-Influxdb-Error"]) == (400, "failed to parse query: found x")
    assert headers["Vary"] == "Accept-Encoding"
    parts.query.error = Forbidden("no")
    assert (await parts.ask("GET", "/query?q=x", headers=TOKEN))[0] == 403


async def test_parts_leave_as_they_come(parts: Parts) -> None:
    go_on = asyncio.Event()

    async def pieces(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        yield b'{"results":[1]}\n'
        await go_on.wait()
        yield b'{"results":[2]}\n'

    parts.query.parts = pieces
    for encoding in ("identity", "gzip"):
        go_on.clear()
        headers = TOKEN | {"Accept-Encoding": encoding}
        async with parts.request("GET", "/query?q=x&chunked=true", headers=headers) as response:
            first = await response.content.readany()
            if encoding == "identity":
                assert first == b'{"results":[1]}\n'
            go_on.set()
            whole = first + await response.read()
            if encoding == "gzip":
                whole = gzip.decompress(whole)
            assert whole == b'{"results":[1]}\n{"results":[2]}\n'


@pytest.mark.parametrize("encoding", ["gzip", "deflate, gzip;q=0.5", "*"])
async def test_answers_are_gzipped_from_1400_bytes_on(parts: Parts, encoding: str) -> None:
    size = 0

    async def pieces(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield b"x" * min(100_000, size - start)

    parts.query.parts = pieces
    for size in (0, 200, 1399, 1400, 100_000, 1_000_000):
        status, headers, body = await parts.ask("GET", "/query?q=x", headers=TOKEN | {"Accept-Encoding": encoding})
        assert status == 200
        assert (headers.get("Content-Encoding") == "gzip") == (size >= 1400)
        assert len(gzip.decompress(body) if size >= 1400 else body) == size
    for refused in ("identity", "gzip;q=0", "br"):
        _, headers, body = await parts.ask("GET", "/query?q=x", headers=TOKEN | {"Accept-Encoding": refused})
        assert "Content-Encoding" not in headers
        assert len(body) == size


@pytest.mark.parametrize("size", [0, 1399, 1400, 20_000, 60_000])
async def test_an_answer_that_is_all_there_says_how_long_it_is(parts: Parts, size: int) -> None:
    async def pieces(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        yield b"x" * (size // 3)
        yield b"y" * (size - size // 3)

    parts.query.parts, parts.query.whole = pieces, True
    wanted = b"x" * (size // 3) + b"y" * (size - size // 3)
    for _ in range(3):  # of equal questions the later ones go the short way
        for encoding in ("identity", "gzip"):
            headers = TOKEN | {"Accept-Encoding": encoding}
            status, headers, body = await parts.ask("GET", "/query?q=x", headers=headers)
            gzipped = encoding == "gzip" and size >= 1400
            assert (status, headers.get("Content-Encoding")) == (200, "gzip" if gzipped else None)
            assert headers["Content-Length"] == str(len(body))
            assert (gzip.decompress(body) if gzipped else body) == wanted
        headers = TOKEN | {"Accept-Encoding": "identity"}
        assert (await parts.ask("GET", "/query?q=x&chunked=true", headers=headers))[2] == wanted
    status, headers, body = await parts.ask("HEAD", "/query?q=x", headers=TOKEN)
    assert (status, body) == (200, b"")


async def test_a_failure_in_mid_stream_breaks_the_connection(parts: Parts) -> None:
    async def pieces(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        yield b"x" * 5000
        raise RuntimeError("in mid-stream")

    parts.query.parts = pieces
    for encoding in ("identity", "gzip"):
        with pytest.raises(aiohttp.ClientError):
            await parts.ask("GET", "/query?q=x", headers=TOKEN | {"Accept-Encoding": encoding})
    reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    writer.write(b"GET /query?q=x HTTP/1.0\r\nAuthorization: Token good\r\n\r\n")
    with pytest.raises(ConnectionResetError):  # there the end of the connection would look like the end of the answer
        await reader.read()
        await reader.read()
    writer.close()


async def test_a_client_that_leaves_ends_its_query(parts: Parts) -> None:
    async def pieces(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 2000
            await asyncio.sleep(0.01)

    parts.query.parts = pieces
    async with parts.request("GET", "/query?q=x", headers=TOKEN | {"Accept-Encoding": "identity"}) as response:
        await response.content.readany()
        response.close()
    async with asyncio.timeout(2):
        await parts.query.cancelled.wait()
    assert parts.gateway.replicas.of("query")[0].in_flight == 0


async def test_head_runs_the_query_and_shows_no_body(parts: Parts) -> None:
    async def pieces(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 2000

    parts.query.parts = pieces
    for _ in range(2):
        status, headers, body = await parts.ask("HEAD", "/query?q=x", headers=TOKEN)
        assert (status, headers["Content-Type"], body) == (200, "application/json", b"")
    assert await parts.write() == 204


async def test_queries_under_way_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, max_queries=1) as parts:
        go_on = asyncio.Event()

        async def pieces(_head: dict[str, Any]) -> AsyncIterator[bytes]:
            await go_on.wait()
            yield b"{}"

        parts.query.parts = pieces
        first = asyncio.create_task(parts.ask("GET", "/query?q=x", headers=TOKEN))
        while not parts.query.heads:
            await asyncio.sleep(0.005)
        status, headers, body = await parts.ask("GET", "/query?q=x", headers=TOKEN)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "TIDEGATE_MAX_QUERIES" in json.loads(body)["message"]
        go_on.set()
        assert (await first)[0] == 200


# ---------------------------------------------------------------- resources


async def test_a_resource_request_is_handed_to_auth(parts: Parts) -> None:
    parts.auth.rest_answer = lambda _head, body: Reply(
        {"status": 201, "headers": [["Content-Type", "application/json; charset=utf-8"], ["Server", "x"]]}, [body]
    )
    status, headers, body = await parts.ask(
        "POST", "/api/v2/buckets?a=1&a=2&b=%20", data=b'{"n":1}', headers=TOKEN | {"Content-Type": "application/json"}
    )
    assert (status, body) == (201, b'{"n":1}')
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Server"] == "Tidegate"
    head, sent = parts.auth.rest[0]
    assert sent == b'{"n":1}'
    assert head["query"] == [["a", "1"], ["a", "2"], ["b", " "]]
    assert head["headers"]["content-type"] == "application/json"
    assert head["identity"] == identity().to_wire()
    assert (head["method"], head["path"], head["secret"]) == ("POST", "/api/v2/buckets", "")


async def test_what_an_answer_tells_of_its_changes_is_forgotten_before_it_is_given(parts: Parts) -> None:
    """The feed is silent here: it may be slower than the answer."""

    async def asked_after(change: Callable[[list[Any]], Awaitable[Any]]) -> int:
        for _ in range(2):
            await parts.ask("GET", "/api/v2/buckets", headers=TOKEN)
        before = len(parts.auth.asked)
        parts.auth.number += 1
        await change([[[f"auth:{identity().credential_id}"], parts.auth.number]])
        await parts.ask("GET", "/api/v2/buckets", headers=TOKEN)
        return len(parts.auth.asked) - before

    async def rest(changes: list[Any]) -> None:
        parts.auth.rest_answer = lambda _head, body: Reply({"status": 200, "headers": [], "changes": changes}, [body])
        await parts.ask("PATCH", "/api/v2/authorizations/1", data=b"{}", headers=TOKEN)
        parts.auth.rest_answer = lambda _head, body: Reply({"status": 200, "headers": []}, [body])

    async def statement(changes: list[Any]) -> None:
        parts.query.changes = changes
        await parts.ask("POST", "/query?q=SET+PASSWORD", headers=TOKEN)

    assert await asked_after(rest) == 1
    # Asked once for the statement itself, whose path has a memory of its own for the same token.
    assert await asked_after(statement) == 2


async def test_resource_errors_are_indented_and_authentication_is_not(parts: Parts) -> None:
    def refuse(_head: dict[str, Any], _body: bytes) -> Reply:
        raise NotFound("path not found")

    parts.auth.rest_answer = refuse
    status, headers, body = await parts.ask("GET", "/api/v2/nothing", headers=TOKEN)
    assert (status, body) == (404, b'{\n\t"code": "not found",\n\t"message": "path not found"\n}')
    _, _, body = await parts.ask("GET", "/api/v2/variables/x", headers=TOKEN)
    assert body == b'{"code":"not found","message":"path not found"}'
    status, headers, body = await parts.ask("GET", "/api/v2/nothing")
    assert (status, body) == (401, b'{"code":"unauthorized","message":"unauthorized access"}')
    assert "WWW-Authenticate" not in headers


async def test_what_needs_no_credentials(parts: Parts) -> None:
    for method, path in (("GET", "/api/v2"), ("GET", "/api/v2/setup"), ("POST", "/api/v2/setup")):
        assert (await parts.ask(method, path))[0] == 200
        assert parts.auth.rest[-1][0]["identity"] is None
    for method, path in (("HEAD", "/api/v2"), ("GET", "/api/v2/"), ("GET", "/api/v2/signin"), ("GET", "/v1/x")):
        assert (await parts.ask(method, path))[0] == 401
    basic = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
    await parts.ask("POST", "/api/v2/signin", headers=basic)
    head = parts.auth.rest[-1][0]
    assert (head["scheme"], head["user"], head["secret"]) == ("basic", "ann", "secret")
    await parts.ask("POST", "/api/v2/signout", headers={"Cookie": "influxdb-oss-session=key"})
    head = parts.auth.rest[-1][0]
    assert (head["scheme"], head["secret"]) == ("session", "key")
    await parts.ask("PUT", "/api/v2/me/password", headers=basic | {"Cookie": "influxdb-oss-session=good"})
    head = parts.auth.rest[-1][0]
    assert (head["scheme"], head["secret"]) == ("basic", "secret")
    assert head["identity"] == identity().to_wire()
    assert (await parts.ask("PUT", "/api/v2/me/password", headers=basic))[0] == 401


async def test_each_cookie_of_an_answer_arrives(parts: Parts) -> None:
    headers = [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]]
    parts.auth.rest_answer = lambda _head, _body: Reply({"status": 204, "headers": headers}, [b""])
    status, got, body = await parts.ask("POST", "/api/v2/signin")
    assert (status, got.getall("Set-Cookie"), body) == (204, ["a=1", "b=2"], b"")


async def test_a_cookie_of_a_client_that_speaks_tls_is_secure(tmp_path: Path) -> None:
    for trusted, ending in (("127.0.0.1", "; Secure"), ("", "")):
        async with running(tmp_path, trusted_proxies=trusted) as parts:
            headers = [["Set-Cookie", "a=1; HttpOnly"]]
            parts.auth.rest_answer = lambda _head, _body, headers=headers: Reply(  # type: ignore[misc]
                {"status": 204, "headers": headers}, [b""]
            )
            _, got, _ = await parts.ask("POST", "/api/v2/signin", headers={"X-Forwarded-Proto": "https"})
            assert got["Set-Cookie"] == "a=1; HttpOnly" + ending


async def test_what_is_not_served_yet_says_so(parts: Parts) -> None:
    for path in ("/api/v2/query",):
        assert (await parts.ask("POST", path))[0] == 401
        status, _, body = await parts.ask("POST", path, headers=TOKEN)
        assert (status, json.loads(body)["code"]) == (501, "not implemented")
        status, headers, _ = await parts.ask("GET", path, headers=TOKEN)
        assert (status, headers["Allow"]) == (405, "OPTIONS, POST")


async def test_cross_origin(parts: Parts) -> None:
    for origin in ("https://evil.example", "null"):
        for method, path in (("OPTIONS", "/api/v2/write"), ("GET", "/api/v2/me"), ("GET", "/api/v2/nothing")):
            _, headers, _ = await parts.ask(method, path, headers={"Origin": origin})
            assert headers["Access-Control-Allow-Origin"] == origin
            assert "Access-Control-Allow-Credentials" not in headers
    status, headers, _ = await parts.ask("OPTIONS", "/api/v2/buckets", headers={"Origin": "http://a"})
    assert status == 204
    assert headers["Access-Control-Allow-Methods"] == "POST, GET, OPTIONS, PUT, DELETE, PATCH"
    assert headers["Access-Control-Allow-Headers"].startswith("Accept, Content-Type, ")
    status, headers, body = await parts.ask("OPTIONS", "/api/v2/buckets")
    assert (status, body) == (405, b"")
    for path in ("/query?q=x", "/write?db=d", "/ping"):
        _, headers, _ = await parts.ask("POST", path, headers=TOKEN | {"Origin": "http://a"})
        assert "Access-Control-Allow-Origin" not in headers


async def test_odd_urls_get_a_clear_answer(parts: Parts) -> None:
    odd = ["/api/v2/%00", "/api/v2/%2e%2e/x", "/api/v2/%252e", "/%2fwrite", "/..%2f", "//", "/api/v2/buckets?%00=%00"]
    odd += ["/query?q=%FF", "/query?db=a&db=b&q=x", "/write?db=%zz", "/%zz", "/api/v2/%", "/query?" + "x=1&" * 2000]
    for path in odd:
        for method in ("GET", "POST"):
            status, _, _ = await parts.ask(method, path, headers=TOKEN)
            assert status < 500, path
    status, _, _ = await parts.ask("GET", "/query?q=" + "x" * 60_000, headers=TOKEN)
    assert status == 200


# ---------------------------------------------------------------- small endpoints


async def test_ping(parts: Parts) -> None:
    for method, path in (("GET", "/ping"), ("HEAD", "/ping"), ("GET", "/ping/?verbose=true&wait_for_leader=1s")):
        status, headers, body = await parts.ask(method, path, headers={"Authorization": "Token bad"})
        assert (status, body) == (204, b"")
        assert (headers["X-Influxdb-Version"], headers["X-Influxdb-Build"]) == ("v2.9.0", "OSS")
        assert "Content-Type" not in headers
    status, headers, _ = await parts.ask("OPTIONS", "/ping")
    assert (status, headers["Allow"]) == (200, "GET, HEAD, OPTIONS")
    status, headers, body = await parts.ask("POST", "/ping")
    assert (status, headers["Allow"], body) == (405, "GET, HEAD, OPTIONS", b"Method Not Allowed\n")


async def test_every_answer_says_version_build_and_request_id(parts: Parts) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/query?q=x"),
        ("POST", "/write"),
        ("GET", "/api/v2/x"),
        ("GET", "/ready"),
    ):
        _, headers, _ = await parts.ask(method, path)
        assert (headers["X-Influxdb-Version"], headers["X-Influxdb-Build"]) == ("v2.9.0", "OSS")
        assert headers["X-Tidegate-Version"]
        assert len(headers["X-Request-Id"]) == 32
        assert "aiohttp" not in headers.get("Server", "")
    _, headers, _ = await parts.ask("GET", "/ping", headers={"X-Request-Id": "mine-1"})
    assert headers["X-Request-Id"] == "mine-1"
    _, headers, _ = await parts.ask("GET", "/ping", headers={"X-Request-Id": "a b<"})
    assert len(headers["X-Request-Id"]) == 32


async def test_health_and_ready_name_the_part_that_is_not_well(parts: Parts) -> None:
    status, headers, body = await parts.ask("GET", "/health")
    assert status == 200
    state = json.loads(body)
    assert (state["name"], state["status"], state["checks"], state["version"]) == ("influxdb", "pass", [], "v2.9.0")
    assert body.endswith(b"\n")
    status, _, body = await parts.ask("GET", "/ready")
    state = json.loads(body)
    assert (status, state["status"]) == (200, "ready")
    assert set(state["services"]) == {"gateway", "auth", "ingest", "query", "storage"}
    assert b'\n    "status": "ready"' in body

    parts.storage.state = {"status": "starting", "reason": "recovering"}
    await asyncio.sleep(0.3)
    status, headers, body = await parts.ask("GET", "/ready")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "recovering" in json.loads(body)["services"]["storage"]["storage"]
    status, _, body = await parts.ask("GET", "/health")
    assert status == 200
    assert json.loads(body)["checks"][0]["name"] == "storage"
    assert "127.0.0.1" not in body.decode()


async def test_ready_without_an_ingest_is_503_and_one_dead_of_two_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, ingests=2) as parts:
        await parts.ingests[0].service.stop()
        status, _, body = await parts.ask("GET", "/ready")
        assert status == 200
        assert json.loads(body)["services"]["ingest"]["ingest-0"] != "ready"
        parts.auth.tell({"instances": [["query-0", "query", parts.query.service.url]]})
        await asyncio.sleep(0.3)
        status, _, body = await parts.ask("GET", "/ready")
        assert status == 503
        assert json.loads(body)["services"]["ingest"] == {"ingest": "no instance is running"}


async def test_metrics_of_the_whole(parts: Parts) -> None:
    await parts.write()
    await parts.ask("GET", "/api/v2/buckets/0123456789abcdef", headers=TOKEN | {"User-Agent": "Telegraf/1.2"})
    status, headers, body = await parts.ask("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("http_api_requests_total{") and "Telegraf" in line]
    for label in ('path="/api/v2/buckets/:id"', 'status="2XX"', 'response_code="200"', 'method="GET"'):
        assert label in line
    assert "http_api_request_duration_seconds_bucket{" in text
    for instance in ('service="ingest",instance="ingest-0"', 'service="auth",instance="auth"'):
        assert f"tidegate_up{{{instance}}} 1" in text
    assert text.count("# TYPE process_cpu_seconds_total counter") == 1
    await parts.query.service.stop()
    _, _, body = await parts.ask("GET", "/metrics")
    assert 'tidegate_up{service="query",instance="query-0"} 0' in body.decode()


async def test_metrics_may_be_switched_off(tmp_path: Path) -> None:
    async with running(tmp_path, metrics=False) as parts:
        status, _, body = await parts.ask("GET", "/metrics")
        assert (status, json.loads(body)["message"]) == (403, "metrics disabled")


async def test_the_access_log_shows_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("gateway", "gateway-test", "info", "json")
    async with running(tmp_path, access_log="all") as parts:
        await parts.ask("GET", "/query?db=mydb&u=ann&p=SECRET1&q=SECRET2&access_token=SECRET3&x=SECRET4")
        await parts.ask("GET", "/ping", headers={"Authorization": "Token SECRET5", "User-Agent": 'a"b'})
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    lines = capsys.readouterr().err
    assert '"db": "mydb"' in lines
    assert "SECRET" not in lines
    assert "ann" not in lines
    assert all(json.loads(line) for line in lines.splitlines() if '"part": "access"' in line)


async def test_a_fault_of_ours_is_500_without_details(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def explode(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(parts.gateway.identities, "verify", explode)
    status, _, body = await parts.ask("POST", "/write?db=d", data=b"m v=1", headers=TOKEN)
    assert status == 500
    text = "An internal error has occurred - check server logs"
    assert json.loads(body) == {"code": "internal error", "message": text, "error": text}
    assert b"secret" not in body
