"""The query service's view of what is stored: plans, series and decoded columns, kept and renewed by difference.

One ``storage.plan`` tells whether anything changed; only chunks that are not held are fetched; they are decoded in a
thread and kept, bounded in bytes. Segments never change, so nothing that is kept can be wrong.
Source: docs/rpc.md, "storage"; design, decisions 4, 8 and 16.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.budget import Budget
from common.errors import Gone, Unavailable
from common.merge import filter_rows
from common.model import MAX_TIME_NS, MIN_TIME_NS, Bucket, FieldType
from common.rpc.client import RpcClient
from common.segment import Block, decode_dictionary
from common.tombstones import Tombstone, hidden_rows
from services.query.engine.frame import Piece, SeriesTable
from services.query.reading import units
from services.query.reading.liveness import Living, Mask, chunks_wanted, hidden_by, only, stones_on, with_keys_of
from services.query.reading.series_index import SeriesIndex
from services.query.reading.unit_cache import CacheKey, UnitCache, UnitKey
from services.query.reading.units import Segment, Unit

# How often a query plans again because segments were replaced under it.
MAX_PLANS = 8
# Measurements whose plan and series are held; the least recently used go first.
MAX_MEASUREMENTS = 10_000
MAX_BUCKETS = 1_000
# Measurements that are looked at together.
MAX_TOGETHER = 64
# Chunks asked for in one call, so that no answer is without bound.
MAX_FETCHED_BYTES = 64 << 20
# Up to so many runs are looked at for overlaps on the event loop: a thread costs more than the work.
RUNS_ON_LOOP = 4_000
# Decoded columns may take this part of the process's budget; the rest is for queries under way.
CACHE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class MeasurementInfo:
    """What storage says of a measurement: ``fields`` are (start of the shard, name, type)."""

    name: str
    series_count: int
    fields: tuple[tuple[int, str, FieldType], ...]


@dataclass(slots=True)
class _Held:
    """What is held of one measurement.

    Attributes:
        version: of the plan that is held; -1 = it is out of date.
        base: of the plan that is held, out of date or not.
        shards: segments by shard (start, stop), each list ascending in order.
        generation: which numbering of the series the codes are of.
        units: keys of a shard's resolved units in the cache, with the ids of the segments that they were made of.
        plan_bytes: what is counted in the budget for plan and series.
        tombstones: deletes that hide rows of the segments, or put series in doubt.
        living: which series have rows; None where no delete puts it in doubt.
        views: a table and which are alive, the living ones of it alone, and it with their keys.
    """

    key: CacheKey
    generation: int
    version: int = -1
    base: int = -1
    shards: dict[tuple[int, int], list[Segment]] = field(default_factory=dict)
    wanted_series: int = 0
    index: SeriesIndex = field(default_factory=SeriesIndex)
    units: dict[tuple[int, int], tuple[tuple[int, ...], list[UnitKey]]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    plan_bytes: int = 0
    tombstones: tuple[Tombstone, ...] = ()
    living: Living | None = None
    views: tuple[SeriesTable, Mask, SeriesTable, SeriesTable] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement at one moment: what a query is planned over and read from.

    Attributes:
        table: its series.
        shards: segments by shard (start, stop).
        tombstones: deletes that hide rows of them.
        living: the series that have rows, alone, with codes of their own.
        held: what it was taken from; codes are of its index, whatever has come since.
    """

    bucket: Bucket
    name: str
    table: SeriesTable
    shards: dict[tuple[int, int], list[Segment]]
    tombstones: tuple[Tombstone, ...]
    living: SeriesTable
    held: _Held

    @property
    def generation(self) -> int:
        return self.held.generation

    @property
    def fields_by_shard(self) -> tuple[tuple[int, str, FieldType], ...]:
        """(start of the shard, name, type) of each field, as ``MeasurementInfo`` has it."""
        found = {
            (start_ns, name, type)
            for (start_ns, _), segments in self.shards.items()
            for segment in segments
            for name, (_, type) in segment.chunks.items()
        }
        return tuple(sorted(found))

    def fields(self, start_ns: int, stop_ns: int) -> dict[str, FieldType]:
        """Fields in the shards that touch the range; of several types the first of ``FieldType``."""
        found: dict[str, FieldType] = {}
        for (shard_start, shard_stop), segments in self.shards.items():
            if shard_start < stop_ns and shard_stop > start_ns:
                for segment in segments:
                    for name, (_, type) in segment.chunks.items():
                        known = found.get(name)
                        if known is None or type < known:
                            found[name] = type
        return found


@dataclass(slots=True)
class _Batch:
    """Measurements of one bucket that wait for the next plan call; ``done`` is set after it."""

    names: set[str] = field(default_factory=set)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Reader:
    """Reads what storage has; one a process.

    Args:
        budget: of the process; what is kept is counted in it and given up when others need it.
    """

    def __init__(self, client: RpcClient, storage_url: str, budget: Budget) -> None:
        self._client = client
        self._url = storage_url
        self._budget = budget
        self._measurements: OrderedDict[str, tuple[int, list[MeasurementInfo], frozenset[str]]] = OrderedDict()
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()
        self._cache = UnitCache(budget, int(budget.limit_bytes * CACHE_SHARE))
        self._waiting: dict[str, _Batch] = {}
        self._planning: dict[str, asyncio.Task[None]] = {}

    @property
    def budget(self) -> Budget:
        return self._budget

    def make_room(self, size: int) -> None:
        """Give up what is cached until *size* bytes fit the budget, as far as that helps."""
        self._cache.make_room_in_budget(size)

    # ------------------------------------------------------------ what there is

    async def measurements(self, bucket: Bucket) -> list[MeasurementInfo]:
        """All measurements of a bucket, names in byte order."""
        held = self._measurements.get(bucket.id)
        head = {"bucket_id": bucket.id, "version": -1 if held is None else held[0]}
        answer = (await self._client.call(self._url, "storage.measurements", head)).head
        listed = answer.get("measurements")
        if listed is None and held is not None and answer["version"] == held[0]:
            self._measurements.move_to_end(bucket.id)
            return await self._that_live(bucket, held[1], held[2])
        infos = [
            MeasurementInfo(name, count, tuple((start, key, FieldType(type)) for start, key, type in fields))
            for name, count, fields, _ in listed or ()
        ]
        doubtful = frozenset(name for name, _, _, is_in_doubt in listed or () if is_in_doubt)
        self._measurements[bucket.id] = (answer["version"], infos, doubtful)
        if len(self._measurements) > MAX_BUCKETS:
            self._measurements.popitem(last=False)
        return await self._that_live(bucket, infos, doubtful)

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
            await self._refresh(bucket.id, name)
            held = self._held.get((bucket.id, name))
            if held is None:
                return None
            if held.index.count < held.wanted_series:
                try:
                    async with held.lock:
                        await self._read_series(bucket.id, name, held)
                except Gone:  # some are damaged, which the next plan hides, or all have other numbers now
                    held.version = -1
                    continue
            table, living = held.index.table, held.index.table
            shards, stones = held.shards, held.tombstones
            if stones:
                try:
                    async with held.lock:
                        table, living = await self._living(held, shards, stones)
                except Gone:
                    held.version = -1
                    continue
                if not living.count:
                    return None
            return Measured(bucket, name, table, shards, stones, living, held)
        raise Unavailable("cannot read: segments are replaced faster than they can be read")

    async def _living(
        self, held: _Held, shards: dict[tuple[int, int], list[Segment]], stones: tuple[Tombstone, ...]
    ) -> tuple[SeriesTable, SeriesTable]:
        """All series with the keys of the living ones, and the living ones alone. Raises Gone."""
        living = held.living
        if living is None or living.stones != stones:
            living = held.living = Living(stones)
        await asyncio.to_thread(living.grow, held.index.count)
        segments = [segment for found in shards.values() for segment in found]
        for group in _in_groups(living.to_look_at(segments), lambda segment: chunks_wanted(segment, stones)):
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
                found = await self._find_units(held, measured, names, start_ns, stop_ns)
            except Gone:
                held.version = -1
                newer = await self.measured(measured.bucket, measured.name)
                if newer is None:
                    return measured, []
                measured = newer
                continue
            measured = replace(measured, table=held.index.table)
            return measured, [piece for unit, shard in found if (piece := _piece(unit, names, shard)) is not None]
        raise Unavailable("cannot read: segments are replaced faster than they can be read")

    async def _find_units(
        self, held: _Held, measured: Measured, names: Sequence[str], start_ns: int, stop_ns: int
    ) -> list[tuple[Unit, int]]:
        shards, stones = measured.shards, measured.tombstones
        found: list[tuple[Unit, int]] = []
        for shard in sorted(shards):
            if shard[0] >= stop_ns or shard[1] <= start_ns:
                continue
            wanted = [seg for seg in shards[shard] if _needed(seg, start_ns, stop_ns)]
            if not wanted:
                continue
            ids = (*(segment.id for segment in wanted), *units.hidden_key(wanted, stones))
            resolved = self._resolved(held, shard, ids, names)
            if resolved is None:
                async with held.lock:
                    resolved = self._resolved(held, shard, ids, names)
                    resolved = resolved or await self._resolve(held, wanted, names, stones)
                held.units[shard] = (ids, [(held.key, unit.key) for unit in resolved])
            found += [(unit, shard[0]) for unit in resolved]
        return found

    def _resolved(
        self, held: _Held, shard: tuple[int, int], ids: tuple[int, ...], names: Sequence[str]
    ) -> list[Unit] | None:
        """The units of a shard when all of them, with the columns *names*, are in the cache."""
        known = held.units.get(shard)
        if known is None or known[0] != ids:
            return None
        found: list[Unit] = []
        for key in known[1]:
            unit = self._cache.find(key)
            if unit is None or unit.missing(names):
                return None
            found.append(unit)
        return found

    async def _resolve(
        self, held: _Held, wanted: Sequence[Segment], names: Sequence[str], stones: Sequence[Tombstone]
    ) -> list[Unit]:
        """The units of a shard with the columns *names*, overlapping ones merged."""
        resolved = [await self._unit(held, group, names, stones) for group in units.plan_units(wanted)]
        few = sum(len(unit.codes) for unit in resolved) <= RUNS_ON_LOOP
        if units.overlapping(resolved) if few else await asyncio.to_thread(units.overlapping, resolved):
            return [await self._unit(held, tuple(wanted), names, stones)]
        return resolved

    async def _unit(
        self, held: _Held, segments: tuple[Segment, ...], names: Sequence[str], stones: Sequence[Tombstone]
    ) -> Unit:
        """The unit of these segments with the columns *names*, from the cache as far as it is there."""
        hidden = units.hidden_key(segments, stones)
        key = (held.key, (*(segment.id for segment in segments), *hidden))
        unit = self._cache.find(key)
        missing = [name for name in names if any(name in seg.chunks for seg in segments)]
        if unit is not None:
            missing = unit.missing(names)
            if not missing:
                return unit
        size = units.estimate_bytes(segments, missing)
        self._cache.make_room(size)
        with self._budget.held(size):
            merged = await self._read_block(held, segments, missing, stones)
            if unit is None:
                codes = held.index.find_codes(merged.series)
                unit = Unit.of(segments, merged, codes, hidden)
            await asyncio.to_thread(unit.add, merged)
            unit.absent.update(unit.missing(missing))
        self._cache.keep(key, unit)
        return unit

    async def _read_block(
        self, held: _Held, segments: tuple[Segment, ...], names: Sequence[str], stones: Sequence[Tombstone]
    ) -> Block:
        """Structure and columns *names* of the segments, merged; on top of what is held of the first of them."""
        base = None if len(segments) < 2 else self._longest_held(held, segments, names, stones)
        blocks: list[Block] = []
        rest = segments
        if base is not None:
            meta = segments[0].meta
            start_ns, stop_ns = segments[0].shard
            columns = tuple(base.columns[name] for name in names if name in base.columns)
            blocks.append(Block(meta["bucket"], meta["measurement"], start_ns, stop_ns, base.series, base.offsets,
                                base.times, columns))  # fmt: skip
            rest = segments[len(base.segments) :]
        for group in _by_size(rest, names):
            fetched = await self._fetch(group, names)
            if stones:
                fetched = await asyncio.to_thread(_without_hidden, group, fetched, stones, held.index)
            blocks += fetched
        filled = [block for block in blocks if block.rows]
        if not filled:
            return units.without_rows(segments[0])
        return await asyncio.to_thread(units.merge, filled)

    def _longest_held(
        self, held: _Held, segments: tuple[Segment, ...], names: Sequence[str], stones: Sequence[Tombstone]
    ) -> Unit | None:
        """A held unit of the first of these segments: live writes add segments at the end only."""
        ids = tuple(segment.id for segment in segments)
        for _, keys in held.units.values():
            for key in keys:
                count = sum(id > 0 for id in key[1])
                wanted = (*ids[:count], *units.hidden_key(segments[:count], stones))
                if 1 < count < len(ids) and wanted == key[1]:
                    unit = self._cache.find(key)
                    if unit is not None and not unit.missing(names):
                        return unit
        return None

    async def _fetch(self, segments: Sequence[Segment], names: Sequence[str]) -> list[Block]:
        """Structure and columns of each segment."""
        asked = [
            (segment, [*units.STRUCTURE, *(segment.chunks[name][0] for name in names if name in segment.chunks)])
            for segment in segments
        ]
        head = {"chunks": [[segment.id, indexes] for segment, indexes in asked]}
        parts = (await self._client.call(self._url, "storage.fetch", head)).parts
        return await asyncio.to_thread(_decode, asked, parts, names)

    # ------------------------------------------------------------ plans and series

    async def _refresh(self, bucket_id: str, name: str) -> None:
        """Bring what is held of a measurement up to date by a call that begins after this one.

        Those who come while a call is under way wait for the next one and share it.
        """
        batch = self._waiting.get(bucket_id)
        if batch is None:
            batch = self._waiting[bucket_id] = _Batch()
        batch.names.add(name)
        if bucket_id not in self._planning:
            self._planning[bucket_id] = asyncio.create_task(self._plan_waiting(bucket_id))
        await asyncio.shield(batch.done)

    async def _plan_waiting(self, bucket_id: str) -> None:
        try:
            while (batch := self._waiting.pop(bucket_id, None)) is not None:
                try:
                    await self._plan(bucket_id, batch.names)
                except Exception as error:
                    batch.done.set_exception(error)
                    # Whoever waited may be gone; then nobody takes the error.
                    batch.done.exception()
                else:
                    batch.done.set_result(None)
        finally:
            del self._planning[bucket_id]

    async def _plan(self, bucket_id: str, names: Iterable[str]) -> None:
        versions = {name: held.version if (held := self._held.get((bucket_id, name))) else -1 for name in names}
        head = {
            "bucket_id": bucket_id, "measurements": versions, "start_ns": MIN_TIME_NS, "stop_ns": MAX_TIME_NS + 1,
        }  # fmt: skip
        answers = (await self._client.call(self._url, "storage.plan", head)).head["measurements"]
        lost = []
        for name, version in versions.items():
            key = (bucket_id, name)
            held = self._held.get(key)
            if name not in answers:
                self._forget(key)
            elif version >= 0 and (held is None or held.base != version):
                # What the answer is a difference to has been given up meanwhile.
                self._forget(key)
                lost.append(name)
            elif answers[name] is not None:
                self._apply_plan(key, answers[name])
            if key in self._held:
                self._held.move_to_end(key)
        if lost:
            await self._plan(bucket_id, lost)
        while len(self._held) > MAX_MEASUREMENTS:
            self._forget(next(iter(self._held)))

    def _apply_plan(self, key: tuple[str, str], plan: dict[str, Any]) -> None:
        held = self._held.get(key)
        generation, count = plan["series"]
        if held is None or held.generation != generation:
            # Other numbers of the series, or another measurement of the same name: none of the codes holds.
            self._forget(key)
            held = self._held[key] = _Held((*key, generation), generation)
        shards = _with_difference(held.shards, plan["segments"], plan["gone"]) if "gone" in plan else {}
        if "gone" not in plan:
            known = {segment.id: segment for segments in held.shards.values() for segment in segments}
            shards = _in_shards([known.get(entry[0]) or units.read_segment(*entry) for entry in plan["segments"]])
        held.version = held.base = plan["version"]
        held.shards, held.wanted_series = shards, count
        held.tombstones = tuple(map(Tombstone.from_wire, plan["tombstones"]))
        held.units = {shard: units for shard, units in held.units.items() if shard in shards}

    async def _read_series(self, bucket_id: str, name: str, held: _Held) -> None:
        if held.index.count >= held.wanted_series:
            return
        head = {
            "bucket_id": bucket_id, "measurement": name, "generation": held.generation, "after": held.index.count,
        }  # fmt: skip
        async with self._client.stream(self._url, "storage.series", head) as answer:
            if answer.head["generation"] != held.generation:
                raise Gone(f"the series of {name!r} have been dropped, or have other numbers")
            async for part in answer.parts():
                await asyncio.to_thread(_extend, held.index, part)
        grown = held.index.nbytes - held.plan_bytes
        self._cache.make_room(grown)
        self._budget.take(grown)
        held.plan_bytes += grown

    def _forget(self, key: tuple[str, str]) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._budget.give(held.plan_bytes)
            self._cache.drop(held.key)


def _in_shards(segments: Iterable[Segment]) -> dict[tuple[int, int], list[Segment]]:
    """Segments by shard, ascending in order."""
    shards: dict[tuple[int, int], list[Segment]] = {}
    for segment in segments:
        shards.setdefault(segment.shard, []).append(segment)
    for found in shards.values():
        found.sort(key=lambda segment: (segment.order, segment.id))
    return shards


def _with_difference(
    shards: dict[tuple[int, int], list[Segment]], added: Sequence[Sequence[Any]], gone: Sequence[int]
) -> dict[tuple[int, int], list[Segment]]:
    """*shards* with segments (id, order, meta) that came and without those that went; *shards* is not changed."""
    fresh = _in_shards(units.read_segment(*entry) for entry in added)
    went = set(gone)
    out: dict[tuple[int, int], list[Segment]] = {}
    for shard in shards.keys() | fresh.keys():
        old, new = shards.get(shard, []), fresh.get(shard, [])
        if went and any(segment.id in went for segment in old):
            old = [segment for segment in old if segment.id not in went]
        if new:
            old = sorted((*old, *new), key=lambda segment: (segment.order, segment.id))
        if old:
            out[shard] = old
    return out


def _needed(segment: Segment, start_ns: int, stop_ns: int) -> bool:
    """Large segments outside the range are left alone; small ones belong to the unit of their shard in any case."""
    return segment.rows < units.SMALL_ROWS or (segment.min_ns < stop_ns and segment.max_ns >= start_ns)


def _by_size(segments: Sequence[Segment], names: Sequence[str]) -> list[list[Segment]]:
    """Segments in groups whose chunks together stay under ``MAX_FETCHED_BYTES``, one at least a group."""
    return _in_groups(
        segments,
        lambda segment: [*units.STRUCTURE, *(segment.chunks[name][0] for name in names if name in segment.chunks)],
    )


def _in_groups(segments: Sequence[Segment], wanted: Callable[[Segment], Sequence[int]]) -> list[list[Segment]]:
    groups: list[list[Segment]] = []
    room = 0
    for segment in segments:
        chunks = segment.meta["chunks"]
        size = sum(chunks[index][0] for index in wanted(segment))
        if not groups or size > room:
            groups.append([])
            room = MAX_FETCHED_BYTES
        groups[-1].append(segment)
        room -= size
    return groups


def _decode(asked: Sequence[tuple[Segment, list[int]]], parts: Sequence[bytes], names: Sequence[str]) -> list[Block]:
    remaining = iter(parts)
    return [
        units.decode_segment(segment, names, {index: next(remaining) for index in indexes})
        for segment, indexes in asked
    ]


def _learn(
    living: Living, asked: Sequence[tuple[Segment, list[int]]], parts: Sequence[bytes], index: SeriesIndex
) -> None:
    remaining = iter(parts)
    for segment, indexes in asked:
        living.learn(segment, {chunk: next(remaining) for chunk in indexes}, index)


def _without_hidden(
    segments: Sequence[Segment], blocks: Sequence[Block], stones: Sequence[Tombstone], index: SeriesIndex
) -> list[Block]:
    """*blocks* without the rows that deletes hide; those of which nothing is left are without rows."""
    left: list[Block] = []
    for segment, block in zip(segments, blocks, strict=True):
        on_it = stones_on(segment, stones)
        if on_it:
            gone = hidden_rows(block, hidden_by(on_it, index.find_codes(block.series)))
            block = filter_rows(block, ~gone) or units.without_rows(segment)
        left.append(block)
    return left


def _extend(index: SeriesIndex, part: bytes) -> None:
    ids, keys = decode_dictionary(part)
    index.extend(ids, keys)


def _piece(unit: Unit, names: Sequence[str], shard_start_ns: int) -> Piece | None:
    columns = {name: unit.vectors[name] for name in names if name in unit.vectors}
    if not len(unit.times):
        return None
    if names and not columns:
        return None
    return Piece(unit.codes, unit.offsets, unit.times, columns, shard_start_ns, unit.bounds)
