"""Which series still have rows, where deletes put that in doubt · pure.

A series that no delete was on has rows: it came with one. Of the others the segments tell: mostly their ids suffice;
times are looked at only in segments that a delete reaches in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.segment import COUNTS, IDS, TIMES, Block, decode_counts, decode_ids, decode_times
from common.tombstones import Tombstone, choice_mask, hidden_rows, is_chosen, pending, unite
from services.query.engine.frame import SeriesTable
from services.query.reading.series_index import SeriesIndex
from services.query.reading.units import Segment

Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Living:
    """What is known of the series in doubt, under one list of tombstones.

    Attributes:
        alive: a bool a series code; grows with the series.
        seen: ids of the segments that were looked at.
    """

    stones: tuple[Tombstone, ...]
    alive: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    seen: set[int] = field(default_factory=set)

    def grow(self, count: int) -> None:
        """Take in that there are *count* series now."""
        if count > len(self.alive):
            fresh = np.zeros(count, np.bool_)
            fresh[: len(self.alive)] = self.alive
            doubt = choice_mask(unite(stone.series for stone in self.stones), count)
            self.alive = fresh | ~doubt

    def to_look_at(self, segments: Sequence[Segment]) -> list[Segment]:
        """The segments that may tell of series that nothing is known of, newest first."""
        self.seen &= {segment.id for segment in segments}
        if self.alive.all():
            return []
        return sorted(
            (segment for segment in segments if segment.id not in self.seen), key=lambda segment: -segment.applied
        )

    def learn(self, segment: Segment, chunks: Mapping[int, bytes], index: SeriesIndex) -> None:
        """Take in what a segment holds."""
        codes = living_codes(segment, chunks, stones_on(segment, self.stones), index)
        alive = self.alive.copy()
        alive[codes] = True
        self.alive = alive
        self.seen.add(segment.id)


def stones_on(segment: Segment, stones: Sequence[Tombstone]) -> list[Tombstone]:
    """Tombstones that may hide rows of *segment*."""
    return pending(stones, segment.applied, segment.min_ns, segment.max_ns)


def chunks_wanted(segment: Segment, stones: Sequence[Tombstone]) -> list[int]:
    """The chunks that ``living_codes`` needs."""
    if all(stone.covers(segment.min_ns, segment.max_ns) for stone in stones_on(segment, stones)):
        return [IDS]
    return [IDS, COUNTS, TIMES]


def living_codes(
    segment: Segment, chunks: Mapping[int, bytes], stones: Sequence[Tombstone], index: SeriesIndex
) -> NDArray[np.int64]:
    """Codes of the series that have a row in *segment* which none of *stones* hides."""
    meta = dict(segment.meta)
    ids = decode_ids(meta, chunks[IDS])
    codes = index.find_codes(ids)
    if TIMES not in chunks:
        gone = np.zeros(len(codes), np.bool_)
        for stone in stones:
            gone |= is_chosen(stone.series, codes)
        return codes[~gone]
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(decode_counts(meta, chunks[COUNTS]))))
    start_ns, stop_ns = segment.shard
    times = decode_times(meta, chunks[TIMES])
    block = Block(meta["bucket"], meta["measurement"], start_ns, stop_ns, ids, offsets, times, ())
    hidden = hidden_rows(block, hidden_by(stones, codes))
    left = np.add.reduceat((~hidden).astype(np.int64), offsets[:-1])
    return codes[left > 0]


def hidden_by(stones: Sequence[Tombstone], codes: NDArray[np.int64]) -> list[tuple[int, int, Mask | None]]:
    """*stones* as ``hidden_rows`` takes them, for a block whose series have these codes."""
    return [
        (stone.start_ns, stone.stop_ns, None if stone.is_whole else is_chosen(stone.series, codes)) for stone in stones
    ]


def only(table: SeriesTable, alive: Mask) -> SeriesTable:
    """The series of *table* that are alive, with codes of their own."""
    codes = {key: table.codes[key][alive] for key in _keys(table, alive)}
    order = np.argsort(table.ranks[alive], kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return SeriesTable(len(ranks), codes, {key: table.words[key] for key in codes}, ranks, table.places)


def with_keys_of(table: SeriesTable, alive: Mask) -> SeriesTable:
    """*table* with all its series, and only the tag keys that a living one has."""
    view = SeriesTable(table.count, table.codes, table.words, table.ranks, table.places)
    view.keys = _keys(table, alive)
    return view


def _keys(table: SeriesTable, alive: Mask) -> tuple[str, ...]:
    return tuple(key for key in table.keys if table.codes[key][alive].any())
