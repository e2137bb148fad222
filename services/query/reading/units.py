"""Decoded pieces of a shard: segments as they are or merged, structure and columns kept apart · pure.

A *unit* is what one or several segments become: rows sorted by series, then time, each once. Large segments are
units of their own, small ones are merged into one; units whose rows overlap by series and time are merged too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.merge import merge_blocks
from common.model import FieldType
from common.segment import (
    FIRST_COLUMN,
    NAME,
    TYPE,
    Block,
    Column,
    SeriesIds,
    StringArray,
    decode_column,
    decode_counts,
    decode_ids,
    decode_times,
)
from common.tombstones import Tombstone, pending
from services.query.engine.vectors import STR_BYTES, Vector, decode_strings

Indexes = NDArray[np.int64]
# Chunks that every segment begins with: ids, counts, times.
STRUCTURE = tuple(range(FIRST_COLUMN))
# Segments with fewer rows are merged into one unit, so that thousands of small commits are not thousands of pieces.
SMALL_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment as storage plans it.

    Attributes:
        order: of two with the same series, time and field the greater wins.
        chunks: field → (chunk index, type).
        applied: deletes up to this number are worked in.
    """

    id: int
    order: int
    meta: Mapping[str, Any]
    chunks: Mapping[str, tuple[int, FieldType]]
    applied: int = 0

    @property
    def rows(self) -> int:
        return int(self.meta["rows"])

    @property
    def shard(self) -> tuple[int, int]:
        start_ns, stop_ns = self.meta["shard"]
        return int(start_ns), int(stop_ns)

    @property
    def min_ns(self) -> int:
        return int(self.meta["time"][0])

    @property
    def max_ns(self) -> int:
        return int(self.meta["time"][1])


def read_segment(id: int, order: int, meta: Mapping[str, Any]) -> Segment:
    """A segment of a plan."""
    chunks = {
        entry[NAME]: (index, FieldType(entry[TYPE]))
        for index, entry in enumerate(meta["chunks"])
        if index >= FIRST_COLUMN
    }
    return Segment(id, order, meta, chunks, meta.get("deletes", 0))


@dataclass(slots=True)
class Unit:
    """Rows of some segments of one shard; columns come as they are asked for.

    Attributes:
        segments: ascending in order; of the same series and time the last one wins.
        codes: series code of each run, as of some state of the index (codes never change).
        bounds: first and last time of all rows.
        hidden: deletes that were worked in, see ``hidden_key``.
        absent: fields that were read and have no row here: deletes hide them.
    """

    segments: tuple[Segment, ...]
    series: SeriesIds
    codes: Indexes
    offsets: Indexes
    times: Indexes
    bounds: tuple[int, int]
    columns: dict[str, Column] = field(default_factory=dict)
    vectors: dict[str, Vector] = field(default_factory=dict)
    hidden: tuple[int, ...] = ()
    absent: set[str] = field(default_factory=set)

    @property
    def key(self) -> tuple[int, ...]:
        return (*(segment.id for segment in self.segments), *self.hidden)

    @property
    def structure_bytes(self) -> int:
        return int(self.series.nbytes + self.codes.nbytes + self.offsets.nbytes + self.times.nbytes)

    @classmethod
    def of(cls, segments: tuple[Segment, ...], block: Block, codes: Indexes, hidden: tuple[int, ...] = ()) -> Unit:
        """The unit of *segments* with the structure of *block*, which they were merged to."""
        bounds = (int(block.times.min()), int(block.times.max())) if block.rows else (0, 0)
        return cls(segments, block.series, codes, block.offsets, block.times, bounds, hidden=hidden)

    def has_field(self, name: str) -> bool:
        return any(name in segment.chunks for segment in self.segments)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of *names* that occur here and are not decoded yet."""
        return [name for name in names if name not in self.columns and name not in self.absent and self.has_field(name)]

    def add(self, block: Block) -> int:
        """Take in the columns of *block*, which has the rows of this unit; gives the bytes that they hold."""
        added = 0
        for column in block.columns:
            if column.name not in self.columns:
                vector = _vector(column)
                self.columns[column.name], self.vectors[column.name] = column, vector
                added += column_bytes(column)
        return added


def _vector(column: Column) -> Vector:
    values = decode_strings(column.values) if isinstance(column.values, StringArray) else column.values
    return Vector(column.type, values, column.valid)


def column_bytes(column: Column) -> int:
    """Bytes that a decoded column holds, near enough for a budget."""
    mask = 0 if column.valid is None else column.valid.nbytes
    if isinstance(column.values, StringArray):
        return int(2 * column.values.data.nbytes + (8 + STR_BYTES) * len(column.values) + mask)
    return int(column.values.nbytes + mask)


def estimate_bytes(segments: Iterable[Segment], names: Sequence[str]) -> int:
    """Bytes that decoding *names* of the segments takes at most, before it is tried; strings as if they were short."""
    return sum(
        segment.rows * (8 + 9 * sum(name in segment.chunks for name in names)) + 24 * int(segment.meta["series"])
        for segment in segments
    )


def hidden_key(segments: Iterable[Segment], stones: Sequence[Tombstone]) -> tuple[int, ...]:
    """What tells rows of *segments* apart before and after a delete: the negated numbers of those that touch them."""
    if not stones:
        return ()
    found = {stone.number for s in segments for stone in pending(stones, s.applied, s.min_ns, s.max_ns)}
    return tuple(sorted(-number for number in found))


def plan_units(segments: Sequence[Segment]) -> list[tuple[Segment, ...]]:
    """How the segments of one shard become units: large ones alone, all small ones together."""
    small = tuple(segment for segment in segments if segment.rows < SMALL_ROWS)
    large: list[tuple[Segment, ...]] = [(segment,) for segment in segments if segment.rows >= SMALL_ROWS]
    return [*large, small] if small else large


def decode_segment(segment: Segment, names: Iterable[str], chunks: Mapping[int, bytes]) -> Block:
    """Structure and the columns *names* of a segment from its chunks by index. Raises DamagedChunk."""
    meta = dict(segment.meta)
    ids = decode_ids(meta, chunks[0])
    counts = decode_counts(meta, chunks[1])
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    columns = [
        decode_column(meta, segment.chunks[name][0], chunks[segment.chunks[name][0]])
        for name in names
        if name in segment.chunks
    ]
    start_ns, stop_ns = segment.shard
    times = decode_times(meta, chunks[2])
    return Block(meta["bucket"], meta["measurement"], start_ns, stop_ns, ids, offsets, times, tuple(columns))


def without_rows(segment: Segment) -> Block:
    """A block of *segment* with nothing in it."""
    start_ns, stop_ns = segment.shard
    nothing = np.zeros(0, np.int64)
    series = np.zeros((0, 2), np.uint64)
    return Block(segment.meta["bucket"], segment.meta["measurement"], start_ns, stop_ns, series,
                 np.zeros(1, np.int64), nothing, ())  # fmt: skip


def merge(blocks: Sequence[Block]) -> Block:
    """The rows of all *blocks*, the last of which wins."""
    return blocks[0] if len(blocks) == 1 else merge_blocks(blocks)


def overlapping(units: Sequence[Unit]) -> bool:
    """Whether two of the units hold rows of one series whose times overlap."""
    if len(units) < 2:
        return False
    codes = np.concatenate([unit.codes for unit in units])
    first = np.concatenate([unit.times[unit.offsets[:-1]] for unit in units])
    last = np.concatenate([unit.times[unit.offsets[1:] - 1] for unit in units])
    order = np.lexsort((first, codes))
    codes, first, last = codes[order], first[order], last[order]
    return bool(((codes[1:] == codes[:-1]) & (first[1:] <= last[:-1])).any())
