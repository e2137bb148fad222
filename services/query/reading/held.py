"""What is held of one measurement, and what a query takes of it for one moment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.board import word_of
from common.model import Bucket, FieldType
from common.tombstones import Tombstone
from services.query.engine.frame import SeriesTable
from services.query.reading import units
from services.query.reading.board import Stamp
from services.query.reading.liveness import Living, Mask
from services.query.reading.series_index import SeriesIndex
from services.query.reading.unit_cache import CacheKey, UnitKey
from services.query.reading.units import Segment

# Choices of segments of a shard for which it is remembered what they were resolved to.
MAX_CHOICES = 8


@dataclass(frozen=True, slots=True)
class MeasurementInfo:
    """What storage says of a measurement: ``fields`` are (start of the shard, name, type)."""

    name: str
    series_count: int
    fields: tuple[tuple[int, str, FieldType], ...]


class Resolved:
    """What segments of one shard were resolved to; of the choices of segments that were asked for last."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[int, ...], Sequence[UnitKey]] = OrderedDict()

    def find(self, ids: tuple[int, ...]) -> Sequence[UnitKey] | None:
        """The units of the segments *ids*."""
        found = self._keys.get(ids)
        if found is not None:
            self._keys.move_to_end(ids)
        return found

    def keep(self, ids: tuple[int, ...], keys: Sequence[UnitKey]) -> None:
        """Remember *keys* for ``find``."""
        self._keys[ids] = keys
        self._keys.move_to_end(ids)
        if len(self._keys) > MAX_CHOICES:
            self._keys.popitem(last=False)

    def every(self) -> list[UnitKey]:
        """All units that are remembered, the last used ones first."""
        return [key for keys in reversed(self._keys.values()) for key in keys]


@dataclass(slots=True)
class Held:
    """What is held of one measurement.

    Attributes:
        version: of the plan that is held; -1 = it is out of date.
        base: of the plan that is held, out of date or not.
        shards: segments by shard (start, stop), each list ascending in order.
        generation: which numbering of the series the codes are of.
        units: of each shard keys of resolved units in the cache, by the ids of the segments that they were made of;
            ranges of time need different ones.
        plan_bytes: what is counted in the budget for plan and series.
        is_quiet: nothing had changed when storage was last asked.
        word: where its slot on the board is; ``stamp``: what the board said before storage was last asked.
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
    units: dict[tuple[int, int], Resolved] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    plan_bytes: int = 0
    is_quiet: bool = False
    word: int = field(init=False)
    stamp: Stamp | None = None
    tombstones: tuple[Tombstone, ...] = ()
    living: Living | None = None
    views: tuple[SeriesTable, Mask, SeriesTable, SeriesTable] | None = None

    def __post_init__(self) -> None:
        self.word = word_of(*self.key[:2])


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
    held: Held

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


def in_shards(segments: Iterable[Segment]) -> dict[tuple[int, int], list[Segment]]:
    """Segments by shard, ascending in order."""
    shards: dict[tuple[int, int], list[Segment]] = {}
    for segment in segments:
        shards.setdefault(segment.shard, []).append(segment)
    for found in shards.values():
        found.sort(key=lambda segment: (segment.order, segment.id))
    return shards


def with_difference(
    shards: dict[tuple[int, int], list[Segment]], added: Sequence[Sequence[Any]], gone: Sequence[int]
) -> dict[tuple[int, int], list[Segment]]:
    """*shards* with segments (id, order, meta) that came and without those that went; *shards* is not changed."""
    fresh = in_shards(units.read_segment(*entry) for entry in added)
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


def is_needed(segment: Segment, start_ns: int, stop_ns: int) -> bool:
    """Large segments outside the range are left alone; small ones belong to the unit of their shard in any case."""
    return segment.rows < units.SMALL_ROWS or (segment.min_ns < stop_ns and segment.max_ns >= start_ns)
