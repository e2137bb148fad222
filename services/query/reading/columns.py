"""Rows of segments: chunks that are not held are fetched, decoded in a thread and kept as units.

Segments never change, so nothing that is kept can be wrong. Source: docs/rpc.md, "storage.fetch"; decisions 4 and 8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from common.budget import Budget
from common.merge import filter_rows
from common.rpc.client import RpcClient
from common.segment import Block
from common.tombstones import Tombstone, hidden_rows
from services.query.reading import units
from services.query.reading.held import Held, Measured, Resolved, is_needed
from services.query.reading.liveness import hidden_by, stones_on
from services.query.reading.series_index import SeriesIndex
from services.query.reading.unit_cache import UnitCache
from services.query.reading.units import Segment, Unit

# Chunks asked for in one call, so that no answer is without bound.
MAX_FETCHED_BYTES = 64 << 20
# Units of a shard that are read at the same time, where all of them together take no more than this part of the budget.
UNITS_TOGETHER = 4
TOGETHER_SHARE = 0.125
# Up to so many runs are looked at for overlaps on the event loop: a thread costs more than the work.
RUNS_ON_LOOP = 4_000


class Columns:
    """Reads rows of measurements, from the cache as far as they are there."""

    def __init__(self, client: RpcClient, storage_url: str, budget: Budget, cache: UnitCache) -> None:
        self._client = client
        self._url = storage_url
        self._budget = budget
        self._cache = cache

    async def find_units(
        self, held: Held, measured: Measured, names: Sequence[str], start_ns: int, stop_ns: int
    ) -> list[tuple[Unit, int]]:
        """Units with the columns *names* and the start of their shards, no two with the same series and time.

        Raises Gone: segments have been replaced.
        """
        shards, stones = measured.shards, measured.tombstones
        found: list[tuple[Unit, int]] = []
        for shard in sorted(shards):
            if shard[0] >= stop_ns or shard[1] <= start_ns:
                continue
            wanted = [seg for seg in shards[shard] if is_needed(seg, start_ns, stop_ns)]
            if not wanted:
                continue
            ids = (*(segment.id for segment in wanted), *units.hidden_key(wanted, stones))
            resolved = self._resolved(held, shard, ids, names)
            if resolved is None:
                async with held.lock:
                    resolved = self._resolved(held, shard, ids, names)
                    resolved = resolved or await self._resolve(held, wanted, names, stones)
                held.units.setdefault(shard, Resolved()).keep(ids, [(held.key, unit.key) for unit in resolved])
            found += [(unit, shard[0]) for unit in resolved]
        return found

    def _resolved(
        self, held: Held, shard: tuple[int, int], ids: tuple[int, ...], names: Sequence[str]
    ) -> list[Unit] | None:
        """The units of a shard when all of them, with the columns *names*, are in the cache."""
        known = held.units.get(shard)
        keys = None if known is None else known.find(ids)
        if keys is None:
            return None
        found: list[Unit] = []
        for key in keys:
            unit = self._cache.find(key)
            if unit is None or unit.missing(names):
                return None
            found.append(unit)
        return found

    async def _resolve(
        self, held: Held, wanted: Sequence[Segment], names: Sequence[str], stones: Sequence[Tombstone]
    ) -> list[Unit]:
        """The units of a shard with the columns *names*, overlapping ones merged."""
        groups = units.plan_units(wanted)
        room = self._budget.limit_bytes * TOGETHER_SHARE
        step = UNITS_TOGETHER if units.estimate_bytes(wanted, names) <= room else 1
        resolved: list[Unit] = []
        for start in range(0, len(groups), step):
            some = groups[start : start + step]
            resolved += await _all(self._unit(held, group, names, stones) for group in some)
        few = sum(len(unit.codes) for unit in resolved) <= RUNS_ON_LOOP
        if units.overlapping(resolved) if few else await asyncio.to_thread(units.overlapping, resolved):
            return [await self._unit(held, tuple(wanted), names, stones)]
        return resolved

    async def _unit(
        self, held: Held, segments: tuple[Segment, ...], names: Sequence[str], stones: Sequence[Tombstone]
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
        self, held: Held, segments: tuple[Segment, ...], names: Sequence[str], stones: Sequence[Tombstone]
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
        self, held: Held, segments: tuple[Segment, ...], names: Sequence[str], stones: Sequence[Tombstone]
    ) -> Unit | None:
        """A held unit of the first of these segments: live writes add segments at the end only."""
        ids = tuple(segment.id for segment in segments)
        for resolved in held.units.values():
            for key in resolved.every():
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


def _by_size(segments: Sequence[Segment], names: Sequence[str]) -> list[list[Segment]]:
    """Segments in groups whose chunks together stay under ``MAX_FETCHED_BYTES``, one at least a group."""
    return in_groups(
        segments,
        lambda segment: [*units.STRUCTURE, *(segment.chunks[name][0] for name in names if name in segment.chunks)],
    )


def in_groups(segments: Sequence[Segment], wanted: Callable[[Segment], Sequence[int]]) -> list[list[Segment]]:
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


async def _all(work: Iterable[Awaitable[Unit]]) -> list[Unit]:
    """What *work* gives, done at the same time; when it raises the first error all of it has ended."""
    done = await asyncio.gather(*work, return_exceptions=True)
    found: list[Unit] = []
    for each in done:
        if isinstance(each, BaseException):
            raise each
        found.append(each)
    return found
