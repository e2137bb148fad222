"""Queries on bad days, over the whole stack: too many, slow readers, readers that are gone, statements made to hurt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import psutil
import pytest

from tests.faults.report import case
from tests.metrics_page import figure
from tests.stack import Stack

# One worker runs them all: the stack and its data are made once.
pytestmark = pytest.mark.xdist_group("query limits")

ROWS = 1_000_000
T0 = 1_600_000_000
BUDGET_BYTES = 256 << 20
# How long a client may take for a piece of an answer; other tests hold answers for shorter.
SEND_TIMEOUT_S = 6
# What a query service takes beyond its budget: its code and kernels (180 MiB), and 32 MiB a running query for what is
# being decoded, merged and printed (docs/decisions/0055-portions.md).
BESIDES_BYTES, A_QUERY_BYTES = 180 << 20, 32 << 20


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Ten queries run, a hundred wait; a measurement ``big`` with a million rows in 100 series."""
    stack = Stack(
        tmp_path_factory.mktemp("limited"),
        {
            "TIDEGATE_QUERY_CONCURRENCY": "10",
            "TIDEGATE_QUERY_QUEUE": "100",
            "TIDEGATE_QUERY_WAIT_S": "60",
            "TIDEGATE_MAX_QUERIES": "2000",
            "TIDEGATE_SEND_TIMEOUT_S": str(SEND_TIMEOUT_S),
            "TIDEGATE_MEMORY_BYTES": str(BUDGET_BYTES),
        },
    ).start()
    stack.make_bucket("d")
    for start in range(0, ROWS // 100, 500):
        lines = (
            f'big,h=h{host} a={step % 97}i,b={step % 89}i,c={host}i,s="text {step % 7}" {T0 + step}'
            for step in range(start, start + 500)
            for host in range(100)
        )
        assert stack.write("\n".join(lines), "d", precision="s").status_code == 204
    assert stack.rows("SELECT count(a) FROM big", "d")[0][1] == ROWS
    yield stack
    stack.stop()


@contextlib.asynccontextmanager
async def clients(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Token {stack.token}", "Accept-Encoding": "identity"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(stack.url, headers=headers, connector=connector) as session:
        yield session


def asking(session: aiohttp.ClientSession, q: str, **params: str) -> Any:
    return session.get("/query", params={"db": "d", "q": q, **params})


async def begun(session: aiohttp.ClientSession, q: str) -> aiohttp.ClientResponse:
    """An answer of which only the first piece is taken."""
    answer: aiohttp.ClientResponse = await asking(session, q, chunked="true")
    assert answer.status == 200
    await answer.content.readany()
    return answer


async def under_way(session: aiohttp.ClientSession) -> int:
    async with asking(session, "SHOW DIAGNOSTICS") as answer:
        await answer.read()
    async with asking(session, "SHOW QUERIES") as answer:
        series = (await answer.json())["results"][0]["series"]
    return len(series[0]["values"]) - 1


async def test_a_thousand_queries_at_a_time(limited: Stack) -> None:
    statuses: Counter[int] = Counter()
    refused_s: list[float] = []
    waiting_s: list[float] = []
    async with clients(limited) as session, asyncio.timeout(100):
        holding = await asyncio.gather(*(begun(session, "SELECT * FROM big") for _ in range(10)))

        async def ask() -> None:
            began_s = time.monotonic()
            async with asking(session, "SELECT a FROM big LIMIT 1") as answer:
                body = await answer.read()
                statuses[answer.status] += 1
                if answer.status == 503:
                    refused_s.append(time.monotonic() - began_s)
                    assert b"TIDEGATE_QUERY_QUEUE" in body
                    assert int(answer.headers["Retry-After"]) >= 1
                else:
                    waiting_s.append(time.monotonic() - began_s)

        waiting = [asyncio.create_task(ask()) for _ in range(100)]
        metrics = ""
        while "tidegate_query_waiting" not in metrics or figure(metrics, "tidegate_query_waiting") < 100:
            async with session.get("/metrics") as page:
                metrics = await page.text()
        assert figure(metrics, "tidegate_query_running") == 10
        for _ in range(89):
            await asyncio.gather(*(ask() for _ in range(10)))
        for answer in holding:
            answer.close()
        await asyncio.gather(*waiting)
    refused_s.sort()
    p50, p99 = refused_s[len(refused_s) // 2], refused_s[int(len(refused_s) * 0.99)]
    case(
        "L07",
        f"{len(holding)} ran, {statuses[200]} waited, {statuses[503]} refused; refused in {p50 * 1e3:.0f} ms, "
        f"99 of 100 in {p99 * 1e3:.0f} ms with ten at a time",
        "10 run, 100 wait, 890 refused",
        (statuses[200], statuses[503]) == (100, 890),
    )


class Peaks:
    """The most memory that some processes of a stack take while a with block runs."""

    def __init__(self, stack: Stack, *services: str) -> None:
        self._processes = {name: psutil.Process(stack.pids(name)[0]) for name in services}
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self.before = self._now()
        self.most = dict(self.before)

    def _now(self) -> dict[str, int]:
        return {name: process.memory_info().rss for name, process in self._processes.items()}

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.most = {name: max(self.most[name], size) for name, size in self._now().items()}

    def __enter__(self) -> Peaks:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()


async def test_slow_readers_hold_little_and_are_given_up(limited: Stack) -> None:
    with Peaks(limited, "gateway", "query") as peaks:
        async with clients(limited) as session, asyncio.timeout(100):
            whole = await _read_all(session, "SELECT * FROM big")
            before = await _given_up(session)
            began = [asyncio.create_task(begun(session, "SELECT * FROM big")) for _ in range(200)]
            held: list[aiohttp.ClientResponse] = []
            while len(held) < 10:
                await asyncio.sleep(0.1)
                held = [task.result() for task in began if task.done() and not task.exception()]
            # Ten are sent, others wait for a turn or are refused; who reads nothing is given up. On a busy machine it
            # takes longer until all buffers on the way are full.
            while await _given_up(session) - before < len(held):
                await asyncio.sleep(0.2)
            cut = sum([await _is_cut(answer) for answer in held])
            for task in began:
                task.cancel()
            await asyncio.gather(*began, return_exceptions=True)
    grown = (peaks.most["gateway"] - peaks.before["gateway"]) / len(began)
    case(
        "L03",
        f"200 readers of {whole / 1e6:.0f} MB, {len(held)} sent to, none reads: gateway +{grown / 1e6:.2f} MB each, "
        f"query at {peaks.most['query'] >> 20} MiB; {cut} given up after {SEND_TIMEOUT_S} s",
        "1 MB for each of the 200; all that were sent to given up; memory bound held",
        len(held) >= 10 and cut == len(held) and grown < 1e6 and peaks.most["query"] < _most_bytes(10),
    )


async def _given_up(session: aiohttp.ClientSession) -> float:
    """How many answers nobody took to their end."""
    async with session.get("/metrics") as page:
        return figure(await page.text(), "tidegate_query_requests_total", 'outcome="abandoned"')


async def _is_cut(answer: aiohttp.ClientResponse) -> bool:
    """Whether the answer breaks off, read to its end."""
    try:
        await answer.read()
    except aiohttp.ClientError:
        return True
    return False


def _most_bytes(queries: int) -> int:
    """The most that a query service may take with so many queries under way, and a tenth for the test's own sake."""
    return int(1.1 * (BUDGET_BYTES + BESIDES_BYTES + queries * A_QUERY_BYTES))


@pytest.mark.parametrize("accept", ["application/json", "application/csv", "application/x-msgpack"])
@pytest.mark.parametrize("q", ["SELECT * FROM big", "SELECT * FROM big GROUP BY *"])
async def test_an_answer_has_no_bound_but_memory_has(limited: Stack, accept: str, q: str) -> None:
    """4 M values and their tags in 256 MiB; the whole would be twice that at work."""
    size = 0
    params = {"db": "d", "q": q, **({"chunked": "true"} if "msgpack" in accept else {})}
    with Peaks(limited, "query") as peaks:
        async with (
            clients(limited) as session,
            asyncio.timeout(100),
            session.get("/query", params=params, headers={"Accept": accept}) as answer,
        ):
            assert answer.status == 200
            async for piece in answer.content.iter_any():
                size += len(piece)
    most = peaks.most["query"]
    case(
        "B17",
        f"{q} as {accept}: {size / 1e6:.0f} MB told, query {peaks.before['query'] >> 20} -> {most >> 20} MiB",
        f"{_most_bytes(10) >> 20} MiB",
        most < _most_bytes(10) and size > 20_000_000,
    )


async def test_readers_that_leave_end_their_queries(limited: Stack) -> None:
    process = psutil.Process(limited.pids("query")[0])
    worst_s = 0.0
    rng = random.Random(7)
    async with clients(limited) as session, asyncio.timeout(200):
        for _ in range(20):
            tasks = [asyncio.create_task(_read_all(session, "SELECT * FROM big")) for _ in range(10)]
            await asyncio.sleep(rng.uniform(0.01, 0.3))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            left_s = time.monotonic()
            while await under_way(session):
                await asyncio.sleep(0.02)
            worst_s = max(worst_s, time.monotonic() - left_s)
        await asyncio.sleep(0.5)
        before = process.cpu_times()
        await asyncio.sleep(1)
        after = process.cpu_times()
    busy_s = after.user + after.system - before.user - before.system
    case(
        "L08",
        f"200 readers left: the last gone in {worst_s * 1e3:.0f} ms, CPU {busy_s * 100:.0f} % afterwards",
        "1 s, idle; a busy machine may take 5 s",
        worst_s < 5 and busy_s < 0.5,
    )


async def _read_all(session: aiohttp.ClientSession, q: str) -> int:
    size = 0
    async with asking(session, q) as answer:
        async for piece in answer.content.iter_any():
            size += len(piece)
    return size


def nested(depth: int) -> dict[str, str]:
    return {
        "parentheses": f"SELECT v FROM m WHERE {'(' * depth}v > 1{')' * depth}",
        "fields": f"SELECT {'(' * depth}v{')' * depth} FROM m",
        "subqueries": f"SELECT v FROM {'(SELECT v FROM ' * depth}m{')' * depth}",
        "calls": f"SELECT {'abs(' * depth}v{')' * depth} FROM m",
        "minus": f"SELECT {'-(' * depth}v{')' * depth} FROM m",
    }


def post(stack: Stack, q: str, db: str = "d") -> tuple[int, str, float]:
    """Status, body and seconds of a query in a form."""
    began_s = time.monotonic()
    answer = stack.request("POST", "/query", data={"q": q, "db": db})
    return answer.status_code, answer.text, time.monotonic() - began_s


@pytest.mark.parametrize("depth", [10, 90, 1_000, 100_000])
def test_deep_statements(limited: Stack, depth: int) -> None:
    limited.write("m v=1 1", "d")
    outcomes = {name: post(limited, text) for name, text in nested(depth).items()}
    slowest_s = max(seconds for _, _, seconds in outcomes.values())
    expected = {200} if depth < 100 else {400, 413}
    statuses = {status for status, _, _ in outcomes.values()}
    # 100,000 signs in a row are too many before they are too deep.
    reasons = ("nested more than 100 levels", "more than 50000 operators")
    assert all(any(reason in body for reason in reasons) for status, body, _ in outcomes.values() if status == 400)
    ok = statuses <= expected and slowest_s < 10
    case("B12", f"depth {depth}: {statuses}, slowest {slowest_s * 1e3:.0f} ms", "200 to 100 levels, then 400", ok)


@pytest.mark.parametrize(("name", "q", "statuses"), [
    ("1 MB", f"SELECT v FROM m WHERE s = '{'x' * 1_000_000}'", {200}),
    ("25 MB", f"SELECT v FROM m WHERE s = '{'x' * 25_000_000}'", {400, 413}),
    ("10,000 statements", "SELECT v FROM m;" * 10_000, {400}),
    ("1,000 statements", "SELECT v FROM m;" * 1_000, {200}),
    ("a million semicolons", ";" * 1_000_000, {200}),
    ("20,000 terms", "SELECT v FROM m WHERE " + " OR ".join(f"s = '{n}'" for n in range(20_000)), {200}),
    ("60,000 terms", "SELECT v FROM m WHERE " + " OR ".join(f"s = '{n}'" for n in range(60_000)), {400}),
    ("a sum of 100,000 terms", f"SELECT v{'+v' * 100_000} FROM m", {400}),
])  # fmt: skip
def test_long_texts(limited: Stack, name: str, q: str, statuses: set[int]) -> None:
    limited.write("m v=1 1", "d")
    status, body, seconds = post(limited, q)
    case(
        "B13",
        f"{name}: {status} in {seconds * 1e3:.0f} ms",
        f"{statuses}, bounded",
        status in statuses and seconds < 15,
    )
    assert limited.request("GET", "/ping").status_code == 204, body[:200]


CATASTROPHIC = [
    "(a+)+$", "(a*)*$", "(a|a)*$", "(a|aa)+$", "(.*a){20}", "(a?){30}a{30}", "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(x+x+)+y", "(.*)*x", "(.+)+x", "([a-zA-Z]+)*$", "(a+){10}b", "((a+)+)+b", "(a|b|ab)*c", "^(a+)*b", "(\\w+\\s?)*$",
    "(?:a+)+b", "(a{1,9}){1,9}b", "(0|[1-9][0-9]*)*x", "(^|a)+b",
]  # fmt: skip


def test_regular_expressions_made_to_hurt(limited: Stack) -> None:
    values = [f"{'a' * 1_000}{n}" for n in range(1_000)]
    assert limited.write("\n".join(f"words,t={value} v=1 {n + 1}" for n, value in enumerate(values)), "d").ok
    slowest = ("", 0.0)
    for pattern in CATASTROPHIC:
        for q in (f"SELECT count(v) FROM words WHERE t =~ /{pattern}/", f"SELECT count(v) FROM /{pattern}/"):
            status, body, seconds = post(limited, q)
            assert status == 200, body
            assert "statement_id" in body
            slowest = max(slowest, (q, seconds), key=lambda pair: pair[1])
    case("B14", f"{len(CATASTROPHIC)} patterns over 1 MB of tags: slowest {slowest[1] * 1e3:.0f} ms", "linear",
         slowest[1] < 10)  # fmt: skip


@pytest.mark.parametrize("pattern", ["(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(a)\\1", "(?>a)", "a*+", "(?(1)a)"])
def test_what_is_no_linear_pattern_is_a_parse_error(limited: Stack, pattern: str) -> None:
    status, body, _ = post(limited, f"SELECT v FROM m WHERE t =~ /{pattern}/")
    message = json.loads(body)["error"]
    ok = status == 400 and message.startswith("failed to parse query: error parsing regexp: ")
    case("B15", f"{pattern}: {status} {message[23:]}", "400 as Go says", ok)


@pytest.mark.parametrize("where", [f"WHERE time >= {T0}s AND time < {T0}s + 1d", "WHERE time >= 0", ""])
def test_windows_without_end(limited: Stack, where: str) -> None:
    process = psutil.Process(limited.pids("query")[0])
    before = process.memory_info().rss
    status, body, seconds = post(limited, f"SELECT mean(a) FROM big {where} GROUP BY time(1ns)")
    grown = (process.memory_info().rss - before) >> 20
    error = json.loads(body)["results"][0].get("error", "")
    ok = status == 200 and error.startswith("max-select-buckets limit exceeded: (") and grown < 300
    case("B16", f"{where or 'all times'}: {error} in {seconds * 1e3:.0f} ms, +{grown} MiB", "refused", ok)


@pytest.mark.parametrize(("what", "text"), [
    ("mean(*)", "WHERE time >= 0 AND time < 1000s GROUP BY time(1s), t"),
    ("mean(*)", "GROUP BY time(1s), t fill(none)"),
    ("*", "GROUP BY *"),
])  # fmt: skip
def test_everything_by_everything(limited: Stack, what: str, text: str) -> None:
    fields = ",".join(f"f{n}={n}" for n in range(1_000))
    for at in range(0, 1_000, 100):
        lines = "\n".join(f"wide,t=t{n} {fields} {(n + 1) * 10**9}" for n in range(at, at + 100))
        assert limited.write(lines, "d").status_code == 204
    with Peaks(limited, "query") as peaks:
        answer = limited.request(
            "GET", "/query", params={"db": "d", "q": f"SELECT {what} FROM wide {text}"}, timeout=100
        )
    most = peaks.most["query"]
    refused = answer.status_code == 503 or b'"error"' in answer.content[:200]
    case(
        "B18",
        f"1,000 fields by 1,000 tags by 1,000 windows, {what} {text[-20:]}: {answer.status_code} "
        f"{'refused' if refused else 'streamed'}, {len(answer.content) / 1e6:.0f} MB, query at {most >> 20} MiB",
        f"refused or streamed, within {_most_bytes(10) >> 20} MiB",
        (refused or answer.status_code == 200) and most < _most_bytes(10),
    )


def test_what_is_bound_is_only_ever_a_value(limited: Stack) -> None:
    limited.write("m v=1 1", "d")
    nasty = ["' OR 1=1 --", "x'; DROP MEASUREMENT m; --", '"; DROP MEASUREMENT m', "\\'; DROP DATABASE d", "/.*/", "$a"]
    for text in nasty:
        for value in (text, {"string": text}, {"identifier": text}):
            q = (
                "SELECT v FROM $a"
                if isinstance(value, dict) and "identifier" in value
                else "SELECT v FROM m WHERE t = $a"
            )
            answer = limited.query(q, "d", params=json.dumps({"a": value}))
            assert answer == {"results": [{"statement_id": 0}]}, (q, value)
        named = limited.query("SHOW MEASUREMENTS", text)["results"][0]
        assert "series" not in named
        # As a number or a regular expression it is refused, or matches as such.
        for value in ({"integer": text}, {"duration": text}):
            answer = limited.request("GET", "/query", params={
                "db": "d", "q": "SELECT v FROM m WHERE v = $a", "params": json.dumps({"a": value}),
            })  # fmt: skip
            assert answer.status_code == 400
    rows = limited.rows("SELECT v FROM m", "d", epoch="ns")
    case(
        "S28",
        f"{len(nasty)} texts in 7 places: the measurement has its {len(rows)} row",
        "literal only",
        rows == [[1, 1]],
    )
