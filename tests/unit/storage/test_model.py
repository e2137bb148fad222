"""Any sequence of appends, overwrites, merges, drops and restarts reads back as a dict would."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from common.merge import merge_blocks
from common.segment import decode_block, encode_block, encode_dictionary
from services.storage import storage as wiring
from services.storage.append import Append, decode_append
from services.storage.config import StorageSettings
from services.storage.plan import find_plan
from services.storage.records import ChangeRecords, decode_change
from services.storage.segments import NewSegment
from services.storage.storage import Storage
from tests.services.storage_parts import ALL, keys_of, make_block, series_ids, write_id

IDS = series_ids(6)
BUCKETS = ("000000000000000a", "000000000000000b")
Points = dict[tuple[str, int, int], int]

appends = st.tuples(
    st.just("append"),
    st.sampled_from(BUCKETS),
    st.sets(st.integers(0, 5), min_size=1),
    st.integers(0, 3),
    st.integers(0, 99),
)
together = st.tuples(st.just("together"), st.lists(appends, min_size=2, max_size=4))
merges = st.tuples(st.just("merge"), st.sampled_from(BUCKETS), st.integers(0, 3), st.integers(2, 4))
drops = st.tuples(st.just("drop"), st.sampled_from(BUCKETS))
steps = st.lists(appends | together | merges | drops | st.tuples(st.just("restart")), max_size=14)


class NoCompaction:
    """The test merges by itself."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


class Subject:
    """A storage without its HTTP, and what a dict says that it holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.points: Points = {}

    async def open(self) -> None:
        self.storage = Storage(StorageSettings(data=self._folder, storage_reserve_bytes=0), CollectorRegistry())
        await self.storage.open()

    async def restart(self) -> None:
        await self.storage.close()
        await self.open()

    async def change(self, **head: Any) -> None:
        await self.storage.committer.submit(ChangeRecords(decode_change(head)))

    async def append(self, bucket: str, chosen: set[int], time: int, value: int) -> None:
        ids = IDS[sorted(chosen)]
        block = make_block(ids, [time], [value] * len(ids), bucket=bucket)
        meta, chunks = encode_block(block, 0)
        head = {"writes": [[write_id(), None]], "blocks": [meta], "new_series": [[bucket, "cpu", len(ids)]]}
        request = decode_append(head, [b"".join(chunks), encode_dictionary(ids, keys_of(ids))])
        answer = await self.storage.committer.submit(Append(request, 0))
        assert "number" in answer

    def expect(self, bucket: str, chosen: set[int], time: int, value: int) -> None:
        self.points.update({(bucket, int(IDS[series, 0]), time): value for series in chosen})

    async def together(self, steps: list[tuple[Any, ...]]) -> None:
        await asyncio.gather(*(self.append(*step[1:]) for step in steps))
        for step in steps:  # they were queued in this order
            self.expect(*step[1:])

    async def merge(self, bucket: str, first: int, count: int) -> None:
        measurement = self.storage.state.find(bucket, "cpu")
        shards = [s for s in self.storage.segments.by_shard() if measurement and s.measurement == measurement.id]
        for shard in shards:
            olds = shard.segments[first : first + count]
            if not olds:
                return
            blocks = [decode_block(*await self.storage.segments.read_segment(old.id)) for old in olds]
            await self.storage.segments.replace(
                [old.id for old in olds], [NewSegment(*encode_block(merge_blocks(blocks), 1))]
            )

    async def drop(self, bucket: str) -> None:
        await self.change(drop_buckets=[bucket])
        self.points = {point: value for point, value in self.points.items() if point[0] != bucket}

    async def stored(self) -> Points:
        points: Points = {}
        for bucket in BUCKETS:
            plan = find_plan(self.storage.state, {"bucket_id": bucket, "measurements": {"cpu": -1}, **ALL})
            found = plan.measurements.get("cpu")
            for segment in found.segments if found else ():
                block = decode_block(*await self.storage.segments.read_segment(segment.id))
                series = np.repeat(block.series[:, 0], np.diff(block.offsets)).tolist()
                values: Any = block.columns[0].values
                for high, time, value in zip(series, block.times.tolist(), values.tolist(), strict=True):
                    points[bucket, high, time] = value
        return points


async def run(steps: list[tuple[Any, ...]], folder: Path) -> None:
    subject = Subject(folder)
    await subject.open()
    try:
        await subject.change(puts=[{"kind": "bucket", "id": bucket, "body": {}} for bucket in BUCKETS])
        for name, *arguments in steps:
            await getattr(subject, name)(*arguments)
            if name == "append":
                subject.expect(*arguments)
            assert await subject.stored() == subject.points
        await subject.restart()
        assert await subject.stored() == subject.points
    finally:
        await subject.storage.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_what_is_stored_is_what_a_dict_would_hold(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[Any, ...]]
) -> None:
    monkeypatch.setattr(wiring, "Compaction", NoCompaction)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(steps, Path(folder)))
