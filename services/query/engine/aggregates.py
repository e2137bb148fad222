"""Aggregates: one value for each group and window (distinct: some) · pure.

Source: InfluxQL as observed on 2.9, section 11.1; InfluxDB 1.x ``query/functions``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.cells import Points, Sample
from services.query.engine.kernels import deviations
from services.query.engine.transforms import Stream
from services.query.engine.vectors import Indexes, Mask, Vector, ranks_of, zeros
from services.query.engine.window import Windows

FLOAT, INTEGER, UNSIGNED = FieldType.FLOAT, FieldType.INTEGER, FieldType.UNSIGNED
BOOLEAN = FieldType.BOOLEAN


def count(sample: Sample) -> Points:
    """Number of values."""
    return _points(sample, INTEGER, sample.cells.reduce(np.add, sample.counts()))


def total(sample: Sample) -> Points:
    """Sum; integers wrap at 64 bits."""
    return _points(sample, sample.type, sample.cells.reduce(np.add, sample.partials(np.add)))


def mean(sample: Sample) -> Points:
    """Sum divided by number; integers are summed as such first, and may wrap."""
    sums = sample.cells.reduce(np.add, sample.partials(np.add)).astype(np.float64)
    return _points(sample, FLOAT, sums / sample.cells.reduce(np.add, sample.counts()))


def spread(sample: Sample) -> Points:
    """Largest minus smallest; wraps for extreme integers."""
    high = sample.cells.reduce(np.maximum, sample.partials(np.maximum))
    low = sample.cells.reduce(np.minimum, sample.partials(np.minimum))
    with np.errstate(all="ignore"):
        return _points(sample, sample.type, high - low)


def median(sample: Sample) -> Points:
    """Middle value, of an even number the mean of the two in the middle."""
    values, offsets = sorted_cells(sample)
    sizes = np.diff(offsets)
    upper = values[offsets[:-1] + sizes // 2]
    lower = values[offsets[:-1] + (sizes - 1) // 2]
    if sample.type is FLOAT:
        return _points(sample, FLOAT, lower + (upper - lower) / 2)
    # Integers are subtracted as such, which may wrap as it does there.
    with np.errstate(all="ignore"):
        return _points(sample, FLOAT, lower.astype(np.float64) + (upper - lower).astype(np.float64) / 2)


def stddev(sample: Sample) -> Points:
    """Sample standard deviation; of a single value none."""
    rows = sample.rows
    offsets = cell_offsets(rows.cell, len(sample.cells))
    sizes = np.diff(offsets)
    enough = sizes > 1
    with np.errstate(all="ignore"):
        result = deviations(rows.values.astype(np.float64), offsets)
    return _points(sample, FLOAT, result, None if enough.all() else enough)


def mode(sample: Sample) -> Points:
    """Most frequent value; without any repetition the smallest. Of booleans true wins a draw."""
    rows = sample.rows
    ranks = ranks_of(Vector(sample.type, rows.values))
    order = np.lexsort((rows.times, ranks, rows.cell))
    cell = rows.cell[order]
    starts = _changes(cell, ranks[order])
    ends = np.append(starts[1:], len(order))
    counts, of_cell = ends - starts, cell[starts]
    most = np.zeros(len(sample.cells), np.int64)
    np.maximum.at(most, of_cell, counts)
    finalists = np.flatnonzero(counts == most[of_cell])
    heads = _changes(of_cell[finalists])
    winners = finalists[heads]
    if sample.type is BOOLEAN:
        winners = finalists[np.append(heads[1:], len(finalists)) - 1]
    else:
        first, last = rows.times[order[starts]], rows.times[order[ends - 1]]
        for i in np.flatnonzero((np.diff(np.append(heads, len(finalists))) > 1) & (most > 1)).tolist():
            stop = heads[i + 1] if i + 1 < len(heads) else len(finalists)
            # In order of value each takes the place of the one before unless it began after that one's last point
            # (InfluxDB 1.x, FloatModeReduceSlice).
            for rival in finalists[heads[i] + 1 : stop].tolist():
                if first[rival] <= last[winners[i]]:
                    winners[i] = rival
    return _points(sample, sample.type, rows.values[order[starts[winners]]])


def distinct(sample: Sample) -> Points:
    """Each different value once, by the time of its first point, then by value."""
    rows = sample.rows
    ranks = ranks_of(Vector(sample.type, rows.values))
    order = np.lexsort((rows.times, ranks, rows.cell))
    firsts = order[_changes(rows.cell[order], ranks[order])]
    firsts = firsts[np.lexsort((ranks[firsts], rows.times[firsts], rows.cell[firsts]))]
    cell = rows.cell[firsts]
    cells = sample.cells
    return Points(cells.groups[cell], cells.times[cell], Vector(sample.type, rows.values[firsts]))


def count_distinct(sample: Sample) -> Points:
    """Number of different values."""
    rows = sample.rows
    ranks = ranks_of(Vector(sample.type, rows.values))
    order = np.lexsort((ranks, rows.cell))
    cell = rows.cell[order][_changes(rows.cell[order], ranks[order])]
    return _points(sample, INTEGER, np.bincount(cell, minlength=len(sample.cells)))


def integral(stream: Stream, unit_ns: int, windows: Windows | None) -> Points:
    """Area under the straight lines from point to point, in units of *unit_ns*.

    *stream* runs forward in time; windows split the area at their edges.
    """
    group, times, values = stream.groups, stream.times, stream.values.values.astype(np.float64)
    if not len(group):
        return Points(group, times, Vector(FLOAT, values))
    # A line goes from the last point of one time to the first of the next (recorded so).
    left = np.flatnonzero((group[1:] == group[:-1]) & (times[1:] != times[:-1]))
    right = left + 1
    if windows is None:
        area = 0.5 * (values[left] + values[right]) * ((times[right] - times[left]) / unit_ns)
        groups = group[_changes(group)]
        sums = np.bincount(np.searchsorted(groups, group[left]), area, len(groups))
        return Points(groups, np.zeros(len(groups), np.int64), Vector(FLOAT, sums))
    return _windowed_integral(group, times, values, left, right, unit_ns, windows)


def _windowed_integral(
    group: Indexes,
    times: Indexes,
    values: NDArray[np.float64],
    left: Indexes,
    right: Indexes,
    unit_ns: int,
    windows: Windows,
) -> Points:
    starts = windows.starts(times)
    crosses = starts[left] != starts[right]
    # The end of the left point's window, where the area is split; a gap's area goes to the right point's window.
    edge = np.where(crosses, windows.starts(starts[left] + windows.width_ns), times[right])
    slope = (values[right] - values[left]) / (times[right] - times[left])
    at_edge = np.where(crosses, values[left] + slope * (edge - times[left]), values[right])
    before = 0.5 * (values[left] + at_edge) * ((edge - times[left]) / unit_ns)
    after = np.where(crosses, 0.5 * (at_edge + values[right]) * ((times[right] - edge) / unit_ns), 0.0)
    key_group = np.concatenate((group, group[left], group[right]))
    key_time = np.concatenate((starts, starts[left], starts[right]))
    area = np.concatenate((np.zeros(len(group)), before, after))
    order = np.lexsort((key_time, key_group))
    begins = _changes(key_group[order], key_time[order])
    sums = np.add.reduceat(area[order], begins) if len(begins) else area
    groups, cell_times = key_group[order][begins], key_time[order][begins]
    # A last window that holds nothing but a point on its first moment has no area at all.
    ends = np.append(group[1:] != group[:-1], True) if len(group) else np.zeros(0, bool)
    empty = ends & (times == starts)
    lost = set(zip(group[empty].tolist(), starts[empty].tolist(), strict=True))
    keep = np.array([key not in lost for key in zip(groups.tolist(), cell_times.tolist(), strict=True)], bool)
    return Points(groups[keep], cell_times[keep], Vector(FLOAT, sums[keep]))


def estimate_distinct(sample: Sample) -> Points:
    """Number of different values where an estimate is asked for: exact is the best estimate."""
    exact = count_distinct(sample)
    return Points(exact.groups, exact.times, Vector(UNSIGNED, exact.values.values.astype(np.uint64)))


AGGREGATES: dict[str, Callable[[Sample], Points]] = {
    "count": count,
    "sum": total,
    "mean": mean,
    "spread": spread,
    "median": median,
    "stddev": stddev,
    "mode": mode,
    "distinct": distinct,
    "count_distinct": count_distinct,
    "count_hll": estimate_distinct,
}


def sorted_cells(sample: Sample) -> tuple[NDArray[Any], Indexes]:
    """Values in ascending order within each cell, and where the cells begin (and the last one ends)."""
    rows = sample.rows
    order = np.lexsort((rows.values, rows.cell))
    return rows.values[order], cell_offsets(rows.cell, len(sample.cells))


def cell_offsets(cell: Indexes, count: int) -> Indexes:
    """Where each of *count* cells begins in ascending *cell*, and where the last one ends."""
    return np.searchsorted(cell, np.arange(count + 1))


def _changes(*keys: NDArray[Any]) -> Indexes:
    """Places at which a new combination of the (sorted) keys begins."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    changed = np.zeros(len(keys[0]), bool)
    changed[0] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def _points(sample: Sample, type: FieldType, values: NDArray[Any], valid: Mask | None = None) -> Points:
    cells = sample.cells
    if not len(cells):
        return Points(cells.groups, cells.times, Vector(type, zeros(type, 0)))
    return Points(cells.groups, cells.times, Vector(type, values, valid))
