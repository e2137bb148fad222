"""What a query needs no columns for: statistics of whole segments, and fields that have a value in every row · pure.

The statistics of a segment stand for its rows where no other segment can hold the same series and time, no delete hides
any of them, and neither the range of the query, nor the retention, nor a window cuts it. Source: design, decision 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from common.model import FieldType
from common.segment import COUNT, MAX, MIN
from common.tombstones import Tombstone, pending
from services.query.engine.frame import Piece
from services.query.engine.functions import accepts
from services.query.engine.spec import Call, Query, Ref, RefKind
from services.query.engine.summary import Summary
from services.query.engine.vectors import DTYPES, Indexes, Mask, Vector, zeros
from services.query.reading import units
from services.query.reading.units import Segment

Shards = Mapping[tuple[int, int], Sequence[Segment]]
# Functions whose value follows from number, least and greatest.
FUNCTIONS = frozenset(("count", "max", "min", "spread"))
_EXTREMES = frozenset(("max", "min"))


@dataclass(frozen=True, slots=True)
class Told:
    """What statistics tell, and what is left to be read.

    Attributes:
        summaries: of each field, over the segments that are not read.
        rest: the shards without those segments.
        segments: how many of them there are.
    """

    rest: dict[tuple[int, int], list[Segment]]
    segments: int
    summaries: dict[str, Summary] = field(default_factory=dict)


def tell(query: Query, shards: Shards, stones: Sequence[Tombstone]) -> Told | None:
    """What the statistics of *shards* tell of *query*; None = nothing, all has to be read.

    Where the point itself is wanted, not only its value (max and min without windows give its time), the statistics
    tell which segments can't hold it.
    """
    refs = _refs(query, FUNCTIONS)
    if not refs or query.filters or query.keys or query.slimit or query.soffset:
        return None
    told: dict[tuple[int, int], list[Segment]] = {}
    for shard, segments in shards.items():
        if shard[0] < query.stop_ns and shard[1] > max(query.start_ns, query.visible_from_ns):
            alone = _stand_alone(query, refs, segments, stones)
            told[shard] = [segment for segment, is_alone in zip(segments, alone.tolist(), strict=True) if is_alone]
    is_point = query.windows is None and len(query.calls) == 1 and query.calls[0].name in _EXTREMES
    if is_point:
        told = _without_best(query.calls[0].name, refs[0].name, told)
    told = {shard: _small_together(shards[shard], found) for shard, found in told.items()}
    count = sum(map(len, told.values()))
    if not count:
        return None
    rest = {shard: _without(segments, told.get(shard, ())) for shard, segments in shards.items()}
    if is_point:
        return Told(rest, count)
    every = [segment for found in told.values() for segment in found]
    found = {ref.name: _summary(ref, every) for ref in refs}
    return Told(rest, count, {name: summary for name, summary in found.items() if summary is not None})


def effort(query: Query, shards: Shards) -> int:
    """How many statistics ``tell`` and ``full_fields`` look at, at most, each for 1 to 3 us; 0 where none is needed."""
    return len(_refs(query, FUNCTIONS)) * sum(map(len, shards.values()))


def _refs(query: Query, functions: frozenset[str]) -> list[Ref]:
    """The fields of *query* when all that it asks for is *functions* over fields; else none."""
    refs: dict[Ref, None] = {}
    for leaf in query.leaves:
        if not isinstance(leaf, Call) or leaf.name not in functions:
            return []
        ref = leaf.argument
        if not isinstance(ref, Ref) or ref.kind is not RefKind.FIELD or not accepts(leaf.name, ref.type):
            return []
        refs[ref] = None
    return list(refs)


def _stand_alone(query: Query, refs: Sequence[Ref], segments: Sequence[Segment], stones: Sequence[Tombstone]) -> Mask:
    """Of the segments of one shard those whose statistics hold for *query*."""
    first = np.array([segment.min_ns for segment in segments], np.int64)
    last = np.array([segment.max_ns for segment in segments], np.int64)
    alone = ~_overlapping(first, last)
    alone &= (first >= max(query.start_ns, query.visible_from_ns)) & (last < query.stop_ns)
    if query.windows is not None:
        # Across a change of the clock windows need not follow each other.
        alone &= (query.windows.starts(first) == query.windows.starts(last)) & (query.windows.zone is None)
    for i in np.flatnonzero(alone).tolist():
        segment = segments[i]
        alone[i] = all(_type(segment, ref) in (None, ref.type) for ref in refs) and not (
            stones and pending(stones, segment.applied, segment.min_ns, segment.max_ns)
        )
    return alone


def _overlapping(first: Indexes, last: Indexes) -> Mask:
    """Which of the ranges (both ends within) have a time in common with another one."""
    order = np.lexsort((last, first))
    starts, ends = first[order], last[order]
    meets = np.zeros(len(order), bool)
    meets[1:] = starts[1:] <= np.maximum.accumulate(ends)[:-1]
    meets[:-1] |= starts[1:] <= ends[:-1]
    out = np.empty_like(meets)
    out[order] = meets
    return out


def _type(segment: Segment, ref: Ref) -> FieldType | None:
    found = segment.chunks.get(ref.name)
    return None if found is None else found[1]


def _statistics(segment: Segment, name: str) -> Sequence[Any] | None:
    """The entry of a column in the meta, None where it has no value."""
    found = segment.chunks.get(name)
    entry: Sequence[Any] | None = None if found is None else segment.meta["chunks"][found[0]]
    return entry if entry is not None and entry[COUNT] else None


def _small_together(segments: Sequence[Segment], found: Sequence[Segment]) -> list[Segment]:
    """*found*, without the small segments unless all of the shard are among them: those are read as one unit."""
    small = sum(segment.rows < units.SMALL_ROWS for segment in segments)
    if sum(segment.rows < units.SMALL_ROWS for segment in found) == small:
        return [*found]
    return [segment for segment in found if segment.rows >= units.SMALL_ROWS]


def _without_best(call: str, name: str, told: Mapping[tuple[int, int], list[Segment]]) -> dict[Any, list[Segment]]:
    """The segments whose extreme of field *name* is surpassed by that of another one."""
    at, sign = (MAX, 1) if call == "max" else (MIN, -1)
    every = [entry[at] for found in told.values() for seg in found if (entry := _statistics(seg, name)) is not None]
    best = max(every, key=lambda value: sign * value, default=None)

    def loses(segment: Segment) -> bool:
        entry = _statistics(segment, name)
        return entry is None or bool(entry[at] != best)

    return {shard: [segment for segment in found if loses(segment)] for shard, found in told.items()}


def _without(segments: Sequence[Segment], told: Iterable[Segment]) -> list[Segment]:
    gone = {segment.id for segment in told}
    return [segment for segment in segments if segment.id not in gone]


def _summary(ref: Ref, segments: Sequence[Segment]) -> Summary | None:
    """Field *ref* over *segments*, one stretch each; None where it has no value."""
    with_values = [(seg, entry) for seg in segments if (entry := _statistics(seg, ref.name)) is not None]
    if not with_values:
        return None
    groups = np.zeros(len(with_values), np.int64)
    times = np.array([segment.min_ns for segment, _ in with_values], np.int64)
    counts = np.array([entry[COUNT] for _, entry in with_values], np.int64)
    if ref.type is FieldType.STRING:
        return Summary(ref.type, groups, times, counts, groups, groups)
    low, high = (np.array([entry[at] for _, entry in with_values], DTYPES[ref.type]) for at in (MIN, MAX))
    return Summary(ref.type, groups, times, counts, low, high)


# ---------------------------------------------------------------- fields with a value in every row


def full_fields(query: Query, shards: Shards, start_ns: int, stop_ns: int) -> dict[str, FieldType]:
    """The fields of a query that does nothing but count, where rows tell how many values there are.

    Empty unless each of its fields has a value, of the type of the query, in all rows of each segment of the shards
    that touch ``[start_ns, stop_ns)``: then ids, offsets and times of the rows are all that has to be read.
    """
    refs = _refs(query, frozenset(("count",)))
    if not refs or not all(condition.only_tags for condition in query.filters):
        return {}
    for (shard_start, shard_stop), segments in shards.items():
        if shard_start < stop_ns and shard_stop > start_ns:
            for segment in segments:
                for ref in refs:
                    entry = _statistics(segment, ref.name)
                    if entry is None or entry[COUNT] != segment.rows or _type(segment, ref) is not ref.type:
                        return {}
    return {ref.name: ref.type for ref in refs}


def with_full_fields(pieces: Iterable[Piece], fields: Mapping[str, FieldType]) -> list[Piece]:
    """*pieces* with columns of *fields* that take no memory: each row has a value, at which no one looks."""
    return [
        replace(
            piece,
            columns={
                name: Vector(type, np.broadcast_to(zeros(type, 1), len(piece.times))) for name, type in fields.items()
            },
        )
        for piece in pieces
    ]
