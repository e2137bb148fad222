"""Any sequence of appends, overwrites, deletes, merges, expiries, drops, sweeps, restarts and kills reads back as a
dict would."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from common.board import word_of
from common.merge import filter_rows
from common.rpc import wire
from common.segment import Block, decode_block, encode_block, encode_dictionary
from common.tombstones import encode_choice, hidden_rows, is_chosen, pending, unite
from services.query.reading.board import Board, Stamp
from services.storage import storage as wiring
from services.storage.changes.append import Append
from services.storage.changes.append_request import decode_append
from services.storage.changes.deletes import Delete, SettleDeletes, decode_delete
from services.storage.changes.records import ChangeRecords, decode_change
from services.storage.compaction.compactor import merge_segments
from services.storage.compaction.sources import with_hidden
from services.storage.config import StorageSettings
from services.storage.reading.plan import answer_measurements, find_plan
from services.storage.reading.segments import NewSegment
from services.storage.storage import Storage
from services.storage.sweep.reclaim import Narrow
from services.storage.sweep.renumber import Switch
from services.storage.sweep.retention import ExpireShards
from services.storage.sweep.sweeper import DeleteDropped, DeleteReplaced, DeleteStale, ForgetResults
from tests.services.storage_parts import ALL, SHARD_NS, keys_of, make_block, series_ids, write_id

IDS = series_ids(6)
BUCKETS = ("000000000000000a", "000000000000000b")
FIELDS = ("one", "other")
Points = dict[tuple[str, int, int, str], int]  # bucket, upper half of the id, time, field

appends = st.tuples(
    st.just("append"),
    st.sampled_from(BUCKETS),
    st.sets(st.integers(0, 5), min_size=1),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sets(st.sampled_from(FIELDS), min_size=1),
    st.integers(0, 99),
)
together = st.tuples(st.just("together"), st.lists(appends, min_size=2, max_size=4))
merges = st.tuples(st.just("merge"), st.sampled_from(BUCKETS), st.integers(0, 3), st.integers(2, 4))
deletes = st.tuples(
    st.just("delete"),
    st.sampled_from(BUCKETS),
    st.none() | st.sets(st.integers(0, 5), min_size=1),
    st.integers(0, 2),
    st.integers(-1, 3),
    st.integers(0, 4) | st.just(SHARD_NS),
)
expiries = st.tuples(st.just("expire"), st.sampled_from(BUCKETS), st.integers(0, 2))
settles = st.tuples(st.just("settle"))
drops = st.tuples(st.just("drop"), st.sampled_from(BUCKETS))
others = st.tuples(st.sampled_from(("sweep", "restart", "kill", "reclaim", "half_reclaim")))
steps = st.lists(appends | together | deletes | merges | expiries | settles | drops | others, max_size=16)


class Nothing:
    """In the place of what runs in the background: the test merges, expires and sweeps by itself."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


class Subject:
    """A storage without its HTTP, and what a dict says that it holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.points: Points = {}
        self._board = Board(str(folder.parent))
        # What was told of each place on the board, and what the board said before that.
        self._told: dict[int, tuple[Stamp | None, Any]] = {}

    async def open(self) -> None:
        settings = StorageSettings(data=self._folder, storage_reserve_bytes=0, shared_memory=str(self._folder.parent))
        self.storage = Storage(settings, CollectorRegistry())
        await self.storage.open()

    async def close(self) -> None:
        await self.storage.close()
        self._board.close()

    async def restart(self) -> None:
        await self.storage.close()
        await self.open()

    async def kill(self) -> None:
        """What the disk holds at this moment is all that the next start finds."""
        with tempfile.TemporaryDirectory() as kept:
            await self.storage.committer.submit(ForgetResults(bytes(16)))  # nothing is under way now
            for file in self._folder.glob("tidegate.db*"):
                shutil.copy(file, kept)
            await self.storage.close()
            for file in self._folder.glob("tidegate.db*"):
                file.unlink()
            for file in Path(kept).iterdir():
                shutil.copy(file, self._folder)
        await self.open()

    async def sweep(self) -> None:
        """All that is no longer planned with goes, at once."""
        while await self.storage.committer.submit(DeleteReplaced(self.storage.state, 1 << 62)):
            pass
        while self.storage.state.stale:
            await self.storage.committer.submit(DeleteStale(next(iter(self.storage.state.stale))))
        for measurement in list(self.storage.state.dropped):
            while measurement in self.storage.state.dropped:
                await self.storage.committer.submit(DeleteDropped(self.storage.state, measurement))

    async def change(self, **head: Any) -> None:
        await self.storage.committer.submit(ChangeRecords(decode_change(head)))

    async def append(self, bucket: str, chosen: set[int], shard: int, time: int, fields: set[str], value: int) -> None:
        ids = IDS[sorted(chosen)]
        block = make_block(ids, [time], [value] * len(ids), bucket=bucket, shard=shard)
        columns = [replace(block.columns[0], name=field) for field in sorted(fields)]
        meta, chunks = encode_block(replace(block, columns=tuple(columns)), 0)
        head = {"writes": [[write_id(), None]], "blocks": [meta], "new_series": [[bucket, "cpu", len(ids)]]}
        request = decode_append(head, [b"".join(chunks), encode_dictionary(ids, keys_of(ids))])
        answer = await self.storage.committer.submit(Append(request, 0))
        assert "number" in answer

    def expect(self, bucket: str, chosen: set[int], shard: int, time: int, fields: set[str], value: int) -> None:
        at = shard * SHARD_NS + time
        self.points.update({(bucket, int(IDS[id, 0]), at, field): value for id in chosen for field in fields})

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
            assert measurement is not None
            number = self.storage.state.number
            sources = []
            for old in olds:
                _, chunks = await self.storage.segments.read_segment(old.id)
                meta, chunks = with_hidden(old, (old.meta, chunks), measurement)
                sources.append((wire.decode_head(meta), chunks))
            merged = [NewSegment(meta | {"deletes": number}, chunks) for meta, chunks in merge_segments(sources, 1000)]
            await self.storage.segments.replace([old.id for old in olds], merged)

    async def delete(self, bucket: str, chosen: set[int] | None, shard: int, first: int, length: int) -> None:
        start = shard * SHARD_NS + first
        measurement = self.storage.state.find(bucket, "cpu")
        entry: list[Any] = ["cpu", None]
        parts = []
        if chosen is not None:
            numbers = [-1] * 6 if measurement is None else measurement.series.find(IDS).tolist()
            mask = np.zeros(0 if measurement is None else measurement.series.count, np.bool_)
            mask[[numbers[series] for series in chosen if numbers[series] >= 0]] = True
            entry = ["cpu", 0 if measurement is None else measurement.generation]
            parts = [encode_choice(mask)]
        head = {"bucket_id": bucket, "start_ns": start, "stop_ns": start + length, "measurements": [entry]}
        await self.storage.committer.submit(Delete(decode_delete(head, parts)))
        ids = {int(IDS[series, 0]) for series in (range(6) if chosen is None else chosen)}
        self.points = {
            (at, id, time, field): value
            for (at, id, time, field), value in self.points.items()
            if not (at == bucket and id in ids and start <= time < start + length)
        }

    async def expire(self, bucket: str, shards: int) -> None:
        """The first *shards* are over."""
        await self.change(puts=[{"kind": "bucket", "id": bucket, "body": {"retention_ns": 1}}])
        while (job := ExpireShards(self.storage.state, shards * SHARD_NS + 1)).is_needed():
            await self.storage.committer.submit(job)
        await self.change(puts=[{"kind": "bucket", "id": bucket, "body": {}}])
        self.points = {
            point: value for point, value in self.points.items() if point[0] != bucket or point[2] >= shards * SHARD_NS
        }

    async def settle(self) -> None:
        job = SettleDeletes(self.storage.state)
        if job.is_needed():
            await self.storage.committer.submit(job)
            assert not job.is_needed()

    async def reclaim(self) -> None:
        """Series without rows go; those are left that a segment names, where no dictionary waits to be deleted."""
        await self.sweep()
        await self.storage.reclaimer.reclaim()
        for measurement in self.storage.state.by_id.values():
            if measurement.segments and measurement.id not in self.storage.state.unsettled:
                ids = [
                    decode_block(*await self.storage.segments.read_segment(id), ()).series
                    for id in measurement.segments
                ]
                assert measurement.series.count == len(np.unique(np.concatenate(ids), axis=0))
                assert measurement.settled is None

    async def half_reclaim(self) -> None:
        """Killed before the new numbers are in force."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Switch, "run", lambda *_: None)
            patch.setattr(Narrow, "run", lambda *_: None)
            await self.sweep()
            await self.storage.reclaimer.reclaim()
        await self.kill()

    async def drop(self, bucket: str) -> None:
        await self.change(drop_buckets=[bucket])
        self.points = {point: value for point, value in self.points.items() if point[0] != bucket}

    async def stored(self) -> Points:
        points: Points = {}
        for bucket in BUCKETS:
            plan = find_plan(self.storage.state, {"bucket_id": bucket, "measurements": {"cpu": -1}, **ALL})
            found = plan.measurements.get("cpu")
            for segment in found.segments if found else ():
                assert found is not None
                block: Block | None = decode_block(*await self.storage.segments.read_segment(segment.id))
                assert block is not None
                measurement = self.storage.state.find(bucket, "cpu")
                assert measurement is not None
                codes = measurement.series.find(block.series)
                stones = pending(found.tombstones, segment.applied, segment.min_time_ns, segment.max_time_ns)
                hidden = [(s.start_ns, s.stop_ns, is_chosen(s.series, codes)) for s in stones]
                block = filter_rows(block, ~hidden_rows(block, hidden))
                if block is None:
                    continue
                series = np.repeat(block.series[:, 0], np.diff(block.offsets)).tolist()
                for column in block.columns:
                    values: Any = column.values
                    has = [True] * block.rows if column.valid is None else column.valid.tolist()
                    for high, time, value, is_there in zip(
                        series, block.times.tolist(), values.tolist(), has, strict=True
                    ):
                        if is_there:
                            points[bucket, high, time, column.name] = value
            self.check_doubt(bucket, points)
        return points

    def check_board(self) -> None:
        """What query services hold of what was told before is still so, where the board says that it is."""
        state = self.storage.state
        asked: dict[int, Any] = {}
        for bucket in BUCKETS:
            head = {"bucket_id": bucket, "measurements": {"cpu": -1}, **ALL}
            asked[word_of(bucket, "cpu")] = find_plan(state, head).measurements
            asked[word_of(bucket)] = answer_measurements(state, {"bucket_id": bucket, "version": -1})
        for word, (stamp, before) in self._told.items():
            if self._board.holds(word, stamp):
                assert before == asked[word]
        stamps = {word: self._board.stamp(word) for word in asked}
        self._board.learn(
            None if self.storage.board.told is None else list(self.storage.board.told), self._board.now_s()
        )
        self._told = {word: (stamps[word], now) for word, now in asked.items()}

    def check_doubt(self, bucket: str, points: Points) -> None:
        """A series in no tombstone has points."""
        measurement = self.storage.state.find(bucket, "cpu")
        if measurement is not None:
            doubt = unite(stone.series for stone in measurement.tombstones) if measurement.tombstones else b"\x01"
            numbers = measurement.series.find(IDS)
            alive = {id for at, id, _, _ in points if at == bucket}
            for series in np.flatnonzero((numbers >= 0) & ~is_chosen(doubt, numbers)).tolist():
                assert int(IDS[series, 0]) in alive
            if not measurement.is_in_doubt:
                assert alive


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
            subject.check_board()
        await subject.restart()
        assert await subject.stored() == subject.points
        subject.check_board()
    finally:
        await subject.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_what_is_stored_is_what_a_dict_would_hold(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[Any, ...]]
) -> None:
    for background in ("Compaction", "Sweeper"):
        monkeypatch.setattr(wiring, background, Nothing)
    with tempfile.TemporaryDirectory() as folder:
        (data := Path(folder) / "data").mkdir()
        asyncio.run(run(steps, data))
