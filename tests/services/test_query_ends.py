"""Queries that are ended in each of their phases, by KILL QUERY or because nobody waits for them any more (L09)."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from common.budget import Budget
from common.errors import Invalid, NotFound, Unavailable
from common.model import FieldType
from common.rpc.client import RpcClient
from common.rpc.server import Call, Reply
from common.segment import Block, Column
from common.web import Server, internal_app, make_registry
from services.query.administration.operations import OPERATIONS
from services.query.context import SelectLimits
from services.query.control.allowance import Allowance
from services.query.control.peers import Peers
from services.query.control.queries import Phase, Queries
from services.query.control.slots import Slots
from services.query.engine.run import Task
from services.query.metrics import Metrics
from services.query.reading.mappings import Mappings
from services.query.reading.reader import Reader
from services.query.removal.request import Deletes
from services.query.rpc import Methods, RequestLimits
from services.query.statements import EXECUTORS
from tests.faults.report import case
from tests.services.test_query import BUCKET, KEYS, identity
from tests.unit.query.engine.memory import MemoryStorage
from tests.unit.query.engine.points import WEEK_NS, series_id, series_key

S = 10**9


class HeldStorage(MemoryStorage):
    """Storage in memory that answers a method in ``held`` only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.held = ""
        self.go_on = asyncio.Event()

    async def call(self, url: str, method: str, *args: Any, **more: Any) -> Any:
        if method == self.held:
            await self.go_on.wait()
        return await super().call(url, method, *args, **more)


def rows_of_one_series(count: int) -> Block:
    """One row a second of measurement ``m``, field ``v``."""
    ids = np.array([series_id("m", ())], np.uint64)
    column = Column("v", FieldType.FLOAT, np.arange(count, dtype=np.float64))
    return Block(BUCKET[0], "m", 0, WEEK_NS, ids, np.array([0, count]), np.arange(count) * S, (column,))


@dataclass
class Replica:
    """One query service over storage in memory."""

    url: str
    storage: HeldStorage
    queries: Queries
    slots: Slots
    peers: Peers


@asynccontextmanager
async def replicas(count: int) -> AsyncIterator[tuple[list[Replica], RpcClient]]:
    """Query services that know each other, and a client that speaks as the gateway."""
    client, gateway = RpcClient(KEYS, "query"), RpcClient(KEYS, "gateway")
    await client.open()
    await gateway.open()

    async def tell_mappings(call: Call) -> Reply:
        await call.finish()
        return Reply({"number": 1, "tags": [], "mappings": [["db", "autogen", True, True, BUCKET]]})

    auth = Server(internal_app("auth", KEYS, {"mappings": tell_mappings}, dict), "127.0.0.1", 0)
    mappings = Mappings(client, await auth.start())
    mappings.set_fed(True)
    servers: list[Server] = []
    found: list[Replica] = []
    for _ in range(count):
        storage = HeldStorage()
        storage.add(rows_of_one_series(300_000), {series_id("m", ()): series_key(())})
        reader = Reader(storage, "memory:", Budget(1 << 28))  # type: ignore[arg-type]
        queries, slots = Queries(), Slots(4, 4, 60)
        place: list[str] = []
        peers = Peers(queries, client, lambda place=place: place[0])  # type: ignore[misc]
        limits = RequestLimits(SelectLimits(), 0, 0.0, 60.0, 10_000, Allowance(0, time.monotonic))
        methods = Methods(
            {**EXECUTORS, **OPERATIONS}, mappings, reader, slots, Metrics(make_registry(), {}), peers, limits,
            Deletes(client, "", reader),
        )  # fmt: skip
        server = Server(internal_app("query", KEYS, methods.handlers(), dict), "127.0.0.1", 0)
        servers.append(server)
        place.append(await server.start())
        found.append(Replica(place[0], storage, queries, slots, peers))
    for one in found:
        one.peers.learn([["q", "query", other.url] for other in found])
    try:
        yield found, gateway
    finally:
        await gateway.close()
        await client.close()
        for server in (*servers, auth):
            await server.stop()


def head_of(q: str, who: Any = None, **params: str) -> dict[str, Any]:
    return {
        "params": {"db": "db", "q": q, **params}, "accept": "", "identity": (who or identity()).to_wire(),
        "now_ns": time.time_ns(), "request_id": "r",
    }  # fmt: skip


async def listed(gateway: RpcClient, at: Replica) -> list[list[Any]]:
    """The rows of SHOW QUERIES but that of itself."""
    answer = await gateway.call(at.url, "query.influxql", head_of("SHOW QUERIES"))
    (series,) = json.loads(b"".join(answer.parts))["results"][0]["series"]
    assert series["columns"] == ["qid", "query", "database", "duration", "status"]
    return [row for row in series["values"] if row[1] != "SHOW QUERIES"]


async def kill(gateway: RpcClient, at: Replica, id: int) -> str:
    answer = await gateway.call(at.url, "query.influxql", head_of(f"KILL QUERY {id}"))
    return b"".join(answer.parts).decode()


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.PLANNING, Phase.READING, Phase.AGGREGATING, Phase.SENDING])
async def test_a_query_is_killed_in_every_phase_from_another_replica(
    phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    async with replicas(2) as ((asked, other), gateway), asyncio.timeout(30):
        if phase is Phase.WAITING:
            asked.slots._slots = asyncio.Semaphore(0)
        elif phase is Phase.PLANNING:
            asked.storage.held = "storage.plan"
        elif phase is Phase.READING:
            asked.storage.held = "storage.fetch"
        elif phase is Phase.AGGREGATING:
            monkeypatch.setattr(Task, "run", lambda _task: let_go.wait(20))
        running = asyncio.create_task(ask_and_read(gateway, asked, slowly=phase is Phase.SENDING))
        rows: list[list[Any]] = []
        while not rows or rows[0][4] != phase.value:
            await asyncio.sleep(0.01)
            rows = await listed(gateway, other)
        ((id, text, database, _, _),) = rows
        assert (text, database) == ("SELECT v FROM m", "db")
        began_s = time.monotonic()
        assert "error" not in await kill(gateway, other, id)
        while await listed(gateway, other):
            await asyncio.sleep(0.005)
        gone_s = time.monotonic() - began_s
        let_go.set()
        told = await running
        if phase is Phase.WAITING:
            assert json.loads(told) == {"results": [{"statement_id": 0, "error": "query interrupted"}]}
        assert "query interrupted" in told or told == "broken off"
        assert (asked.slots.running, asked.slots.waiting) == (0, 0)
        assert "no such query id" in await kill(gateway, other, id)
    case("L09", f"{phase.value}: gone in {gone_s * 1e3:.0f} ms", "1 s", gone_s < 1)


async def ask_and_read(gateway: RpcClient, replica: Replica, *, slowly: bool) -> str:
    """What a reader sees of a query; *slowly*: it takes nothing until the query is gone."""
    head = head_of("SELECT v FROM m", chunked="true")
    received: list[bytes] = []
    try:
        async with gateway.stream(replica.url, "query.influxql", head) as answer:
            parts = answer.parts()
            if slowly:
                received.append(await anext(parts))
                while len(replica.queries):
                    await asyncio.sleep(0.005)
            received += [part async for part in parts]
            return received[-1].decode()
    except Invalid as error:
        return str(error)
    except Unavailable:
        return "broken off"


@pytest.mark.parametrize("held", ["storage.plan", "storage.fetch"])
async def test_a_query_whose_reader_is_gone_ends(held: str) -> None:
    async with replicas(1) as ((asked,), gateway), asyncio.timeout(30):
        asked.storage.held = held
        running = asyncio.create_task(ask_and_read(gateway, asked, slowly=False))
        while not await listed(gateway, asked):
            await asyncio.sleep(0.005)
        running.cancel()
        while len(asked.queries):
            await asyncio.sleep(0.005)
        asked.storage.go_on.set()


async def test_nobody_else_sees_or_ends_a_query() -> None:
    stranger = identity("00000000000000bb")
    async with replicas(2) as ((asked, other), gateway), asyncio.timeout(30):
        asked.storage.held = "storage.plan"
        running = asyncio.create_task(ask_and_read(gateway, asked, slowly=False))
        while not (rows := await listed(gateway, other)):
            await asyncio.sleep(0.005)
        assert await other.peers.listed(stranger) == []
        with pytest.raises(NotFound, match="no such query id"):
            await other.peers.kill(rows[0][0], stranger)
        with pytest.raises(NotFound, match="no such query id: 7"):
            await other.peers.kill(7, identity())
        asked.queries.kill(rows[0][0], identity())
        with pytest.raises((Invalid, NotFound)):
            await other.peers.kill(rows[0][0], identity())
        assert "query interrupted" in await running


async def test_a_replica_that_hangs_hides_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.query.control.peers.PEER_TIMEOUT_S", 0.1)
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(0), "127.0.0.1", 0)
    async with replicas(2) as ((asked, other), gateway), asyncio.timeout(30):
        hanging = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        other.peers.learn([["q", "query", url] for url in (hanging, asked.url, other.url)])
        asked.storage.held = "storage.plan"
        running = asyncio.create_task(ask_and_read(gateway, asked, slowly=False))
        while len(await listed(gateway, other)) != 1:
            await asyncio.sleep(0.005)
        running.cancel()
    silent.close()
