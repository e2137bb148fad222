"""Which segments are to be merged next · pure.

The segments of a measurement and shard stand in the order in which they win. Only neighbours are merged, so that the
result takes the place of its sources in that order. A segment's *class* grows with its rows: 0 are the blocks of
commits, n + 1 has ``CLASS_FACTOR`` times the rows of n. Neighbours merge when they are enough and the result has at
least twice the rows of the largest, so a row is written again only about as often as there are classes; a segment
that is half as large as may be is left alone. So a shard of n rows is about n / 1 M large segments and a tail of
some small ones, of ever later times. Source: design, decisions 1, 4 and 10.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from common.tombstones import Tombstone, pending
from services.storage.state.blocks import Segment

CLASS_FACTOR = 4
SMALLEST_CLASS_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a merge.

    Attributes:
        rows: most rows of the result, unless it is cut.
        bytes: most bytes of the sources, as stored.
        sources: most segments that go into one.
        blocks: so many blocks of commits are worth a merge.
        segments: so many merged segments are.
        overlap_rows, overlap_bytes: most of all sources of a merge of large segments.
    """

    rows: int = 1 << 20
    bytes: int = 32 << 20
    sources: int = 512
    blocks: int = 8
    segments: int = 4
    overlap_rows: int = 3 << 20
    overlap_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Merge:
    """Neighbours that are to become one segment (several, where one of a commit is too large).

    Attributes:
        rows, size: of all of them.
    """

    segments: tuple[Segment, ...]
    rows: int
    size: int

    @property
    def blocks(self) -> int:
        """How many of them are blocks of commits."""
        return sum(segment.level == 0 for segment in self.segments)


def level_of(rows: int) -> int:
    """Level of a merged segment with so many rows."""
    level = 1
    while rows >= SMALLEST_CLASS_ROWS * CLASS_FACTOR:
        rows //= CLASS_FACTOR
        level += 1
    return level


def plan_merges(segments: Iterable[Segment], limits: Limits, waited: Collection[int] = ()) -> list[Merge]:
    """All merges that are worth it now, those of the most blocks first; no two have a segment in common.

    Args:
        segments: all that are planned with.
        waited: ids of blocks of commits that have waited long enough for others to come.
    """
    merges = []
    by_place = sorted(segments, key=lambda each: (each.measurement, each.shard_start_ns, each.order, each.id))
    for _, place in groupby(by_place, key=lambda each: (each.measurement, each.shard_start_ns)):
        merges += _plan_shard(list(place), limits, waited)
    return sorted(merges, key=lambda merge: (-merge.blocks, merge.rows))


def plan_cleaning(
    segments: Iterable[Segment], merges: Iterable[Merge], deletes: Mapping[int, Sequence[Tombstone]]
) -> list[Merge]:
    """Segments to be written again alone, because deletes may hide rows of them; none of those in *merges*.

    Args:
        deletes: by measurement.
    """
    taken = {segment.id for merge in merges for segment in merge.segments}
    return [
        Merge((segment,), segment.rows, segment.size)
        for segment in segments
        if segment.id not in taken
        and pending(deletes.get(segment.measurement, ()), segment.applied, segment.min_time_ns, segment.max_time_ns)
    ]


def _plan_shard(segments: Sequence[Segment], limits: Limits, waited: Collection[int]) -> list[Merge]:
    """Merges of the lowest classes first; of what they leave, those of higher ones, so that a stream of small commits
    does not keep the higher ones waiting."""
    merges: list[Merge] = []
    stretches = list(_stretches(segments, limits))
    for most in sorted({_class_of(segment) for stretch in stretches for segment in stretch}):
        found = [
            merge
            for stretch in stretches
            for part in _up_to_class(stretch, most)
            for merge in _cut(part, limits, most, waited)
        ]
        if found:
            merges += found
            taken = {segment.id for merge in found for segment in merge.segments}
            stretches = [part for stretch in stretches for part in _without(stretch, taken)]
    return merges


def _without(stretch: Sequence[Segment], taken: Collection[int]) -> Iterator[list[Segment]]:
    for is_taken, part in groupby(stretch, key=lambda segment: segment.id in taken):
        if not is_taken:
            yield list(part)


def _class_of(segment: Segment) -> int:
    return 0 if segment.level == 0 else level_of(segment.rows)


def is_full(segment: Segment, limits: Limits) -> bool:
    """Whether it is so large that it is not merged with its neighbours."""
    return _is_full(segment.rows, segment.size, limits)


def _is_full(rows: int, size: int, limits: Limits) -> bool:
    return 2 * rows > limits.rows or 2 * size > limits.bytes


def _stretches(segments: Sequence[Segment], limits: Limits) -> Iterator[list[Segment]]:
    """*segments* without those that are left alone: full ones, and the parts into which one was cut: they share one
    order, so none may take the place of a neighbour."""
    stretch: list[Segment] = []
    for _, same in groupby(segments, key=lambda segment: segment.order):
        group = list(same)
        if len(group) > 1 or (group[0].level > 0 and is_full(group[0], limits)):
            yield stretch
            stretch = []
        else:
            stretch += group
    yield stretch


def _up_to_class(stretch: Sequence[Segment], most: int) -> Iterator[list[Segment]]:
    for small, part in groupby(stretch, key=lambda segment: _class_of(segment) <= most):
        if small:
            yield list(part)


def _cut(part: Sequence[Segment], limits: Limits, most: int, waited: Collection[int]) -> Iterator[Merge]:
    """*part* in pieces within the limits, those that are worth merging."""
    piece: list[Segment] = []
    rows = size = 0
    for segment in part:
        fits = rows + segment.rows <= limits.rows and size + segment.size <= limits.bytes
        if piece and not (fits and len(piece) < limits.sources):
            yield from _worth_it(piece, limits, most, waited, is_cut=True)
            piece, rows, size = [], 0, 0
        piece.append(segment)
        rows += segment.rows
        size += segment.size
    yield from _worth_it(piece, limits, most, waited, is_cut=False)


def _worth_it(
    piece: Sequence[Segment], limits: Limits, most: int, waited: Collection[int], *, is_cut: bool
) -> Iterator[Merge]:
    """The merge of *piece* or, where one segment is larger than all others together, of those on its two sides."""
    if not piece:
        return
    rows, size = sum(segment.rows for segment in piece), sum(segment.size for segment in piece)
    if most == 0:
        enough = is_cut or len(piece) >= limits.blocks or _is_full(rows, size, limits)
        if enough or any(segment.id in waited for segment in piece):
            yield Merge(tuple(piece), rows, size)
        return
    largest = max(range(len(piece)), key=lambda place: piece[place].rows)
    if rows < 2 * piece[largest].rows:
        for side in (piece[:largest], piece[largest + 1 :]):
            yield from _worth_it(side, limits, most, waited, is_cut=False)
    elif len(piece) >= (2 if is_cut else limits.segments):
        yield Merge(tuple(piece), rows, size)
