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
    values = rows.values.astype(np.float64)
    means = np.add.reduceat(values, offsets[:-1]) / sizes if len(sizes) else values
    squares = np.add.reduceat((values - means[rows.cell]) ** 2, offsets[:-1]) if len(sizes) else values
    enough = sizes > 1
    result = np.sqrt(squares / np.where(enough, sizes - 1, 1))
    return _points(sample, FLOAT, np.where(enough, result, 0.0), None if enough.all() else enough)


def mode(sample: Sample) -> Points:
    """Most frequent value; a draw goes to the earlier one, without any repetition to the smallest."""
    rows = sample.rows
    ranks = ranks_of(Vector(sample.type, rows.values))
    order = np.lexsort((rows.times, ranks, rows.cell))
    cell, rank = rows.cell[order], ranks[order]
    starts = _changes(cell, rank)
    counts = np.diff(np.append(starts, len(order)))
    first_time = rows.times[order][starts]
    if sample.type is BOOLEAN:
        tie: Indexes = 1 - rank[starts].astype(np.int64)
    else:
        # Values that occur once are drawn by size (they are sorted so), others by the time of their first point.
        tie = np.where(counts > 1, first_time, 0)
    best = np.lexsort((np.arange(len(starts)), tie, -counts, cell[starts]))
    winners = starts[best[_changes(cell[starts][best])]]
    return _points(sample, sample.type, rows.values[order[winners]])


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


def integral(sample: Sample, unit_ns: int, windows: Windows | None) -> Points:
    """Area under the straight lines from point to point, in units of *unit_ns*; of equal times the last counts.

    *sample* has to be cut without windows: here they split the area at their edges.
    """
    rows = sample.rows
    order = np.lexsort((rows.rank, rows.times, rows.cell))
    group = sample.cells.groups[rows.cell[order]]
    times, values = rows.times[order], rows.values[order].astype(np.float64)
    last = np.append((group[1:] != group[:-1]) | (times[1:] != times[:-1]), True) if len(group) else np.zeros(0, bool)
    group, times, values = group[last], times[last], values[last]
    joined = group[1:] == group[:-1]
    left, right = np.flatnonzero(joined), np.flatnonzero(joined) + 1
    if windows is None:
        area = 0.5 * (values[left] + values[right]) * ((times[right] - times[left]) / unit_ns)
        sums = np.bincount(np.searchsorted(sample.cells.groups, group[left]), area, len(sample.cells))
        return _points(sample, FLOAT, sums)
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
