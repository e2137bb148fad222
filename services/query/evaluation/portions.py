"""How a SELECT over many rows is cut into portions that are read, worked out and told one after the other · pure.

Memory is bounded by the portion, not by the answer. Rows without GROUP BY are cut by time; with it, groups are taken
together as far as there is room. Functions that allow it are folded over ranges of time. Sizes are estimates: rows lie
evenly in a segment's time and among its series.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from services.query.engine.fold import can_fold
from services.query.engine.frame import Grouping
from services.query.engine.scan import takes_ends
from services.query.engine.spec import Query
from services.query.engine.vectors import Indexes, Mask
from services.query.reading.units import Segment

# Bytes that a row of a query takes while it is worked out: times, cells, order, and a value and mask a column.
ROW_BYTES = 32
VALUE_BYTES = 17
# And while it lies decoded: time, and a value and mask a column.
DECODED_ROW_BYTES = 8
DECODED_VALUE_BYTES = 9
# And a group's window in each partial result of a call, while two are made one.
FOLDED_BYTES = 128
# Rows without functions are worked out in portions of so many bytes.
WORK_BYTES = 64 << 20

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Portion:
    """Series and times that are worked out together.

    Attributes:
        wanted: marks the series, by code.
        slices: ranges of time, ascending, that are read one after the other.
        by_slice: each slice is worked out and told by itself; else the rows of all are gathered first.
        folded: each slice is worked out by itself, and all are told together.
    """

    wanted: Mask
    slices: tuple[Range, ...]
    by_slice: bool
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What one query may take at a time, in bytes: worked out without functions and with them, and decoded."""

    raw: int
    calls: int
    decoded: int

    @classmethod
    def of(cls, budget_bytes: int) -> Room:
        """Parts of a process's budget."""
        return cls(min(WORK_BYTES, budget_bytes // 16), budget_bytes // 3, budget_bytes // 4)


def row_bytes(query: Query) -> int:
    """Bytes of one row at work."""
    return ROW_BYTES + VALUE_BYTES * len(query.leaves)


def count_rows(segments: Iterable[Segment], start_ns: int, stop_ns: int) -> int:
    """Rows in ``[start_ns, stop_ns)``, about."""
    return sum(_rows_between(segment, start_ns, stop_ns) for segment in segments)


def _rows_between(segment: Segment, start_ns: int, stop_ns: int) -> int:
    first, stop = max(segment.min_ns, start_ns), min(segment.max_ns + 1, stop_ns)
    if stop <= first:
        return 0
    return segment.rows * (stop - first) // (segment.max_ns + 1 - segment.min_ns)


def time_slices(segments: Iterable[Segment], start_ns: int, stop_ns: int, most_rows: int) -> tuple[Range, ...]:
    """Ranges that together hold all rows in ``[start_ns, stop_ns)``, each about *most_rows* of them; ascending."""
    touched = [segment for segment in segments if segment.min_ns < stop_ns and segment.max_ns >= start_ns]
    if not touched or start_ns >= stop_ns:
        return ()
    firsts = np.array([segment.min_ns for segment in touched], np.int64)
    stops = np.array([segment.max_ns + 1 for segment in touched], np.int64)
    density = np.array([segment.rows for segment in touched]) / (stops - firsts)
    firsts, stops = np.maximum(firsts, start_ns), np.minimum(stops, stop_ns)
    edges = np.unique(np.concatenate((firsts, stops)))
    change = np.zeros(len(edges))
    np.add.at(change, np.searchsorted(edges, firsts), density)
    np.subtract.at(change, np.searchsorted(edges, stops), density)
    rows = np.maximum(np.cumsum(change)[:-1], 0) * np.diff(edges)
    upto = np.cumsum(rows)
    # Where each next *most_rows* end, if rows lie evenly between two edges.
    targets = np.arange(1, int(upto[-1] // most_rows) + 1) * float(most_rows)
    at = np.minimum(np.searchsorted(upto, targets), len(rows) - 1)
    share = (targets - (upto[at] - rows[at])) / np.maximum(rows[at], 1e-9)
    width = np.diff(edges)[at]
    cuts = np.unique(edges[at] + np.clip(share * width, 0, width - 1).astype(np.int64))
    bounds = [int(edges[0]), *cuts[cuts > edges[0]].tolist(), int(edges[-1])]
    return tuple(pairwise(bounds))


def group_batches(of_series: Indexes, wanted: Mask, rows_of_series: float, most_rows: int) -> list[Range]:
    """First and last group (exclusive) of runs of groups with about *most_rows* rows each, one group at least."""
    counts = np.bincount(of_series[wanted]) * rows_of_series
    batches: list[Range] = []
    held = 0.0
    for group in np.flatnonzero(counts).tolist():
        if batches and held + counts[group] <= most_rows:
            batches[-1] = (batches[-1][0], group + 1)
            held += counts[group]
        else:
            batches.append((group, group + 1))
            held = counts[group]
    return batches


def plan_portions(
    query: Query,
    grouping: Grouping,
    wanted: Mask | None,
    segments: Sequence[Segment],
    read: Range,
    fields: int,
    room: Room,
) -> list[Portion]:
    """In which portions *query* is worked out over one measurement, in the order of its answer; none = as a whole.

    Args:
        grouping: of its series by the query's keys.
        wanted: series that its conditions leave; None = all.
        read: the range of times that has to be read.
        fields: how many columns are decoded.
    """
    series = len(grouping.of_series)
    if not series or query.slimit or query.soffset:
        return []
    wanted = np.ones(series, bool) if wanted is None else wanted
    share = float(np.count_nonzero(wanted)) / series
    in_all = count_rows(segments, *read)
    most_rows = max(1, (room.calls if query.calls else room.raw) // row_bytes(query))
    most_decoded = max(1, room.decoded // (DECODED_ROW_BYTES + DECODED_VALUE_BYTES * fields))
    at_work = in_all * share
    if takes_ends(query):
        at_work = min(at_work, float(np.count_nonzero(wanted)) * (query.limit + query.offset))
    if not share or (at_work <= most_rows and in_all <= most_decoded):
        return []
    slices = time_slices(segments, *read, most_decoded)
    if can_fold(query):
        groups = len(np.unique(grouping.of_series[wanted]))
        if groups * _count_windows(query, slices) * len(query.leaves) * FOLDED_BYTES <= room.calls:
            finer = time_slices(segments, *read, max(1, int(min(most_rows / share, most_decoded))))
            return [Portion(wanted, finer, by_slice=True, folded=True)]
    if not query.keys:
        if query.calls:
            return [Portion(wanted, slices, by_slice=False)]
        return [Portion(wanted, _finer(segments, query, most_rows / share, most_decoded), by_slice=True)]
    portions = []
    rows_of_series = in_all / series
    for first, stop in group_batches(grouping.of_series, wanted, rows_of_series, most_rows):
        chosen = wanted & (grouping.of_series >= first) & (grouping.of_series < stop)
        rows = np.count_nonzero(chosen) * rows_of_series
        if rows > most_rows and not query.calls:
            finer = _finer(segments, query, most_rows * in_all / rows, most_decoded)
            portions.append(Portion(chosen, finer, by_slice=True))
        else:
            portions.append(Portion(chosen, slices, by_slice=False))
    return portions[::-1] if query.descending else portions


def _count_windows(query: Query, slices: Sequence[Range]) -> int:
    """Windows of a group that may have rows."""
    if query.windows is None or not slices:
        return 1
    return (slices[-1][1] - slices[0][0]) // query.windows.width_ns + 2


def _finer(segments: Sequence[Segment], query: Query, told: float, decoded: int) -> tuple[Range, ...]:
    """Slices of the query's own range that are neither told nor decoded in larger pieces than that, in rows."""
    start_ns = max(query.start_ns, query.visible_from_ns)
    return time_slices(segments, start_ns, query.stop_ns, max(1, min(int(told), decoded)))
