"""Questions whose head is known go the short way and can't be told from others. Pins what protocol.py rests on."""

from __future__ import annotations

import asyncio
import base64
import random
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from common.errors import InfluxError, Invalid, NotFound, Unavailable
from services.gateway.app import GUARD
from services.gateway.short_questions import ShortQuestions
from tests.services.gateway_parts import ORG, Parts, identity, running
from tests.services.test_gateway_connections import Connection

TOKEN = "Authorization: Token good"
BASIC = "Authorization: Basic " + base64.b64encode(b"someone:good").decode()
FORM = "Content-Type: application/x-www-form-urlencoded"
NEWS = {"date", "x-request-id"}
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path, idle_timeout_s=2.0, send_timeout_s=2.0) as parts:
        yield parts


def get(query: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} /query{query} HTTP/1.1", "Host: x", *lines, "", "")).encode("utf-8")


def post(body: bytes, *lines: str, query: str = "") -> bytes:
    return get(query, *lines, f"Content-Length: {len(body)}", method="POST") + body


def ask(text: str = "SHOW DATABASES", *lines: str, **params: str) -> bytes:
    return get("?" + urlencode({"db": "d", "q": text, **params}), *(lines or (TOKEN,)))


def taken(parts: Parts) -> int:
    questions = parts.app[GUARD].questions
    assert isinstance(questions, ShortQuestions)
    return questions.taken


async def read_answer(connection: Connection, *, without_body: bool = False) -> Answer:
    """Status, headers and body as it came, its chunks put together."""
    first, *lines = (await connection.head()).decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert len(headers) == len(lines)
    body = b""
    async with asyncio.timeout(5):
        if without_body:
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await connection.reader.readuntil(b"\r\n"), 16):
                body += (await connection.reader.readexactly(size + 2))[:-2]
            assert await connection.reader.readexactly(2) == b"\r\n"
        else:
            body = await connection.reader.readexactly(int(headers["content-length"]))
    return int(first.split(" ")[1]), headers, body


async def ask_on(connection: Connection, request: bytes) -> Answer:
    connection.send(request)
    answer = await read_answer(connection, without_body=request.startswith(b"HEAD"))
    await asyncio.sleep(0.005)
    return answer


def alike(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    status, headers, body = answer
    return status, {name: value for name, value in headers.items() if name not in NEWS}, body


def play(parts: Parts, *, whole: bool = False) -> None:
    """Let query answer as the text says: so many parts of so many bytes, or an error."""
    parts.auth.known["pass word"] = identity(name="3")
    parts.query.whole = whole

    async def answer(head: dict[str, Any]) -> AsyncIterator[bytes]:
        echo = repr((head["params"], head["accept"], head["remote"], head["identity"])).encode() + b"\n"
        count, _, size = head["params"]["q"].rpartition(" ")[2].partition("x")
        yield echo
        for _ in range(int(count) if count.isdecimal() else 0):
            yield echo[:1] * int(size or 1)

    parts.query.parts = answer


async def test_the_second_of_equal_heads_goes_the_short_way_whatever_it_asks(parts: Parts) -> None:
    play(parts)
    connection = await Connection.open(parts)
    texts = ["SHOW DATABASES", "SELECT f FROM m", "SELECT g FROM m WHERE a = 'ü'"]
    answers = [await ask_on(connection, ask(text)) for text in texts]
    assert taken(parts) == 2
    assert [head["params"] for head in parts.query.heads] == [{"q": text, "db": "d"} for text in texts]
    assert len({headers["x-request-id"] for _, headers, _ in answers}) == 3
    assert [headers["x-request-id"] for _, headers, _ in answers] == [one["request_id"] for one in parts.query.heads]


def some_requests() -> list[bytes]:
    """Requests of every form that a client may send, drawn with a fixed seed."""
    rng = random.Random(6)
    requests = []
    for _ in range(150):
        text = rng.choice(["SHOW DATABASES", "SELECT f FROM m", "DROP DATABASE d", "", " ", "one 1x10", "two 2x1000"])
        params = {"q": text, **({"db": "d"} if rng.random() < 0.7 else {})}
        for name, values in (
            ("chunked", ("true", "false")), ("pretty", ("true",)), ("epoch", ("ns", "s", "q")), ("rp", ("r",)),
            ("chunk_size", ("5", "x")), ("params", ('{"a":1}',)), ("other", ("z",)), ("u", ("someone", "")),
            ("p", ("good", "evil", "pass word", "")),
        ):  # fmt: skip
            if rng.random() < 0.25:
                params[name] = rng.choice(values)
        lines = [
            rng.choice([TOKEN, TOKEN, TOKEN, BASIC, "Authorization: Token evil", "Authorization: Bearer good", "A: b"])
        ]
        lines += rng.sample(
            [
                "Accept: application/csv", "Accept-Encoding: gzip, deflate", "Accept-Encoding: gzip;q=0",
                "X-Request-Id: mine", "X-Request-Id: \tno id!", "User-Agent: curl/8", "Origin: http://elsewhere",
                "Cookie: influxdb-oss-session=abc", "X-Forwarded-For: 10.0.0.1", "Connection: keep-alive",
            ],
            rng.randrange(4),
        )  # fmt: skip
        encoded = urlencode(params) + rng.choice(["", "", "", "&a=%zz", "&b;c", "&q=again", "&&=", '&r=["<>\\^`{|}]'])
        requests += rng.choice([[get("?" + encoded, *lines)]] * 2 + [[post(encoded.encode(), FORM, *lines)]])
    form = urlencode({"q": "SELECT f FROM m", "db": "e", "chunked": "true"}).encode()
    requests += [
        get("", TOKEN), get("?", TOKEN), get("/?q=a", TOKEN), get("?q=a#b", TOKEN), get("?q=a", method="HEAD"),
        get("?q=a", TOKEN, method="HEAD"), get("?q=a+3x900", TOKEN, method="HEAD"),
        get("?q=a", TOKEN, method="OPTIONS"), get("?q=a", TOKEN, method="DELETE"),
        get("?q=a", TOKEN, "Content-Length: 0"), post(b"", TOKEN, query="?q=a"),
        post(form, TOKEN, FORM, query="?q=b&db=d&epoch=s"), post(form, FORM, query="?q=b&u=someone&p=good"),
        post(form + b"&u=someone&p=good", FORM), post(b"SELECT 1", TOKEN, "Content-Type: application/vnd.influxql"),
        post(form, TOKEN), post(b"x", TOKEN, "Content-Type: multipart/form-data"),
        post(b'--b\r\nContent-Disposition: form-data; name="q"\r\n\r\nSHOW X\r\n--b--', TOKEN,
             "Content-Type: multipart/form-data; boundary=b"),
        post(zlib.compress(form, wbits=31), TOKEN, FORM, "Content-Encoding: gzip"),
        post(form, TOKEN, FORM, "Content-Encoding: gzip"), get("?q=a&x=" + "y" * 5000, TOKEN),
        get("?" + "&".join("a=b" for _ in range(1001)), TOKEN), get("?" + "q=a&" * 3, TOKEN, "Expect: 100-weird"),
    ]  # fmt: skip
    return requests


@pytest.mark.parametrize("whole", [False, True])
async def test_whatever_is_asked_is_answered_alike_either_way(parts: Parts, whole: bool) -> None:
    play(parts, whole=whole)
    short = 0
    for number, request in enumerate(some_requests()):
        request = request.replace(b"Host: x", b"Host: %d" % number, 1)  # a head that is new
        connection = await Connection.open(parts)
        long = await ask_on(connection, request)
        before = taken(parts)
        if long[1].get("connection") == "close":
            continue
        again = await ask_on(connection, request)
        short += taken(parts) - before
        assert alike(long) == alike(again), request
        if long[0] == 200 and not request.startswith(b"OPTIONS"):
            *_, one, other = parts.query.heads
            own = {"now_ns", "request_id"}
            assert {n: one[n] for n in one if n not in own} == {n: other[n] for n in other if n not in own}
        connection.writer.close()
    # Refused ones, HEAD and gzipped bodies go the long way: most do not.
    assert short > 60


@pytest.mark.parametrize(
    "error", [Invalid("bad <text>"), NotFound("no database"), Unavailable("later"), ValueError("x")]
)
async def test_a_refusal_is_the_same_either_way(parts: Parts, error: InfluxError) -> None:
    connection = await Connection.open(parts)
    parts.query.error = error
    long = await ask_on(connection, ask())
    parts.query.error = None
    await ask_on(connection, ask())
    parts.query.error = error
    before = taken(parts)
    short = await ask_on(connection, ask())
    assert taken(parts) == before + 1
    assert alike(long) == alike(short)
    assert long[0] >= 400


async def test_a_revoked_credential_is_refused_at_once(parts: Parts) -> None:
    connection = await Connection.open(parts)
    for _ in range(2):
        assert (await ask_on(connection, ask()))[0] == 200
    del parts.auth.known["good"]
    parts.auth.number = 2
    parts.gateway.identities.cache.drop([f"org:{ORG}"], 2)
    assert (await ask_on(connection, ask()))[0] == 401
    assert len(parts.query.heads) == 2


async def test_a_wrong_password_in_the_url_counts_before_a_good_header(parts: Parts) -> None:
    connection = await Connection.open(parts)
    for _ in range(2):
        assert (await ask_on(connection, ask()))[0] == 200
    assert (await ask_on(connection, ask("SHOW DATABASES", TOKEN, u="someone", p="evil")))[0] == 401


async def test_what_comes_in_pieces_or_together_is_answered_in_order(parts: Parts) -> None:
    play(parts)
    connection = await Connection.open(parts)
    await ask_on(connection, ask())
    texts = ["a 3x1000", "b", "c 2x700", "d"]
    connection.send(b"".join(map(ask, texts)))
    bodies = [(await read_answer(connection))[2] for _ in texts]
    assert [text.encode() in body for text, body in zip(texts, bodies, strict=True)] == [True] * 4
    request = ask("e")
    connection.send(request[:-10])
    await asyncio.sleep(0.02)
    connection.send(request[-10:])
    assert b"'e'" in (await read_answer(connection))[2]
    before = taken(parts)
    connection.send(ask("f 4x1000"))
    await asyncio.sleep(0.001)
    connection.send(ask("g") + get("?q=h", TOKEN, "X-Request-Id: last"))
    answers = [await read_answer(connection) for _ in range(3)]
    assert [bytes((letter,)) in answer[2] for letter, answer in zip(b"fgh", answers, strict=True)] == [True] * 3
    assert answers[2][1]["x-request-id"] == "last"
    assert taken(parts) > before


async def test_a_client_that_goes_away_ends_its_question(parts: Parts) -> None:
    connection = await Connection.open(parts)
    await ask_on(connection, ask())
    begun = asyncio.Event()

    async def endless(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        while True:
            begun.set()
            yield b"x" * 2000
            await asyncio.sleep(0.01)

    parts.query.parts = endless
    connection.send(ask())
    async with asyncio.timeout(3):
        await begun.wait()
        connection.writer.close()
        await parts.query.cancelled.wait()
    assert taken(parts) == 1


async def test_an_answer_that_breaks_off_never_ends_like_a_whole_one(parts: Parts) -> None:
    connection = await Connection.open(parts)
    await ask_on(connection, ask())

    async def broken(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        yield b"x" * 2000
        await asyncio.sleep(0.05)
        raise ValueError("in the middle")

    parts.query.parts = broken
    connection.send(ask() + ask())
    received = await connection.rest()
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"0\r\n\r\n")
    assert received.count(b"HTTP/1.1") == 1


async def test_a_client_that_takes_nothing_holds_an_answer_up_and_is_cut(parts: Parts) -> None:
    connection = await Connection.open(parts)
    await ask_on(connection, ask())
    given = 0

    async def large(_head: dict[str, Any]) -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(1000):
            given += 1
            yield b"x" * 100_000

    parts.query.parts = large
    connection.send(ask())
    async with asyncio.timeout(8):
        await parts.query.cancelled.wait()
    assert taken(parts) == 1
    assert given < 1000


async def test_a_question_under_way_is_answered_though_the_gateway_stops(tmp_path: Path) -> None:
    async with running(tmp_path) as parts:
        connection = await Connection.open(parts)
        await ask_on(connection, ask())

        async def slow(_head: dict[str, Any]) -> AsyncIterator[bytes]:
            await asyncio.sleep(0.7)
            yield b"late"

        parts.query.parts = slow
        connection.send(ask())
        await asyncio.sleep(0.05)
        assert taken(parts) == 1
    assert (await read_answer(connection))[2] == b"late"


async def test_requests_are_all_alike_where_they_are_logged(tmp_path: Path) -> None:
    async with running(tmp_path, access_log="all") as parts:
        assert parts.gateway.question_heads is None
        assert parts.app[GUARD].questions is None


async def test_short_questions_are_counted_like_others(parts: Parts) -> None:
    connection = await Connection.open(parts)
    for _ in range(3):
        await ask_on(connection, ask())
    _, _, page = await parts.ask("GET", "/metrics")
    lines = page.decode().splitlines()
    line = next(one for one in lines if one.startswith("http_api_requests_total") and "/query" in one)
    assert float(line.rpartition(" ")[2]) == 3
    under_way = next(one for one in lines if one.startswith("tidegate_gateway_queries"))
    assert float(under_way.rpartition(" ")[2]) == 0


async def test_heads_are_bounded(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.question_heads.MAX_HEADS", 3)
    connection = await Connection.open(parts)
    for number in range(5):
        await ask_on(connection, ask("SHOW DATABASES", TOKEN, f"X-Other: {number}"))
    assert parts.gateway.question_heads is not None
    assert len(parts.gateway.question_heads) == 3
