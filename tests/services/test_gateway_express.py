"""Writes whose head is known go the short way and can't be told from others. Pins what protocol.py rests on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.gateway_parts import ORG, Parts, running
from tests.services.test_gateway_connections import WRITE, Connection, status_of

BODY = b"m v=1 1"
REQUEST = WRITE + b"Content-Length: 7\r\n\r\n" + BODY


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path, header_timeout_s=0.3, body_timeout_s=0.3, idle_timeout_s=0.6) as parts:
        yield parts


async def open_known(parts: Parts, request: bytes = REQUEST) -> Connection:
    """A connection on which *request* has been answered once."""
    connection = await Connection.open(parts)
    connection.send(request)
    assert status_of(await connection.head()) == 204
    await asyncio.sleep(0.01)
    return connection


def headers_of(answer: bytes) -> dict[str, str]:
    lines = answer.decode().split("\r\n")[1:-2]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def short_ways(parts: Parts) -> int:
    assert parts.gateway.express is not None
    return parts.gateway.express.taken


async def test_the_second_of_equal_heads_goes_the_short_way_and_is_answered_alike(parts: Parts) -> None:
    connection = await Connection.open(parts)
    answers = []
    for body in (BODY, b"m v=2 2", b"m v=3 3"):
        connection.send(REQUEST.replace(BODY, body))
        answers.append(await connection.head())
        await asyncio.sleep(0.01)
    assert [body for _, body in parts.ingest.writes] == [BODY, b"m v=2 2", b"m v=3 3"]
    assert short_ways(parts) == 2
    long, short = headers_of(answers[0]), headers_of(answers[1])
    assert answers[0].split(b"\r\n")[0] == answers[1].split(b"\r\n")[0]
    assert long.keys() == short.keys()
    differing = {name for name in long if long[name] != short[name]}
    assert differing - {"date"} == {"x-request-id"}
    items = [item for item, _ in parts.ingest.writes]
    assert len({item["id"] for item in items}) == 3
    assert short["x-request-id"] == items[1]["id"].hex()
    assert {name: items[0][name] for name in ("params", "dialect", "encoding")} == {
        name: items[1][name] for name in ("params", "dialect", "encoding")
    }


async def test_a_refusal_is_the_same_either_way(parts: Parts) -> None:
    parts.ingest.answer = lambda _item, body: (
        {"code": "invalid", "message": "bad <line>", "retry_after_s": None, "details": {}} if b"bad" in body else None
    )
    long = await Connection.open(parts)
    bad = REQUEST.replace(BODY, b"m bad=1")
    long.send(bad)
    short = await open_known(parts)
    short.send(bad)
    answers = []
    for connection in (long, short):
        head = await connection.head()
        answers.append((headers_of(head), await connection.reader.readexactly(int(headers_of(head)["content-length"]))))
    assert answers[0][1] == answers[1][1]
    for headers, _ in answers:
        del headers["x-request-id"], headers["date"]
    assert answers[0][0] == answers[1][0]
    assert short_ways(parts) == 1


async def test_a_revoked_credential_is_refused_at_once(parts: Parts) -> None:
    connection = await open_known(parts)
    del parts.auth.known["good"]
    parts.auth.number = 2
    parts.gateway.identities.cache.drop([f"org:{ORG}"], 2)
    connection.send(REQUEST)
    assert status_of(await connection.head()) == 401
    assert len(parts.ingest.writes) == 1


@pytest.mark.parametrize(
    "other",
    [
        REQUEST.replace(b"good", b"evil"),
        REQUEST.replace(b"db=d", b"db=e"),
        REQUEST.replace(b"Host: x", b"Host: y"),
        REQUEST.replace(b"Content-Length: 7", b"Content-Length: 07"),
    ],
)
async def test_a_head_that_differs_goes_the_long_way(parts: Parts, other: bytes) -> None:
    connection = await open_known(parts)
    connection.send(other)
    assert status_of(await connection.head()) in (204, 400, 401)
    assert short_ways(parts) == 0


async def test_a_body_in_pieces_and_a_second_request_behind_it_are_read_as_ever(parts: Parts) -> None:
    connection = await open_known(parts)
    connection.send(REQUEST[:-3])
    await asyncio.sleep(0.05)
    connection.send(REQUEST[-3:])
    assert status_of(await connection.head()) == 204
    connection.send(REQUEST + REQUEST)
    assert status_of(await connection.head()) == 204
    assert status_of(await connection.head()) == 204
    assert [body for _, body in parts.ingest.writes] == [BODY] * 4


async def test_what_comes_behind_a_write_under_way_waits_for_its_answer(parts: Parts) -> None:
    connection = await open_known(parts)
    parts.ingest.hold = asyncio.Event()
    connection.send(REQUEST)
    await asyncio.sleep(0.05)
    connection.send(b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Request-Id: ping\r\n\r\n" + REQUEST)
    await asyncio.sleep(0.05)
    parts.ingest.hold.set()
    ids = [headers_of(await connection.head())["x-request-id"] for _ in range(3)]
    assert ids[1] == "ping"
    assert len(parts.ingest.writes) == 3


async def test_a_slow_write_outlives_the_idle_time_and_idle_connections_end(parts: Parts) -> None:
    connection = await open_known(parts)
    parts.ingest.hold = asyncio.Event()
    connection.send(REQUEST)
    await asyncio.sleep(0.8)
    parts.ingest.hold.set()
    assert status_of(await connection.head()) == 204
    assert await connection.rest() == b""


async def test_a_client_that_goes_away_gives_back_what_it_held(parts: Parts) -> None:
    connection = await open_known(parts)
    parts.ingest.hold = asyncio.Event()
    connection.send(REQUEST)
    await asyncio.sleep(0.05)
    assert parts.gateway.budget.used_bytes == len(BODY)
    connection.writer.close()
    await asyncio.sleep(0.05)
    assert parts.gateway.budget.used_bytes == 0
    parts.ingest.hold.set()


async def test_a_write_under_way_is_answered_though_the_gateway_stops(tmp_path: Path) -> None:
    async with running(tmp_path) as parts:
        connection = await open_known(parts)
        parts.ingest.hold = asyncio.Event()
        connection.send(REQUEST)
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_later(0.7, parts.ingest.hold.set)
    assert status_of(await connection.head()) == 204


async def test_heads_are_bounded(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.express.MAX_HEADS", 3)
    for number in range(5):
        await open_known(parts, REQUEST.replace(b"db=d", b"db=%d" % number))
    express = parts.gateway.express
    assert express is not None
    assert len(express) == 3
