"""Compaction in a real storage: what is read stays the same, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from common.model import FieldType
from common.rpc import wire
from common.segment import decode_block, encode_block
from services.storage.compaction import compaction as module
from services.storage.compaction.compaction import Compaction
from services.storage.compaction.compactor import merge_segments
from services.storage.compaction.levels import Limits
from services.storage.compaction.process import CompactorFailed, CompactorProcess
from services.storage.compaction.sources import Source
from services.storage.config import StorageSettings
from services.storage.storage import Storage
from tests.services.storage_parts import SHARD_NS, Calls, calls_of, make_block, running, series_ids
from tests.unit.common.blocks import TYPES, block_rows
from tests.unit.common.blocks import make_block as make_rows

SERIES = series_ids(5)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.02)
    monkeypatch.setattr(module, "RETRY_S", 0.02)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


def levels(storage: Storage) -> list[int]:
    return sorted(segment.level for segment in storage.state.segments())


def outcomes(storage: Storage, outcome: str) -> float:
    """How many merges ended so."""
    return storage._registry.get_sample_value("tidegate_storage_compactions_total", {"outcome": outcome}) or 0


async def fill(calls: Calls, count: int, **options: Any) -> dict[tuple[int, int], int]:
    """Commits that overlap each other; returns what is to be read then."""
    expected = {}
    for n in range(count):
        times = range(n, n + 3)
        block = make_block(SERIES, times, np.arange(15) + 100 * n, **options)
        assert "number" in await calls.append(block)
        values = iter((np.arange(15) + 100 * n).tolist())
        expected.update({(high, time): next(values) for high in SERIES[:, 0].tolist() for time in times})
    return expected


async def test_small_segments_become_one_and_read_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        expected = await fill(calls, 20)
        await until(lambda: len(levels(storage)) <= 8 and 0 not in levels(storage)[-1:])
        assert await calls.points() == expected
        # Appends go on over what was merged.
        newer = await fill(calls, 3)
        assert await calls.points() == {**expected, **newer}
    async with running(tmp_path) as (calls, storage):
        assert await calls.points() == {**expected, **newer}
        assert levels(storage)[-1] == 1


async def test_blocks_of_many_shards_do_not_wait_for_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 30)
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        for shard in range(29):
            await calls.append(make_block(SERIES, [1], shard=shard))
        await asyncio.sleep(0.1)
        assert levels(storage) == [0] * 29
        await calls.append(make_block(SERIES, [1], shard=30))
        await until(lambda: levels(storage) == [1] * 30)
        assert len(await calls.points()) == 150


async def test_a_block_over_the_limit_is_cut_by_time(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        expected = await fill(calls, 1)
        limits = Limits(rows=4)
        compaction = Compaction(
            storage.segments, lambda: list(storage.state.segments()), CollectorRegistry(), limits=limits
        )
        while await compaction.compact():
            pass
        compaction.process.end()
        segments = list(storage.state.segments())
        # 5 rows of one time are more than 4 too.
        assert sorted(segment.rows for segment in segments) == [2, 2, 2, 3, 3, 3]
        assert all(segment.min_time_ns == segment.max_time_ns for segment in segments)
        assert await calls.points() == expected


async def test_late_data_ends_as_slices_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backfill in any order over a shard: a query over a tenth of it reads few segments."""
    monkeypatch.setattr(module, "INTERVAL_S", 1000.0)  # only the one below compacts
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        draw = np.random.default_rng(4)
        expected: dict[tuple[int, int], int] = {}
        limits = Limits(rows=400, blocks=4, segments=4, overlap_rows=1600)
        compaction = Compaction(
            storage.segments, lambda: list(storage.state.segments()), CollectorRegistry(), limits=limits
        )
        tenth = {"start_ns": 4 * SHARD_NS // 10, "stop_ns": 5 * SHARD_NS // 10}
        read = []
        for at in range(64):
            times = np.sort(draw.choice(2000, 25, replace=False)) * (SHARD_NS // 2000)
            block = make_block(SERIES, times.tolist(), (np.arange(125) + 1000 * at).tolist())
            await calls.append(block)
            values = iter((np.arange(125) + 1000 * at).tolist())
            expected.update({(h, time): next(values) for h in SERIES[:, 0].tolist() for time in times.tolist()})
            while await compaction.compact():
                pass
            read.append(len((await calls.plan(**tenth))["segments"]))
        compaction.process.end()
        assert await calls.points() == expected
        # 8,000 rows written: without merging what overlaps 20 or more segments cover each moment.
        assert read[-1] <= 10, read


async def test_two_measurements_of_one_commit_are_merged_each_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        for n in range(10):
            await calls.append(*(make_block(SERIES, [n], measurement=name) for name in ("cpu", "mem")))
        await until(lambda: len(levels(storage)) <= 8)
        assert {len(block.times) for name in ("cpu", "mem") for block in await calls.blocks(name)} <= {40, 45, 50, 5}
        assert len(await calls.points("cpu")) == len(await calls.points("mem")) == 50


async def test_a_killed_compactor_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        await fill(calls, 10)
        await until(lambda: storage.compaction.process.pid is not None and len(levels(storage)) < 8)
        pid = storage.compaction.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        expected = await fill(calls, 12)
        await until(lambda: len(levels(storage)) < 8)
        assert expected.items() <= (await calls.points()).items()


async def test_a_merge_that_kills_the_compactor_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = CompactorProcess.call

    def deadly(self: CompactorProcess, merges: list[list[Source]], max_rows: int) -> Any:
        if any(wire.decode_head(meta)["measurement"] == "bad" for sources in merges for meta, _ in sources):
            raise CompactorFailed("killed")
        return ask(self, merges, max_rows)

    monkeypatch.setattr(CompactorProcess, "call", deadly)
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        for n in range(10):
            await calls.append(*(make_block(SERIES, [n], measurement=name) for name in ("bad", "good")))
        await until(lambda: any(level > 0 for level in levels(storage)))
        assert len(await calls.blocks("good")) < 10
        assert len(await calls.points("bad")) == len(await calls.points("good")) == 50


async def test_what_is_dropped_during_a_merge_stays_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()
    call = Compaction._call

    async def slow(self: Compaction, merges: list[list[Source]]) -> Any:
        asked.set()
        await go_on.wait()
        return await call(self, merges)

    monkeypatch.setattr(Compaction, "_call", slow)
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        await fill(calls, 10)
        await asked.wait()
        await calls.change(drop_buckets=["00000000000000b1"], deletes=[["bucket", "00000000000000b1"]])
        go_on.set()
        await until(lambda: outcomes(storage, "gone") == 1)
        assert levels(storage) == []
        assert outcomes(storage, "merged") == 0


async def test_the_compactor_ends_with_storage(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        await fill(calls, 9)
        await until(lambda: storage.compaction.process.pid is not None)
        pid = storage.compaction.process.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# Statements that make storage kill itself at a step of its first merge.
STEPS = {
    "sources are read": "compaction.Compaction._call = die",
    "the child has merged": "Segments.replace = die",
    "half of the transaction is written": "SqliteTransaction.add_segment = die",
    "the transaction is on disk": (
        "publish = Draft.publish\n"
        "Draft.publish = lambda draft, state: die() if draft._retired else publish(draft, state)"
    ),
    "the results are planned with": "retire = State.retire; State.retire = lambda *a: (retire(*a), die())",
}
RUN = """
import os
from common.web import run
from services.storage.compaction import compaction
from services.storage.__main__ import main
from services.storage.commits.draft import Draft
from services.storage.reading.segments import Segments
from services.storage.sqlite.transaction import SqliteTransaction
from services.storage.state.state import State
compaction.INTERVAL_S = 0.02
def die(*args, **options):
    os.kill(os.getpid(), 9)
{step}
run(main)
"""


@pytest.mark.parametrize("step", STEPS)
async def test_a_merge_killed_at_any_step_changes_nothing_that_is_read(step: str, tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, _):
        await calls.make_bucket()
        expected = await fill(calls, 7)
    environment = {**os.environ, "TIDEGATE_DATA": str(tmp_path), "TIDEGATE_STORAGE_PORT": "0"}
    child = subprocess.Popen(
        [sys.executable, "-c", RUN.format(step=STEPS[step])], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        url = await asyncio.to_thread(listening, child)
        async with calls_of(url, StorageSettings(data=tmp_path)) as calls:
            # The eighth block makes the first merge.
            await calls.append(make_block(SERIES, [77], [1] * 5))
            expected.update({(high, 77): 1 for high in SERIES[:, 0].tolist()})
            assert await asyncio.to_thread(child.wait, 15) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
        assert child.stderr is not None
        child.stderr.close()
    async with running(tmp_path, storage_keep_replaced_s=1) as (calls, storage):
        assert await calls.points() == expected
        await until(lambda: levels(storage) == [1] and not storage.state.retired and not storage.state.commits)
        assert await calls.points() == expected


def listening(child: subprocess.Popen[str]) -> str:
    """Where a storage listens; waits until it does."""
    assert child.stderr is not None
    for line in child.stderr:
        if '"listening"' in line:
            return str(json.loads(line)["url"])
    raise AssertionError("storage did not start")


def test_merged_segments_hold_the_last_value_of_each_field() -> None:
    first = {((1, 1), 1): {"i": 1, "f": 0.5, "s": b"a"}, ((1, 2), 1): {"b": True}}
    second = {((1, 1), 1): {"i": 2, "s": b""}, ((0, 9), 7): {"u": 2**64 - 1}}
    some = {name: TYPES[name] for name in "isu"}
    sources = [encode_block(make_rows(first, TYPES), 0), encode_block(make_rows(second, some), 1)]
    for max_rows in (10, 2, 1):
        results = merge_segments(sources, max_rows)
        rows: dict[Any, Any] = {}
        for meta, chunks in results:
            assert meta["level"] == 1
            rows |= block_rows(decode_block(meta, chunks))
        assert len(results) == -(-3 // max_rows)
        assert rows == {
            ((0, 9), 7): {"u": 2**64 - 1},
            ((1, 1), 1): {"i": 2, "f": 0.5, "s": b""},
            ((1, 2), 1): {"b": True},
        }


def test_a_source_that_cannot_be_merged_is_said() -> None:
    blocks = [
        make_rows({((1, 1), 1): {"v": value}}, {"v": kind})
        for value, kind in ((1, FieldType.INTEGER), (True, FieldType.BOOLEAN))
    ]
    sources = [(wire.encode_head(meta), chunks) for meta, chunks in (encode_block(block, 0) for block in blocks)]
    process = CompactorProcess()
    try:
        answers = process.call([sources, sources[:1]], 10)
    finally:
        process.end()
    assert isinstance(answers[0], str)
    assert "two types" in answers[0]
    assert not isinstance(answers[1], str)
    assert answers[1][0].meta["rows"] == 1
