"""Three ingests on one real storage: types, retries and series come out the same whichever of them is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.model import Bucket
from common.rpc.client import RpcClient
from common.segment import decode_block
from common.web import Server
from services.storage.app import build as build_storage
from services.storage.config import StorageSettings
from tests.services.ingest_parts import (
    KEY,
    KEYS,
    ORG,
    WEEK_NS,
    FakeAuth,
    FakeStorage,
    Parts,
    running_auth,
    running_ingest,
    wait_ready,
)

BUCKET = "00000000000000b1"
TYPES = {b"1i": "integer", b"1": "float", b'"s"': "string"}


@dataclass
class Cluster:
    """Ingests on one storage."""

    ingests: list[Parts]
    query: RpcClient
    url: str

    async def rows(self, measurement: str) -> int:
        """Rows stored of *measurement*, each (series, time) once."""
        everything = {"start_ns": -(1 << 62), "stop_ns": 1 << 62}
        head = {"bucket_id": BUCKET, "measurements": {measurement: -1}, **everything}
        plan = (await self.query.call(self.url, "storage.plan", head)).head["measurements"].get(measurement)
        points = set()
        for segment, _, meta in plan["segments"] if plan else []:
            chunks = [[segment, list(range(len(meta["chunks"])))]]
            answer = await self.query.call(self.url, "storage.fetch", {"chunks": chunks})
            block = decode_block(meta, answer.parts)
            for series, (start, stop) in enumerate(zip(block.offsets[:-1], block.offsets[1:], strict=True)):
                points |= {(block.series[series].tobytes(), int(time_ns)) for time_ns in block.times[start:stop]}
        return len(points)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        settings = StorageSettings(data=tmp_path, internal_key=KEY.decode(), storage_port=0)
        storage = Server(build_storage(settings), "127.0.0.1", 0)
        url = await storage.start()
        stack.push_async_callback(storage.stop)
        clients = {caller: RpcClient(KEYS, caller) for caller in ("gateway", "query", "auth")}
        for client in clients.values():
            await client.open()
            stack.push_async_callback(client.close)
        put = {"kind": "bucket", "id": BUCKET, "body": {}, "unique": [], "indexes": {}}
        head = {"conditions": [], "puts": [put], "deletes": [], "tags": [], "drop_buckets": []}
        await wait_ready(url)
        await clients["auth"].call(url, "storage.change_records", head)
        auth = FakeAuth({"db": Bucket(BUCKET, ORG, "db", 0, WEEK_NS)}, number=1_000_000)
        auth_url = await stack.enter_async_context(running_auth(auth))
        ingests = []
        for _ in range(3):
            server = await stack.enter_async_context(running_ingest(tmp_path, url, auth_url))
            await wait_ready(server.url or "")
            ingests.append(Parts(server.url or "", clients["gateway"], FakeStorage(), auth, server))
        yield Cluster(ingests, clients["query"], url)


async def test_of_types_that_race_exactly_one_wins(cluster: Cluster) -> None:
    for attempt in range(10):
        bodies = [b"\n".join(b"m%d,from=%d v=%s %d" % (attempt, n, word, t) for t in range(1 + n))
                  for n, word in enumerate(TYPES)]  # fmt: skip
        results: list[Any] = await asyncio.gather(
            *(ingest.write(body) for ingest, body in zip(cluster.ingests, bodies, strict=True))
        )
        winners = [n for n, result in enumerate(results) if result is None]
        assert len(winners) == 1
        won = list(TYPES.values())[winners[0]]
        for n, (word, result) in enumerate(zip(TYPES.values(), results, strict=True)):
            if n not in winners:
                assert result["code"] == "unprocessable entity"
                assert f"is type {word}, already exists as type {won} dropped={n + 1}" in result["message"]
        assert await cluster.rows(f"m{attempt}") == 1 + winners[0]


async def test_a_write_sent_to_several_ingests_is_stored_once_with_one_result(cluster: Cluster) -> None:
    first = cluster.ingests[0]
    item, body = first.item(b"m v=1i 1\nm v=1 2\nbad\nm w=1 3")
    results = await asyncio.gather(*(ingest.send([({**item, "attempt": n}, body)]) for n, ingest in
                                     enumerate(cluster.ingests)))  # fmt: skip
    assert Counter(result[0]["message"] for result in results).most_common(1)[0][1] == 3
    assert results[0][0]["details"] == {"dropped": 2}
    assert await cluster.rows("m") == 2


async def test_series_made_by_one_ingest_are_written_to_by_all(cluster: Cluster) -> None:
    for step in range(3):
        body = b"\n".join(b"m,host=h%d v=1 %d" % (host, step) for host in range(200))
        for ingest in cluster.ingests:
            assert await ingest.write(body) is None
    assert await cluster.rows("m") == 600


async def test_a_bucket_that_does_not_live_is_404(cluster: Cluster) -> None:
    ingest = cluster.ingests[0]
    ingest.auth.buckets["late"] = Bucket("00000000000000b2", ORG, "late", 0, WEEK_NS)
    result = await ingest.write(b"m v=1", "v2", params={"org": "o", "bucket": "late"})
    assert (result["code"], result["message"]) == ("not found", 'bucket "late" not found')
