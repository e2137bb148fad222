"""The query service's view of what is stored: plans, series and decoded columns.

Source: docs/rpc.md, "storage"; design, decisions 4, 8 and 16.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from common.board import word_of
from common.budget import Budget
from common.errors import Gone, Unavailable
from common.model import Bucket, FieldType
from common.rpc.client import RpcClient
from common.tombstones import Tombstone
from services.query.engine.frame import Piece, SeriesTable
from services.query.reading.board import Board, Stamp
from services.query.reading.columns import Columns, in_groups
from services.query.reading.held import Held, Measured, MeasurementInfo
from services.query.reading.liveness import Living, chunks_wanted, only, with_keys_of
from services.query.reading.plans import Plans
from services.query.reading.series_index import SeriesIndex
from services.query.reading.unit_cache import UnitCache
from services.query.reading.units import Segment, Unit

T = TypeVar("T")
# How often a query plans again because segments were replaced under it.
MAX_PLANS = 8
MAX_BUCKETS = 1_000
# Measurements that are looked at together.
MAX_TOGETHER = 64
# Decoded columns may take this part of the process's budget; the rest is for queries under way.
CACHE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class _Listed:
    """The measurements of a bucket as of *version*; *doubtful* are those in which deletes may have left no row."""

    version: int
    infos: list[MeasurementInfo]
    doubtful: frozenset[str]
    stamp: Stamp | None


class Reader:
    """Reads what storage has; one a process.

    Args:
        budget: of the process; what is kept is counted in it and given up when others need it.
        shared_memory: the folder of the board; empty = storage is asked each time.
    """

    def __init__(self, client: RpcClient, storage_url: str, budget: Budget, shared_memory: str = "") -> None:
        self._client = client
        self._url = storage_url
        self._budget = budget
        self._board = Board(shared_memory)
        self._listed: OrderedDict[str, _Listed] = OrderedDict()
        self._cache = UnitCache(budget, int(budget.limit_bytes * CACHE_SHARE))
        self._plans = Plans(client, storage_url, budget, self._cache, self._board)
        self._columns = Columns(client, storage_url, budget, self._cache)
        # Buckets of which a question is worked out while storage is asked.
        self._asked_aside: set[str] = set()

    @property
    def budget(self) -> Budget:
        return self._budget

    @property
    def sees_changes(self) -> bool:
        """Whether storage's changes are seen in shared memory."""
        return self._board.is_open

    def make_room(self, size: int) -> None:
        """Give up what is cached until *size* bytes fit the budget, as far as that helps."""
        self._cache.make_room_in_budget(size)

    # ------------------------------------------------------------ what there is

    async def measurements(self, bucket: Bucket) -> list[MeasurementInfo]:
        """All measurements of a bucket, names in byte order."""
        held, word = self._listed.get(bucket.id), word_of(bucket.id)
        if held is None or not self._board.holds(word, held.stamp):
            held = await self._list(bucket, held, word)
        self._listed.move_to_end(bucket.id)
        return await self._that_live(bucket, held.infos, held.doubtful)

    async def _list(self, bucket: Bucket, held: _Listed | None, word: int) -> _Listed:
        """The measurements of a bucket as storage tells them; *held* if that is still so."""
        head = {"bucket_id": bucket.id, "version": -1 if held is None else held.version}
        stamp, asked_s = self._board.stamp(word), self._board.now_s()
        answer = (await self._client.call(self._url, "storage.measurements", head)).head
        self._board.learn(answer.get("board"), asked_s)
        listed = answer.get("measurements")
        if listed is None and held is not None and answer["version"] == held.version:
            held = replace(held, stamp=stamp)
        else:
            infos = [
                MeasurementInfo(name, count, tuple((start, key, FieldType(type)) for start, key, type in fields))
                for name, count, fields, _ in listed or ()
            ]
            doubtful = frozenset(name for name, _, _, is_in_doubt in listed or () if is_in_doubt)
            held = _Listed(answer["version"], infos, doubtful, stamp)
        self._listed[bucket.id] = held
        if len(self._listed) > MAX_BUCKETS:
            self._listed.popitem(last=False)
        return held

    async def _that_live(
        self, bucket: Bucket, infos: list[MeasurementInfo], doubtful: frozenset[str]
    ) -> list[MeasurementInfo]:
        """*infos* without the doubtful ones in which deletes left no row."""
        if not doubtful:
            return infos
        names = sorted(doubtful)
        dead: set[str] = set()
        for start in range(0, len(names), MAX_TOGETHER):
            some = names[start : start + MAX_TOGETHER]
            found = await asyncio.gather(*(self.measured(bucket, name) for name in some))
            dead.update(name for name, measured in zip(some, found, strict=True) if measured is None)
        return [info for info in infos if info.name not in dead]

    async def series(self, bucket: Bucket, name: str) -> SeriesTable:
        """The series of a measurement that have rows, empty when there is none of that name."""
        measured = await self.measured(bucket, name)
        return SeriesIndex().table if measured is None else measured.living

    async def measured(self, bucket: Bucket, name: str) -> Measured | None:
        """The state of a measurement, not older than this call; None when there is none, or deletes left no row."""
        for _ in range(MAX_PLANS):
            await self._plans.refresh(bucket.id, name)
            held = self._plans.find(bucket.id, name)
            if held is None:
                return None
            if held.index.count < held.wanted_series:
                try:
                    await _undisturbed(held, partial(self._plans.read_series, bucket.id, name, held))
                except Gone:  # some are damaged, which the next plan hides, or all have other numbers now
                    held.version = -1
                    continue
            table, living = held.index.table, held.index.table
            shards, stones = held.shards, held.tombstones
            if stones:
                try:
                    found = _known_living(held, shards, stones)
                    if found is None:
                        found = await _undisturbed(held, partial(self._living, held, shards, stones))
                    table, living = found
                except Gone:
                    held.version = -1
                    continue
                if not living.count:
                    return None
            return Measured(bucket, name, table, shards, stones, living, held)
        raise Unavailable("cannot read: segments are replaced faster than they can be read")

    def unchanged(self, bucket: Bucket, name: str) -> Measured | None:
        """A measurement as it is held, if that was the newest when it was last asked for, and is worth to begin with;
        None else, and where the board tells: nobody has to be asked then."""
        if bucket.id in self._asked_aside or self._plans.is_asking(bucket.id) or self._plans.is_newest(bucket.id, name):
            return None
        held = self._plans.find(bucket.id, name)
        if held is None or not held.is_quiet or held.version < 0 or held.tombstones:
            return None
        if held.index.count < held.wanted_series:
            return None
        table = held.index.table
        return Measured(bucket, name, table, held.shards, held.tombstones, table, held)

    def ask_aside(self, bucket: Bucket, name: str) -> asyncio.Task[Measured | None]:
        """``measured``, in a task of its own: the caller's to wait for or to cancel."""
        asked = asyncio.create_task(self.measured(bucket, name))
        self._asked_aside.add(bucket.id)
        asked.add_done_callback(lambda _: self._asked_aside.discard(bucket.id))
        return asked

    async def _living(
        self, held: Held, shards: dict[tuple[int, int], list[Segment]], stones: tuple[Tombstone, ...]
    ) -> tuple[SeriesTable, SeriesTable]:
        """All series with the keys of the living ones, and the living ones alone. Raises Gone."""
        living = held.living
        if living is None or living.stones != stones:
            living = held.living = Living(stones)
        await asyncio.to_thread(living.grow, held.index.count)
        segments = [segment for found in shards.values() for segment in found]
        for group in in_groups(living.to_look_at(segments), lambda segment: chunks_wanted(segment, stones)):
            if living.alive.all():
                break
            asked = [(segment, chunks_wanted(segment, stones)) for segment in group]
            head = {"chunks": [[segment.id, indexes] for segment, indexes in asked]}
            parts = (await self._client.call(self._url, "storage.fetch", head)).parts
            await asyncio.to_thread(_learn, living, asked, parts, held.index)
        table, views = held.index.table, held.views
        if views is None or views[0] is not table or views[1] is not living.alive:
            alive = living.alive[: table.count]
            alone, all_series = await asyncio.to_thread(lambda: (only(table, alive), with_keys_of(table, alive)))
            views = held.views = (table, living.alive, alone, all_series)
        return views[3], views[2]

    async def delete(
        self, bucket: Bucket, entries: Sequence[Sequence[Any]], choices: Sequence[bytes], start_ns: int, stop_ns: int
    ) -> None:
        """Delete; entries and choices as ``storage.delete`` takes them (docs/rpc.md)."""
        head = {"bucket_id": bucket.id, "start_ns": start_ns, "stop_ns": stop_ns, "measurements": entries}
        await self._client.call(self._url, "storage.delete", head, choices)

    # ------------------------------------------------------------ rows

    async def pieces(
        self, measured: Measured, names: Sequence[str], start_ns: int, stop_ns: int
    ) -> tuple[Measured, list[Piece]]:
        """Rows of a measurement with the fields *names*, from the shards that touch ``[start_ns, stop_ns)``.

        Returns:
            The measurement as of which the rows were read (a newer one, when segments have been replaced meanwhile),
            and pieces of which no two hold the same series and time.
        """
        for _ in range(MAX_PLANS):
            held = measured.held
            try:
                found = await self._columns.find_units(held, measured, names, start_ns, stop_ns)
            except Gone:
                held.version = -1
                newer = await self.measured(measured.bucket, measured.name)
                if newer is None:
                    return measured, []
                measured = newer
                continue
            if measured.table is not held.index.table:
                measured = replace(measured, table=held.index.table)
            return measured, [piece for unit, shard in found if (piece := _piece(unit, names, shard)) is not None]
        raise Unavailable("cannot read: segments are replaced faster than they can be read")


def _known_living(
    held: Held, shards: dict[tuple[int, int], list[Segment]], stones: tuple[Tombstone, ...]
) -> tuple[SeriesTable, SeriesTable] | None:
    """What ``Reader._living`` gives, where nothing is to be looked at for it."""
    living, views = held.living, held.views
    if living is None or views is None or held.lock.locked() or living.stones != stones:
        return None
    if views[0] is not held.index.table or views[1] is not living.alive or len(living.alive) < held.index.count:
        return None
    if living.to_look_at([segment for found in shards.values() for segment in found]):
        return None
    return views[3], views[2]


async def _undisturbed(held: Held, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """*work* under the lock of *held*, to its end, also when whoever waits for it is cancelled.

    Its threads would go on changing what is held, and the next one must not begin before they have ended.
    """

    async def run() -> T:
        async with held.lock:
            return await work()

    task = asyncio.create_task(run())
    # Whoever waits takes the error; nobody may be left who does.
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return await asyncio.shield(task)


def _learn(
    living: Living, asked: Sequence[tuple[Segment, list[int]]], parts: Sequence[bytes], index: SeriesIndex
) -> None:
    remaining = iter(parts)
    for segment, indexes in asked:
        living.learn(segment, {chunk: next(remaining) for chunk in indexes}, index)


def _piece(unit: Unit, names: Sequence[str], shard_start_ns: int) -> Piece | None:
    columns = {name: unit.vectors[name] for name in names if name in unit.vectors}
    if not len(unit.times):
        return None
    if names and not columns:
        return None
    return Piece(unit.codes, unit.offsets, unit.times, columns, shard_start_ns, unit.bounds)
