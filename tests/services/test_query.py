"""The edge of the query service over real internal calls: auth is played, statements are played or SHOW."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import pytest

from common.errors import Invalid, NotFound, TooLarge, TooManyRequests, Unavailable
from common.identity import Identity, Permission
from common.rpc.client import Answer, RpcClient
from common.rpc.server import Call, Reply
from common.rpc.wire import Keys
from common.web import Server, internal_app, make_registry
from services.query.context import SelectLimits
from services.query.control.allowance import Allowance
from services.query.control.peers import Peers
from services.query.control.queries import Phase, Queries
from services.query.control.slots import Slots
from services.query.influxql import tree
from services.query.influxql.parser import parse
from services.query.metrics import Metrics
from services.query.reading.mappings import Mappings
from services.query.removal.request import Deletes
from services.query.render.result import Kind, ResultColumn, ResultSeries
from services.query.rpc import Methods, Parser, RequestLimits, decode_query
from services.query.schema import show
from tests.unit.query.schema.test_show import FakeReader

SECRET = b"k" * 32
KEYS = Keys(SECRET, (SECRET,))
ORG = "00000000000000aa"
BUCKET = ["00000000000000b1", ORG, "db", 0, 7 * 86_400 * 10**9]


def identity(org: str | None = ORG) -> Identity:
    return Identity("token", "0" * 15 + "1", "0" * 15 + "2", org, (Permission("read", "buckets", None, ORG),))


@dataclass
class Played:
    """What auth and the engine do, and what they were asked."""

    rows: int = 3
    pause_s: float = 0.0
    series: int = 1
    error: Exception | None = None
    mappings: list[Any] = field(default_factory=lambda: [["db", "autogen", True, True, BUCKET]])
    asked: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    cancelled: int = 0

    async def answer_mappings(self, call: Call) -> Reply:
        await call.finish()
        self.asked.append(call.head)
        if call.head["org_id"] != ORG:
            raise NotFound("organization not found")
        return Reply({"number": 1, "tags": [f"dbrp:{ORG}"], "mappings": self.mappings})

    async def select(self, statement: tree.Select, context: Any) -> AsyncIterator[ResultSeries]:
        await context.resolve()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for number in range(self.series):
                await asyncio.sleep(self.pause_s)
                times = ResultColumn("time", Kind.TIME, np.arange(self.rows))
                yield ResultSeries(f"m{number}", (), (times, ResultColumn("v", Kind.INTEGER, np.arange(self.rows))))
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


@dataclass
class Service:
    """A running query service and how the gateway calls it."""

    url: str
    client: RpcClient
    played: Played
    queries: Queries

    def head(self, identity: Identity, accept: str, params: dict[str, str]) -> dict[str, Any]:
        return {
            "params": params, "accept": accept, "identity": identity.to_wire(), "now_ns": time.time_ns(),
            "request_id": "r",
        }  # fmt: skip

    async def ask(
        self, q: str | None = "SELECT v FROM m", accept: str = "", org: str | None = ORG, **more: str
    ) -> Answer:
        params = {"db": "db", **({} if q is None else {"q": q}), **more}
        return await self.client.call(self.url, "query.influxql", self.head(identity(org), accept, params))

    async def json(self, q: str, **more: str) -> Any:
        return json.loads(b"".join((await self.ask(q, **more)).parts))


@asynccontextmanager
async def service(
    played: Played | None = None,
    *,
    running: int = 4,
    waiting: int = 4,
    wait_s: float = 5,
    timeout_s: float = 60,
    token_s: float = 0,
) -> AsyncIterator[Service]:
    played = played or Played()
    client = RpcClient(KEYS, "query")
    gateway = RpcClient(KEYS, "gateway")
    await client.open()
    await gateway.open()
    auth = Server(internal_app("auth", KEYS, {"mappings": played.answer_mappings}, dict), "127.0.0.1", 0)
    mappings = Mappings(client, await auth.start())
    mappings.set_fed(True)
    reader: Any = FakeReader({BUCKET[0]: {"cpu": [{"host": "a"}]}})
    queries = Queries()
    executors = {tree.Select: played.select, tree.ShowMeasurements: show.measurements, tree.ShowSeries: show.series}
    methods = Methods(
        executors,
        mappings,
        reader,
        Slots(running, waiting, wait_s),
        Metrics(make_registry(), {}),
        Peers(queries, client, lambda: None),
        RequestLimits(SelectLimits(), 0, 0.0, timeout_s, 10_000, Allowance(token_s, time.monotonic)),
        Deletes(client, "", reader),
    )
    server = Server(internal_app("query", KEYS, methods.handlers(), dict), "127.0.0.1", 0)
    try:
        yield Service(await server.start(), gateway, played, queries)
    finally:
        await gateway.close()
        await client.close()
        await server.stop()
        await auth.stop()


async def test_a_query_is_answered_with_its_type() -> None:
    async with service() as query:
        answer = await query.ask(epoch="ns")
        assert answer.head["status"] == 200
        assert [name for name, _ in answer.head["headers"]] == ["Content-Type", "X-Tidegate-Stats"]
        assert answer.head["headers"][0] == ["Content-Type", "application/json"]
        assert b"".join(answer.parts) == (
            b'{"results":[{"statement_id":0,"series":[{"name":"m0","columns":["time","v"],'
            b'"values":[[0,0],[1,1],[2,2]]}]}]}\n'
        )
        for accept in ("application/csv", "text/csv", "application/x-msgpack"):
            assert (await query.ask(accept=accept)).head["headers"][0] == ["Content-Type", accept]


async def test_show_reaches_the_reader() -> None:
    async with service() as query:
        answer = await query.json("SHOW MEASUREMENTS; SHOW SERIES; SHOW SERIES ON nodb; SHOW SERIES")
        assert answer["results"][1]["series"] == [{"columns": ["key"], "values": [["cpu,host=a"]]}]
        assert [entry.get("error") for entry in answer["results"]] == [
            None, None, "database not found: nodb", "not executed",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"q": "SELEC"}, "failed to parse query: found SELEC, expected SELECT, DELETE"),
        ({"q": "SELECT v FROM m; SELECT"}, "failed to parse query: found EOF"),
        ({"q": "SELECT $x FROM m"}, "failed to parse query: missing parameter: x"),
        ({"q": "SELECT v FROM m", "params": "[1]"}, "error parsing query parameters: json: cannot unmarshal array"),
        ({"q": " "}, 'missing required parameter "q"'),
        ({"q": None}, 'missing required parameter "q"'),
    ],
)
async def test_a_request_that_can_not_be_read_is_refused_whole(params: dict[str, Any], message: str) -> None:
    async with service() as query:
        with pytest.raises(Invalid) as raised:
            await query.ask(**params)
        assert str(raised.value).startswith(message)


async def test_a_text_asked_again_is_answered_again_and_passwords_are_not_kept() -> None:
    parser = Parser(max_kept=2)
    texts = ("SELECT v FROM m", "SHOW DATABASES", "SELECT w FROM m", "CREATE USER u WITH PASSWORD 'hunter2'")
    for text in texts * 2:
        head = {"params": {"q": text}, "accept": "", "identity": identity().to_wire(), "now_ns": 0}
        assert await parser.parse(decode_query(head, 1_000)) == parse(text)
    assert "hunter2" not in repr(vars(parser))
    assert len(parser._kept) == 2


async def test_no_statement_is_an_empty_answer() -> None:
    async with service() as query:
        for text in (";", " -- nothing"):
            assert b"".join((await query.ask(text)).parts) == b"{}\n"
            assert b"".join((await query.ask(text, chunked="true")).parts) == b""


async def test_a_text_past_the_limit_is_refused() -> None:
    async with service() as query:
        with pytest.raises(TooLarge):
            await query.ask("SELECT v FROM m" + " " * 10_000)


async def test_an_organization_that_is_gone_is_told_before_anything_runs() -> None:
    async with service() as query:
        for org in ("00000000000000bb", None):
            with pytest.raises(NotFound, match="organization not found"):
                await query.ask(org=org)


async def test_mappings_are_asked_for_once_and_a_refusal_is_confirmed() -> None:
    async with service() as query:
        for _ in range(3):
            await query.ask()
        assert query.played.asked == [{"org_id": ORG}]
        await query.ask("SHOW SERIES ON nodb")
        assert query.played.asked[1:] == [{"org_id": ORG, "confirm": True}]


async def test_a_database_made_a_moment_ago_is_found() -> None:
    async with service() as query:
        await query.ask()
        query.played.mappings = [*query.played.mappings, ["fresh", "autogen", True, True, BUCKET]]
        answer = await query.json("SELECT v FROM m", db="fresh")
        assert "series" in answer["results"][0]


async def test_large_answers_come_in_parts_and_whole() -> None:
    async with service(Played(rows=20_000, series=10)) as query:
        answer = await query.ask(epoch="ns")
        assert len(answer.parts) > 1
        assert sum(len(s["values"]) for s in json.loads(b"".join(answer.parts))["results"][0]["series"]) == 200_000
        chunked = await query.ask(epoch="ns", chunked="true", chunk_size="7000", accept="application/x-msgpack")
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(b"".join(chunked.parts))
        chunks = list(unpacker)
        assert len(chunks) == 30
        assert len(chunks[0]["results"][0]["series"][0]["values"]) == 7_000


@pytest.mark.parametrize("size", ["", "x", "0", "-5", "9" * 30])
async def test_an_odd_chunk_size_is_the_default(size: str) -> None:
    async with service(Played(rows=10_001)) as query:
        answer = b"".join((await query.ask(chunked="true", chunk_size=size)).parts)
        assert len(answer.splitlines()) == 2


async def test_trouble_of_our_own_fails_the_request_or_cuts_the_answer() -> None:
    async with service(Played(error=Unavailable("storage is away"))) as query:
        with pytest.raises(Unavailable, match="storage is away"):
            await query.ask()
    async with service(Played(rows=20_000, series=10, error=Unavailable("storage is away"))) as query:
        head = query.head(identity(), "", {"q": "SELECT v FROM m", "db": "db"})
        received = 0
        with pytest.raises(Unavailable):
            async with query.client.stream(query.url, "query.influxql", head) as answer:
                async for part in answer.parts():
                    received += len(part)
        assert received > 0


async def test_queries_beyond_the_limit_wait_and_beyond_the_queue_are_told_503() -> None:
    async with service(Played(pause_s=0.05), running=2, waiting=3) as query:
        outcomes = await asyncio.gather(*(query.ask() for _ in range(8)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        assert len(refused) == 3
        assert "TIDEGATE_QUERY_QUEUE" in str(refused[0])
        assert query.played.most == 2


async def test_a_wait_that_is_too_long_is_told_503() -> None:
    async with service(Played(pause_s=0.5), running=1, wait_s=0.05) as query:
        outcomes = await asyncio.gather(query.ask(), query.ask(), return_exceptions=True)
        (refused,) = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        assert "TIDEGATE_QUERY_WAIT_S" in str(refused)


async def test_a_query_out_of_time_says_so() -> None:
    async with service(Played(pause_s=5), timeout_s=0.05) as query:
        answer = await query.json("SELECT v FROM m")
        assert answer["results"] == [{"statement_id": 0, "error": "query-timeout limit exceeded"}]
        assert query.played.running == 0


async def test_a_caller_that_goes_away_ends_its_query() -> None:
    async with service(Played(pause_s=30)) as query:
        asking = asyncio.create_task(query.ask())
        while not query.played.running:
            await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            while query.played.running:
                await asyncio.sleep(0.005)
        assert query.played.cancelled == 1


async def test_a_caller_that_goes_away_in_mid_answer_gives_its_slot_back() -> None:
    async with service(Played(rows=20_000, series=400, pause_s=0.001), running=1) as query:
        head = query.head(identity(), "", {"q": "SELECT v FROM m", "db": "db"})
        async with query.client.stream(query.url, "query.influxql", head) as answer:
            async for _ in answer.parts():
                break
        query.played.series = 1
        async with asyncio.timeout(5):
            await query.ask()


async def test_a_query_that_is_killed_while_it_is_sent_breaks_off_at_once() -> None:
    async with service(Played(rows=20_000, series=400), running=1) as query:
        head = query.head(identity(), "", {"q": "SELECT v FROM m", "db": "db", "chunked": "true"})
        received: list[bytes] = []
        with contextlib.suppress(Unavailable):
            async with query.client.stream(query.url, "query.influxql", head) as answer:
                parts = answer.parts()
                received.append(await anext(parts))
                async with asyncio.timeout(20):
                    # Nobody reads, so it comes to stand in sending.
                    (running,) = query.queries.seen_by(identity())
                    while running.phase is not Phase.SENDING:
                        await asyncio.sleep(0.01)
                    query.queries.kill(running.id, identity())
                    while len(query.queries):
                        await asyncio.sleep(0.01)
                received += [part async for part in parts]
                # It was met between two pieces: then the answer says so and ends.
                assert b"query interrupted" in received[-1]
        assert len(received) < 400
        assert query.played.running == 0


async def test_a_token_that_has_used_up_its_time_is_told_429() -> None:
    async with service(Played(pause_s=0.2), token_s=0.1) as query:
        await query.ask()
        with pytest.raises(TooManyRequests) as caught:
            await query.ask()
        assert "TIDEGATE_QUERY_TOKEN_S" in str(caught.value)
        assert (caught.value.retry_after_s or 0) >= 1


async def test_no_part_of_an_answer_is_too_large_for_the_gateway() -> None:
    async with service(Played(rows=1_000_000)) as query:
        for accept in ("", "application/x-msgpack"):
            answer = await query.ask(epoch="ns", accept=accept)
            assert len(answer.parts) > 2
            assert max(map(len, answer.parts)) <= 256 << 10
