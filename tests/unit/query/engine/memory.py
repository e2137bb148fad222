"""Storage in memory behind the reader, and a context over it: SELECTs run in process, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.budget import Budget
from common.dbrp import Mapping, MappingTable
from common.errors import Gone
from common.identity import Identity, operator_permissions
from common.model import Bucket
from common.rpc import wire
from common.rpc.client import Answer
from common.segment import Block, encode_block, encode_dictionary
from common.tombstones import Tombstone, encode_choice
from services.query.context import QueryContext
from services.query.reading.reader import Reader
from tests.unit.query.engine.points import WEEK_NS, Point, make_blocks, series_id, series_key

ORG = "0000000000000001"


@dataclass
class _Measurement:
    version: int = 0
    segments: list[list[Any]] = field(default_factory=list)
    series: dict[tuple[int, int], bytes] = field(default_factory=dict)
    tombstones: list[Tombstone] = field(default_factory=list)


class MemoryStorage:
    """Answers the calls of ``storage.*`` that the reader makes, in the shapes of docs/rpc.md."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, _Measurement]] = {}
        self.chunks: dict[int, list[bytes]] = {}
        self.calls: list[str] = []
        self.fetched: set[int] = set()
        self._number = 0

    def write(self, bucket_id: str, points: Sequence[Point], level: int = 0) -> None:
        """One commit."""
        series = {(p.measurement, series_id(p.measurement, p.tags)): series_key(p.tags) for p in points}
        for block in make_blocks(points, bucket_id):
            keys = {id: key for (name, id), key in series.items() if name == block.measurement}
            self.add(block, keys, level)

    def add(self, block: Block, keys: dict[tuple[int, int], bytes], level: int = 0) -> None:
        """One segment, and the keys of series that may be new."""
        self._number += 1
        measurement = self.buckets.setdefault(block.bucket_id, {}).setdefault(block.measurement, _Measurement())
        measurement.version += 1
        for id, key in keys.items():
            measurement.series.setdefault(id, key)
        meta, chunks = encode_block(block, level)
        # Deletes that came before hide nothing of it.
        meta["deletes"] = self._number
        self.chunks[self._number] = chunks
        measurement.segments.append([self._number, self._number, meta])

    def replace(self, bucket_id: str, name: str, block: Block) -> None:
        """All segments of a measurement become one; the old ones are gone at once."""
        measurement = self.buckets[bucket_id][name]
        for id, _, _ in measurement.segments:
            del self.chunks[id]
        measurement.segments = []
        self.add(block, {})

    def delete(self, bucket_id: str, name: str, start_ns: int, stop_ns: int, takes: Callable[[bytes], bool]) -> None:
        """Hide what there is of the series whose tag keys *takes* accepts."""
        self._number += 1
        measurement = self.buckets[bucket_id][name]
        measurement.version += 1
        mask = np.array([takes(key) for key in measurement.series.values()], np.bool_)
        measurement.tombstones.append(Tombstone(self._number, start_ns, stop_ns, encode_choice(mask)))

    async def call(self, url: str, method: str, head: Any, parts: Sequence[bytes] = (), **_: Any) -> Answer:
        self.calls.append(method)
        head = wire.decode_head(wire.encode_head(head))
        answer = getattr(self, method.replace("storage.", "_"))(head)
        return Answer(wire.decode_head(wire.encode_head(answer[0])), answer[1])

    @asynccontextmanager
    async def stream(self, url: str, method: str, head: Any, **_: Any) -> AsyncIterator[Any]:
        answer = await self.call(url, method, head)

        class Streamed:
            head = answer.head

            async def parts(self) -> AsyncIterator[bytes]:
                for part in answer.parts:
                    yield part

        yield Streamed()

    def _plan(self, head: Any) -> tuple[Any, list[bytes]]:
        found = self.buckets.get(head["bucket_id"], {})
        answers = {}
        for name, version in head["measurements"].items():
            if name in found:
                held = found[name]
                answers[name] = None if held.version == version else {
                    "version": held.version, "segments": held.segments,
                    "tombstones": [stone.to_wire() for stone in held.tombstones],
                    "series": [7, len(held.series)],
                }  # fmt: skip
        return {"number": self._number, "measurements": answers}, []

    def _series(self, head: Any) -> tuple[Any, list[bytes]]:
        series = self.buckets[head["bucket_id"]][head["measurement"]].series
        after = head["after"] if head["generation"] == 7 else 0
        items = list(series.items())[after:]
        ids = np.array([id for id, _ in items], np.uint64).reshape(-1, 2)
        return {"generation": 7, "count": len(series)}, [encode_dictionary(ids, [key for _, key in items])]

    def _fetch(self, head: Any) -> tuple[Any, list[bytes]]:
        if any(id not in self.chunks for id, _ in head["chunks"]):
            raise Gone("segment is gone")
        self.fetched.update(id for id, _ in head["chunks"])
        return {}, [self.chunks[id][index] for id, indexes in head["chunks"] for index in indexes]

    def _measurements(self, head: Any) -> tuple[Any, list[bytes]]:
        found = self.buckets.get(head["bucket_id"], {})
        version = sum(measurement.version for measurement in found.values())
        if version == head["version"]:
            return {"version": version}, []
        listed = []
        for name in sorted(found):
            fields = {
                (meta["shard"][0], entry[2], entry[3])
                for _, _, meta in found[name].segments
                for entry in meta["chunks"][3:]
            }
            listed.append([name, len(found[name].series), [list(each) for each in sorted(fields)], False])
        return {"version": version, "measurements": listed}, []


class _Mappings:
    def __init__(self, table: MappingTable) -> None:
        self._table = table

    async def of_org(self, org_id: str, *, confirm: bool = False) -> MappingTable:
        return self._table


def bucket_of(database: str, policy: str, retention_ns: int = 0) -> Bucket:
    return Bucket(f"{database}/{policy}", ORG, f"{database}/{policy}", retention_ns, WEEK_NS)


def make_context(
    storage: MemoryStorage,
    database: str,
    policies: Iterable[str] = ("autogen",),
    policy: str = "",
    now_ns: int = 1_790_000_000_000_000_000,
    reader: Reader | None = None,
    retention_ns: int = 0,
) -> QueryContext:
    """A request of an operator; the first policy is the default one."""
    mappings = tuple(
        Mapping(database, name, i == 0, False, bucket_of(database, name, retention_ns))
        for i, name in enumerate(policies)
    )
    identity = Identity("token", "0000000000000002", "0000000000000003", ORG, operator_permissions())
    reader = reader or Reader(storage, "memory:", Budget(1 << 30))  # type: ignore[arg-type]
    return QueryContext(identity, database, policy, now_ns, _Mappings(MappingTable(mappings)), reader)
