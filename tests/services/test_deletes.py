"""Deletes in a running storage: compaction works them in, tombstones settle, a kill leaves all or nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import Invalid, Unavailable
from common.segment import Block
from common.tombstones import encode_choice
from services.storage.changes import deletes as deletes_module
from services.storage.compaction import compaction as compaction_module
from services.storage.storage import Storage
from services.storage.sweep import sweeper as sweeper_module
from tests.services.storage_parts import BUCKET, SHARD_NS, Calls, Process, make_block, running, series_ids

SERIES = series_ids(5)
KILL_ROUNDS = 6
SWEEP_ROUNDS = 200


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_module, "INTERVAL_S", 0.02)
    monkeypatch.setattr(compaction_module, "DELETE_WAIT_S", 0.0)
    monkeypatch.setattr(sweeper_module, "INTERVAL_S", 0.02)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


async def delete(
    calls: Calls, *names: str, start: int = 0, stop: int = SHARD_NS, generation: int | None = None, choice: bytes = b""
) -> int:
    head = {
        "bucket_id": BUCKET,
        "start_ns": start,
        "stop_ns": stop,
        "measurements": [[name, generation] for name in names or ("cpu",)],
    }
    parts = [] if generation is None else [choice]
    return int((await calls.query.call(calls.url, "storage.delete", head, parts)).head["number"])


def choice_of(*numbers: int) -> bytes:
    mask = np.zeros(5, np.bool_)
    mask[list(numbers)] = True
    return encode_choice(mask)


def is_settled(storage: Storage) -> bool:
    return not storage.state.unsettled


async def test_compaction_works_a_delete_in_and_the_tombstone_settles(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        for n in range(12):
            await calls.append(make_block(SERIES, range(10 * n, 10 * n + 10)))
        generation = (await calls.plan())["series"][0]
        number = await delete(calls, start=20, stop=50, generation=generation, choice=choice_of(0, 3))
        assert [stone[:3] for stone in (await calls.plan())["tombstones"]] == [[number, 20, 50]]
        await calls.append(make_block(SERIES[:1], [30], [7]))
        await until(lambda: is_settled(storage))
        points = await calls.points()
        expected = {(high, time) for high in SERIES[:, 0].tolist() for time in range(120)}
        gone = {(int(SERIES[n, 0]), time) for n in (0, 3) for time in range(20, 50)} - {(int(SERIES[0, 0]), 30)}
        assert points.keys() == expected - gone
        assert points[int(SERIES[0, 0]), 30] == 7
        # Both series have rows left: nothing is in doubt any more.
        await until(lambda: not storage.state.settled)
        assert (await calls.plan())["tombstones"] == []
    async with running(tmp_path) as (calls, storage):
        assert (await calls.points()) == points
        assert (await calls.plan())["tombstones"] == []


async def test_a_measurement_of_which_nothing_is_left_goes(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        await calls.append(make_block(SERIES, range(10)), make_block(SERIES, range(10), measurement="mem"))
        generation = (await calls.plan())["series"][0]
        await delete(calls, generation=generation, choice=choice_of(0, 1, 2, 3, 4))
        await until(lambda: storage.state.find(BUCKET, "cpu") is None)
        await delete(calls, "mem", start=0, stop=10)  # all that it holds: at once
        assert await calls.plan("mem") == {}
        await until(lambda: not storage.state.dropped)
        await calls.append(make_block(SERIES, [3]))
        assert (await calls.plan())["series"][0] != generation
        # What was chosen of the old one says nothing of the new one.
        await delete(calls, generation=generation, choice=choice_of(0))
        assert len(await calls.points()) == 5


async def test_deletes_with_no_write_between_them_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_module, "DELETE_WAIT_S", 100.0)
    async with running(tmp_path) as (calls, _):
        await calls.make_bucket()
        await calls.append(make_block(SERIES, range(10)))
        generation = (await calls.plan())["series"][0]
        for n in range(4):
            await delete(calls, stop=5, generation=generation, choice=choice_of(n))
        [stone] = (await calls.plan())["tombstones"]
        assert stone[3] == choice_of(0, 1, 2, 3)
        await calls.append(make_block(SERIES, range(10)))
        await delete(calls, stop=5, generation=generation, choice=choice_of(4))
        assert len((await calls.plan())["tombstones"]) == 2
        await delete(calls, stop=6)  # says all that they say
        assert len((await calls.plan())["tombstones"]) == 1


async def test_too_many_deletes_wait_for_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletes_module, "MAX_TOMBSTONES", 2)
    monkeypatch.setattr(compaction_module, "DELETE_WAIT_S", 100.0)
    async with running(tmp_path) as (calls, _):
        await calls.make_bucket()
        for n in range(3):
            await calls.append(make_block(SERIES, range(10)))
            if n < 2:
                await delete(calls, start=3 * n, stop=3 * n + 1)
        with pytest.raises(Unavailable, match="2 deletes in measurement 'cpu' wait for compaction"):
            await delete(calls, start=9, stop=10)


@pytest.mark.parametrize(
    "head",
    [{}, {"measurements": [["cpu"]]}, {"measurements": [["cpu", None], ["cpu", None]]}, {"stop_ns": 1 << 63}],
)
async def test_other_forms_are_refused(tmp_path: Path, head: dict[str, Any]) -> None:
    async with running(tmp_path) as (calls, _):
        whole = {"bucket_id": BUCKET, "start_ns": 0, "stop_ns": 1, "measurements": [["cpu", None]]}
        with pytest.raises(Invalid):
            await calls.query.call(calls.url, "storage.delete", whole | head if head else {})


def blocks_of(names: list[str]) -> list[Block]:
    return [make_block(SERIES, range(10), measurement=name) for name in names]


async def test_a_delete_that_is_killed_midway_is_done_whole_or_not_at_all(tmp_path: Path) -> None:
    """R20 of the reliability cases, over many measurements."""
    outcomes = await killed_deletes(tmp_path, KILL_ROUNDS)
    print(f"R20: {KILL_ROUNDS} rounds, {sum(outcomes)} deletes done, none in part")


async def killed_deletes(folder: Path, rounds: int) -> list[bool]:
    """Kill storage somewhere in a delete, again and again; returns which deletes were done. None was in part, and each
    that was acknowledged was done."""
    names = [f"m{n}" for n in range(40)]
    outcomes = []
    for round in range(rounds):
        process = Process(folder)
        async with process.calls(await asyncio.to_thread(process.url)) as calls:
            if not round:
                await calls.make_bucket()
            await calls.append(*blocks_of(names))
            call = asyncio.create_task(delete(calls, *names, start=0, stop=5))
            await asyncio.sleep(0.0008 * (round % 8))
            await asyncio.to_thread(process.end, signal.SIGKILL)
            acknowledged = not isinstance((await asyncio.gather(call, return_exceptions=True))[0], BaseException)
        process = Process(folder)
        async with process.calls(await asyncio.to_thread(process.url)) as calls:
            plans = [await calls.plan(name) for name in names]
            newest = max(segment[2]["deletes"] for plan in plans for segment in plan["segments"])
            hidden = {any(stone[0] > newest for stone in plan["tombstones"]) for plan in plans}
            assert len(hidden) == 1
            assert hidden == {True} or not acknowledged
            outcomes.append(hidden == {True})
        await asyncio.to_thread(process.end, signal.SIGKILL)
    return outcomes


async def test_a_sweep_of_what_expired_races_writes_to_it(tmp_path: Path) -> None:
    """R19: the points of a write are all there or all gone, and nothing fails."""
    kept = await raced_sweeps(tmp_path, SWEEP_ROUNDS)
    print(f"R19: {SWEEP_ROUNDS} rounds, {kept} writes there after their sweep, all whole; none left at the end")


async def raced_sweeps(folder: Path, rounds: int) -> int:
    """Write to a shard while it is swept, again and again; returns how many writes were there after their sweep."""
    kept = 0
    async with running(folder) as (calls, storage):
        await calls.make_bucket(retention_ns=SHARD_NS)
        for round in range(rounds):
            append = calls.append(make_block(SERIES, [round]))
            answer, _ = await asyncio.gather(append, storage.sweeper.expire())
            assert "number" in answer
            here = sum(time == round for _, time in await calls.points())
            assert here in (0, 5)
            kept += here == 5
        await storage.sweeper.expire()
        assert await calls.plan() == {}
        assert storage.state.find(BUCKET, "cpu") is None
    return kept
