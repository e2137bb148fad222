"""first() and last() of series: the oldest or newest segments first, all only if a series has no value there · pure.

A point of a series in them is before (after) all that lie outside, so that it is the answer, wherever each group is one
series; among several series equal times would be decided by those that are not looked at, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.query.engine.answers import Answer
from services.query.engine.frame import SeriesTable
from services.query.engine.spec import Call, Query, Ref
from services.query.engine.vectors import Mask
from services.query.reading import units
from services.query.reading.units import Segment

# Segments are looked at until they have so many rows; more of them cost little then.
ROWS = 4 * units.SMALL_ROWS


@dataclass(frozen=True, slots=True)
class Ends:
    """A first try: *query* over the ends of the measurement only, and how many groups have to be answered."""

    query: Query
    groups: int

    def suffices(self, told: Sequence[Answer]) -> bool:
        """Whether *told*, the answer of the try, is that of the whole."""
        return sum(map(len, told)) == self.groups


def find_ends(
    query: Query, table: SeriesTable, wanted: Mask | None, shards: Mapping[tuple[int, int], Iterable[Segment]]
) -> Ends | None:
    """What to try of *query* over a measurement; None = nothing.

    Args:
        table: its series.
        wanted: series that its conditions leave; None = all.
    """
    call = query.leaves[0] if len(query.leaves) == 1 else None
    if not isinstance(call, Call) or call.name not in ("first", "last") or not isinstance(call.argument, Ref):
        return None
    if query.windows is not None or query.offset or query.slimit or query.soffset:
        return None
    if not all(condition.only_tags for condition in query.filters):
        return None
    start_ns = max(query.start_ns, query.visible_from_ns)
    there = [
        segment
        for segments in shards.values()
        for segment in segments
        if segment.min_ns < query.stop_ns and segment.max_ns >= start_ns
    ]
    if sum(segment.rows for segment in there) <= ROWS:
        return None
    narrowed = _last(query, there) if call.name == "last" else _first(query, there)
    if narrowed.start_ns <= start_ns and narrowed.stop_ns >= query.stop_ns:
        return None
    of_series = table.group(query.keys).of_series
    groups = of_series if wanted is None else of_series[wanted]
    found = len(np.unique(groups))
    return Ends(narrowed, found) if found == len(groups) else None


def _last(query: Query, segments: Sequence[Segment]) -> Query:
    rows, start_ns = 0, query.stop_ns
    for segment in sorted(segments, key=lambda segment: -segment.max_ns):
        if rows >= ROWS:
            break
        rows += segment.rows
        start_ns = min(start_ns, segment.min_ns)
    return replace(query, start_ns=max(query.start_ns, start_ns))


def _first(query: Query, segments: Sequence[Segment]) -> Query:
    rows, stop_ns = 0, query.start_ns
    for segment in sorted(segments, key=lambda segment: segment.min_ns):
        if rows >= ROWS:
            break
        rows += segment.rows
        stop_ns = max(stop_ns, segment.max_ns + 1)
    return replace(query, stop_ns=min(query.stop_ns, stop_ns))
