"""Series that have lost their last row are gone: from the dictionary, from counts and limits, from what queries see."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.budget import Budget
from common.errors import Gone
from common.model import MAX_TIME_NS, MIN_TIME_NS, Bucket
from common.segment import decode_dictionary
from common.tombstones import encode_choice
from services.query.reading.held import Measured
from services.query.reading.reader import Reader
from services.query.removal.deletes import delete_chosen
from services.storage.compaction import compaction as compaction_module
from services.storage.config import StorageSettings
from services.storage.state.measurement import Measurement
from services.storage.storage import Storage
from services.storage.sweep import reclaim as reclaim_module
from services.storage.sweep import renumber as renumber_module
from services.storage.sweep import sweeper as sweeper_module
from services.storage.sweep.reclaim import is_worth
from services.storage.sweep.renumber import Switch
from services.storage.sweep.sweeper import Sweeper
from tests.services.storage_parts import BUCKET, SHARD_NS, Calls, calls_of, keys_of, make_block, running, series_ids
from tests.services.test_compaction import listening
from tests.services.test_deletes import delete, until

SERIES = series_ids(5)
KEPT = [1, 2, 4]
PLACE = Bucket(BUCKET, "", "", 0, SHARD_NS)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_module, "INTERVAL_S", 0.02)
    monkeypatch.setattr(compaction_module, "DELETE_WAIT_S", 0.0)
    monkeypatch.setattr(sweeper_module, "INTERVAL_S", 0.02)


def cpu(storage: Storage) -> Measurement:
    found = storage.state.find(BUCKET, "cpu")
    assert found is not None
    return found


async def keys(calls: Calls) -> list[bytes]:
    """All keys of the dictionary, in order of their series' numbers."""
    head = {"bucket_id": BUCKET, "measurement": "cpu", "generation": -1, "after": 0}
    parts = (await calls.query.call(calls.url, "storage.series", head)).parts
    return [key for part in parts for key in decode_dictionary(part)[1]]


async def fill(calls: Calls) -> None:
    await calls.make_bucket()
    await calls.append(make_block(SERIES, range(10)))


async def delete_series(calls: Calls, storage: Storage, *numbers: int) -> None:
    mask = np.zeros(cpu(storage).series.count, np.bool_)
    mask[list(numbers)] = True
    await delete(calls, generation=cpu(storage).generation, choice=encode_choice(mask))


async def empty_two(calls: Calls, storage: Storage) -> None:
    """Of five series the first and the fourth are deleted, and go."""
    await delete_series(calls, storage, 0, 3)
    await until(lambda: cpu(storage).series.count == len(KEPT) and not storage.state.stale)


async def test_a_series_whose_points_are_deleted_goes_and_comes_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        before = await calls.plan()
        await empty_two(calls, storage)
        assert await keys(calls) == [keys_of(SERIES)[n] for n in KEPT]
        plan = await calls.plan(held=before["version"])
        assert "gone" not in plan
        assert plan["series"] == [cpu(storage).generation, 3] != before["series"]
        assert plan["tombstones"] == []
        assert {high for high, _ in await calls.points()} == set(SERIES[KEPT, 0].tolist())
        # An ingest that remembers them is asked for their tags.
        answer = await calls.append(make_block(SERIES, [20]), new=[])
        assert np.frombuffer(answer["retry"]["unknown"][0][1], np.int64).tolist() == [0, 3]
        await calls.append(make_block(SERIES, [20]))
        expected = await calls.points()
        assert await keys(calls) == [keys_of(SERIES)[n] for n in (*KEPT, 0, 3)]
    async with running(tmp_path) as (calls, storage):
        assert await calls.points() == expected
        assert len(await keys(calls)) == 5
        assert not storage.state.damage


async def test_a_delete_by_numbers_that_have_changed_is_refused_and_chosen_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        reader = Reader(calls.query, calls.url, Budget(1 << 30))
        old = await reader.measured(PLACE, "cpu")
        assert old is not None
        await empty_two(calls, storage)
        with pytest.raises(Gone):
            await delete(calls, generation=old.generation, choice=encode_choice(np.ones(1, np.bool_)))

        class Late(Reader):
            """Sees once what was before."""

            async def measured(self, bucket: Bucket, name: str) -> Measured | None:
                nonlocal old
                found, old = old, None
                return found or await super().measured(bucket, name)

        late = Late(calls.query, calls.url, Budget(1 << 30))
        chosen = keys_of(SERIES)[2].decode().removeprefix("host=")

        def choose(measured: Measured) -> Any:
            return measured.table.codes["host"] == list(measured.table.words["host"]).index(chosen)

        await delete_chosen(late, PLACE, ["cpu"], choose, MIN_TIME_NS, MAX_TIME_NS + 1)
        await until(lambda: cpu(storage).series.count == 2)
        assert await keys(calls) == [keys_of(SERIES)[n] for n in (1, 4)]


async def test_a_query_under_way_reads_on_with_the_numbers_that_it_began_with(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        reader = Reader(calls.query, calls.url, Budget(1 << 30))
        old = await reader.measured(PLACE, "cpu")
        assert old is not None
        await empty_two(calls, storage)
        new = await reader.measured(PLACE, "cpu")
        assert new is not None
        assert (old.table.count, new.table.count, new.living.count) == (5, 3, 3)
        for measured, rows in ((old, 50), (new, 30), (old, 50), (new, 30)):
            _, pieces = await reader.pieces(measured, ["value"], 0, SHARD_NS)
            assert sum(len(piece.times) for piece in pieces) == rows
            assert max(int(piece.series.max()) for piece in pieces) == measured.table.count - 1


async def test_what_is_written_while_the_dictionary_is_copied_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that was without rows is written, a new one comes, another is deleted in part."""
    more = series_ids(2, seed=3)
    run = Switch.run
    copied: list[int] = []

    def first_time_too_much(job: Switch, *arguments: Any) -> Any:
        copied.append(job._renumbering.series.count)
        return None if len(copied) == 1 else run(job, *arguments)

    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        copy = renumber_module.Renumbering._copy

        async def write_after(self: Any, olds: Any) -> None:
            await copy(self, olds)
            if len(olds) == len(KEPT):
                await calls.append(make_block(SERIES[:1], [30]))
                await calls.append(make_block(more, [30]))
                mask = np.zeros(5, np.bool_)
                mask[[1, 3]] = True
                await delete(calls, stop=5, generation=self.found.generation, choice=encode_choice(mask))

        monkeypatch.setattr(Switch, "run", first_time_too_much)
        monkeypatch.setattr(renumber_module.Renumbering, "_copy", write_after)
        await delete_series(calls, storage, 0, 3)
        await until(lambda: cpu(storage).epoch > 0)
        order = [*(keys_of(SERIES)[n] for n in (*KEPT, 0)), *keys_of(more)]
        assert (await keys(calls))[: len(order)] == order
        await until(lambda: not storage.state.unsettled)
        points = await calls.points()
        expected = {(int(SERIES[n, 0]), at) for n in KEPT for at in range(5 if n == 1 else 0, 10)}
        assert points.keys() == expected | {(int(id), 30) for id in (SERIES[0, 0], *more[:, 0])}


def sweeper_at(storage: Storage, now_ns: int) -> Sweeper:
    """One to which it is *now_ns*, and which keeps nothing that is replaced."""
    parts = (storage.catalog, storage.state, storage.committer, storage.reclaimer)
    return Sweeper(*parts, keep_ms=0, now_ms=lambda: now_ns // 1_000_000)


async def test_what_is_written_just_before_the_new_numbers_are_in_force_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = renumber_module.Renumbering._copy
    calls_of_copy: list[int] = []

    async def write_late(self: Any, olds: Any) -> None:
        await copy(self, olds)
        calls_of_copy.append(len(olds))
        if len(calls_of_copy) == 3:  # the segments have been looked at, and those born since are copied
            await calls.append(make_block(SERIES[:1], [30]))
            await calls.append(make_block(fresh, [30]))

    fresh = series_ids(1, seed=9)
    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        monkeypatch.setattr(renumber_module.Renumbering, "_copy", write_late)
        await delete_series(calls, storage, 0, 3)
        await until(lambda: cpu(storage).epoch > 0)
        assert calls_of_copy == [3, 0, 0]
        assert await keys(calls) == [*(keys_of(SERIES)[n] for n in (*KEPT, 0)), *keys_of(fresh)]


async def test_containers_that_come_and_go_leave_nothing_under_retention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 shards of 20 series each, of which three live at a time, beside one that stays: never over a limit of 100."""
    for module in (compaction_module, sweeper_module):
        monkeypatch.setattr(module, "INTERVAL_S", 60.0)
    first = time.time_ns() // SHARD_NS + 1
    stays = series_ids(1, seed=1000)
    async with running(tmp_path, max_series_per_bucket=100) as (calls, storage):
        await calls.make_bucket(retention_ns=2 * SHARD_NS)
        counts, sizes = [], []
        for shard in range(first, first + 60):
            fresh = series_ids(20, seed=shard)
            answer = await calls.append(make_block(fresh, shard=shard), make_block(stays, [shard], shard=shard), new=[
                (make_block(fresh), ids, keys_of(ids)) for ids in [np.concatenate((fresh, stays))]
            ])  # fmt: skip
            assert "number" in answer
            await sweeper_at(storage, (shard + 1) * SHARD_NS).sweep()
            counts.append(cpu(storage).series.count)
            sizes.append(len(cpu(storage).series.runs))
        assert max(counts) <= 61
        assert max(sizes) <= 8
        assert cpu(storage).epoch >= 20
        await sweeper_at(storage, time.time_ns()).sweep()
        assert not storage.state.stale
        pieces = await storage.catalog.list_pieces(cpu(storage).generation)
        assert sum(count for _, count, _ in pieces) == counts[-1]
        assert len(await keys(calls)) == counts[-1]
        assert cpu(storage).tombstones == ()
    async with running(tmp_path, max_series_per_bucket=100) as (_, storage):
        assert cpu(storage).series.count == counts[-1]


# Statements that make storage kill itself at a step of the first time that series go.
STEPS = {
    "nothing is copied yet": "Copy.run = die",
    "copied": "Switch.run = die",
    "half of the transaction is written": "SqliteTransaction.set_epoch = die",
    "the transaction is on disk": "State.renumber = die",
    "in force": "renumber = State.renumber; State.renumber = lambda *a: (renumber(*a), die())",
    "the old pieces are half deleted": (
        "sweeper.SLICE_PIECES = 1; run_slice = DeleteStale.run\n"
        "DeleteStale.run = lambda job, transaction, draft: (\n"
        "    run_slice(job, transaction, draft), draft.then(lambda state: die())\n"
        ")"
    ),
}
RUN = """
import os
from common.web import run
from services.storage.compaction import compaction
from services.storage.sweep import sweeper
from services.storage.__main__ import main
from services.storage.sweep.renumber import Copy, Switch
from services.storage.sqlite.transaction import SqliteTransaction
from services.storage.state.state import State
from services.storage.sweep.sweeper import DeleteStale
compaction.INTERVAL_S = sweeper.INTERVAL_S = 0.02
compaction.DELETE_WAIT_S = 0.0
def die(*args, **options):
    os.kill(os.getpid(), 9)
{step}
run(main)
"""


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_series_go_at_the_next_start(step: str, tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        for n in range(len(SERIES)):  # a piece each
            await calls.append(make_block(SERIES[n : n + 1], range(10)))
        generation = cpu(storage).generation
    environment = {**os.environ, "TIDEGATE_DATA": str(tmp_path), "TIDEGATE_STORAGE_PORT": "0"}
    child = subprocess.Popen(
        [sys.executable, "-c", RUN.format(step=STEPS[step])], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        url = await asyncio.to_thread(listening, child)
        async with calls_of(url, StorageSettings(data=tmp_path)) as calls:
            mask = np.zeros(5, np.bool_)
            mask[[0, 3]] = True
            await delete(calls, generation=generation, choice=encode_choice(mask))
            assert await asyncio.to_thread(child.wait, 15) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
        assert child.stderr is not None
        child.stderr.close()
    async with running(tmp_path) as (calls, storage):
        await until(lambda: cpu(storage).series.count == len(KEPT) and not storage.state.stale)
        assert not storage.state.damage
        assert await keys(calls) == [keys_of(SERIES)[n] for n in KEPT]
        assert (await calls.points()).keys() == {(int(SERIES[n, 0]), at) for n in KEPT for at in range(10)}
        assert await storage.catalog.list_pieces(generation) == []


async def test_series_in_quarantine_are_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        await calls.append(make_block(SERIES, shard=3))
        await storage.segments.quarantine(max(cpu(storage).segments), "a test")
        await delete_series(calls, storage, 0, 3)
        await until(lambda: not storage.state.unsettled)
        await storage.reclaimer.reclaim()
        assert cpu(storage).series.count == 5


async def test_what_is_not_worth_it_is_narrowed_to_what_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaim_module, "is_worth", never_worth)
    async with running(tmp_path) as (calls, storage):
        await fill(calls)
        await delete_series(calls, storage, 0, 1, 3)
        await calls.append(make_block(SERIES[1:2], [30]))
        empty = np.zeros(5, np.bool_)
        empty[[0, 3]] = True
        await until(lambda: [stone.series for stone in cpu(storage).tombstones] == [encode_choice(empty)])
        living = await Reader(calls.query, calls.url, Budget(1 << 30)).series(PLACE, "cpu")
        assert living.count == 3


def never_worth(*_: int, **__: bool) -> bool:
    return False


def test_it_is_worth_it_for_small_ones_many_or_near_the_limit() -> None:
    assert not is_worth(0, 0, is_near_limit=True)
    assert is_worth(1, 64, is_near_limit=False)
    assert not is_worth(1, 65, is_near_limit=False)
    assert not is_worth(20_000, 100_000, is_near_limit=False)
    assert is_worth(25_000, 100_000, is_near_limit=False)
    assert is_worth(2_000, 100_000, is_near_limit=True)
