"""What the tests of storage stand on: blocks, a running storage, and the calls that ingest, query and auth make."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config import load_keys
from common.model import FieldType
from common.rpc.client import Answer, RpcClient
from common.segment import Block, Column, SeriesIds, StringArray, decode_block, encode_block, encode_dictionary
from common.web import Server
from services.storage.app import STORAGE, build
from services.storage.config import StorageSettings
from services.storage.storage import Storage

BUCKET = "00000000000000b1"
ALL = {"start_ns": -(1 << 62), "stop_ns": 1 << 62}
SHARD_NS = 10**15


def write_id(age_ms: int = 0) -> bytes:
    return (time.time_ns() // 1_000_000 - age_ms).to_bytes(8, "big") + secrets.token_bytes(8)


def series_ids(count: int, seed: int = 0) -> SeriesIds:
    """Different ids in ascending order."""
    ids = np.random.default_rng(seed).integers(0, 1 << 64, (count, 2), np.uint64)
    return ids[np.lexsort((ids[:, 1], ids[:, 0]))]


def keys_of(ids: SeriesIds) -> list[bytes]:
    """A tag key for each id."""
    return [b"host=h%d" % high for high, _ in ids.tolist()]


def make_block(
    ids: SeriesIds,
    times: Sequence[int] = (1,),
    values: Sequence[int] | None = None,
    *,
    bucket: str = BUCKET,
    measurement: str = "cpu",
    field: str = "value",
    type: FieldType = FieldType.INTEGER,
    shard: int = 0,
) -> Block:
    """The same *times* for each series; *values* one a row."""
    rows = len(ids) * len(times)
    numbers = np.arange(rows) if values is None else np.asarray(values)
    if type is FieldType.STRING:
        texts = [b"v%d" % number for number in numbers.tolist()]
        offsets = np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int64)
        column: Any = StringArray(offsets, np.frombuffer(b"".join(texts), np.uint8))
    else:
        column = numbers.astype({FieldType.INTEGER: np.int64, FieldType.FLOAT: np.float64}[type])
    return Block(
        bucket,
        measurement,
        shard * SHARD_NS,
        (shard + 1) * SHARD_NS,
        ids,
        np.arange(0, rows + 1, len(times), dtype=np.int64),
        np.tile(np.asarray(times, np.int64), len(ids)) + shard * SHARD_NS,
        (Column(field, type, column),),
    )


@dataclass
class Calls:
    """The other services' calls of one storage."""

    url: str
    ingest: RpcClient
    query: RpcClient
    auth: RpcClient

    async def append(
        self,
        *blocks: Block,
        id: bytes | None = None,
        new: Sequence[tuple[Block, SeriesIds, Sequence[bytes]]] | None = None,
        result: Any = None,
    ) -> Any:
        """The answer to one append; *new* None = the series of all blocks go along."""
        encoded = [encode_block(block, 0) for block in blocks]
        if new is None:
            new = [(block, block.series, keys_of(block.series)) for block in blocks]
        head = {
            "writes": [[id or write_id(), result]],
            "blocks": [meta for meta, _ in encoded],
            "new_series": [[block.bucket_id, block.measurement, len(ids)] for block, ids, _ in new],
        }
        parts = [b"".join(chunks) for _, chunks in encoded] + [encode_dictionary(ids, keys) for _, ids, keys in new]
        return (await self.ingest.call(self.url, "storage.append", head, parts)).head

    async def change(self, **head: Any) -> int:
        empty: dict[str, Any] = {"conditions": [], "puts": [], "deletes": [], "tags": [], "drop_buckets": []}
        answer = await self.auth.call(self.url, "storage.change_records", {**empty, **head})
        return int(answer.head["number"])

    async def make_bucket(self, id: str = BUCKET, **body: Any) -> int:
        return await self.change(puts=[{"kind": "bucket", "id": id, "body": body, "unique": [], "indexes": {}}])

    async def read(self, *reads: list[Any]) -> list[Any]:
        answer = await self.auth.call(self.url, "storage.read_records", {"reads": list(reads)})
        return list(answer.head["answers"])

    async def plan(self, measurement: str = "cpu", bucket: str = BUCKET, held: int = -1, **times: int) -> Any:
        """What is planned for one measurement; None = unchanged, {} = there is no such measurement."""
        head = {"bucket_id": bucket, "measurements": {measurement: held}, **ALL, **times}
        answer = await self.query.call(self.url, "storage.plan", head)
        return answer.head["measurements"].get(measurement, {})

    async def fetch(self, *chunks: tuple[int, Sequence[int]]) -> Answer:
        return await self.query.call(self.url, "storage.fetch", {"chunks": [[s, list(c)] for s, c in chunks]})

    async def blocks(self, measurement: str = "cpu", bucket: str = BUCKET) -> list[Block]:
        """All blocks of a measurement, the one that wins last."""
        plan = await self.plan(measurement, bucket)
        found = []
        for segment, _, meta in sorted(plan.get("segments", []), key=lambda entry: entry[1]):
            answer = await self.fetch((segment, range(len(meta["chunks"]))))
            found.append(decode_block(meta, answer.parts))
        return found

    async def points(self, measurement: str = "cpu", bucket: str = BUCKET) -> dict[tuple[int, int], int]:
        """(upper half of the id, time) → value of the first field, last write wins."""
        points: dict[tuple[int, int], int] = {}
        for block in await self.blocks(measurement, bucket):
            series = np.repeat(block.series[:, 0], np.diff(block.offsets))
            values: Any = block.columns[0].values
            points.update(zip(zip(series.tolist(), block.times.tolist(), strict=True), values.tolist(), strict=True))
        return points


@asynccontextmanager
async def calls_of(url: str, settings: StorageSettings) -> AsyncIterator[Calls]:
    keys = load_keys(settings)
    clients = [RpcClient(keys, name) for name in ("ingest", "query", "auth")]
    for client in clients:
        await client.open()
    try:
        yield Calls(url, *clients)
    finally:
        for client in clients:
            await client.close()


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[tuple[Calls, Storage]]:
    """A storage in this process, over HTTP."""
    chosen = StorageSettings(data=folder, storage_port=0, storage_reserve_bytes=0, **settings)
    app = build(chosen)
    server = Server(app, "127.0.0.1", 0)
    url = await server.start()
    try:
        async with calls_of(url, chosen) as calls:
            yield calls, app[STORAGE]
    finally:
        await server.stop()


class Process:
    """``python -m services.storage`` on *folder*.

    Args:
        before: a shell command that is run first, in the same process; ``$TIDEGATE_DATA`` is the folder.
        wrap: a command that runs all this.
    """

    def __init__(self, folder: Path, before: str = "true", wrap: Sequence[str] = (), **environment: str) -> None:
        self.folder = folder
        self._environment = environment
        self.child = subprocess.Popen(
            [*wrap, "sh", "-c", f"{before} && exec {sys.executable} -m services.storage"],
            env={**os.environ, "TIDEGATE_DATA": str(folder), "TIDEGATE_STORAGE_PORT": "0", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        """Where it listens; waits until it does."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            if '"listening"' in line:
                return str(json.loads(line)["url"])
        raise AssertionError("storage did not start")

    def calls(self, url: str) -> AbstractAsyncContextManager[Calls]:
        key = self._environment.get("TIDEGATE_INTERNAL_KEY", "")
        return calls_of(url, StorageSettings(data=self.folder, internal_key=key))

    def end(self, number: int = 0) -> int:
        """Its status, after a signal."""
        if number:
            self.child.send_signal(number)
        status = self.child.wait(15)
        assert self.child.stderr is not None
        self.child.stderr.close()
        return status
