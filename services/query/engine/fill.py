"""fill(): what stands in windows without a value · pure.

Source: InfluxQL as observed on 2.9, section 8; InfluxDB 1.x ``query.fillIterator``.
"""

from __future__ import annotations

import numpy as np

from common.errors import Unprocessable
from common.model import FieldType
from services.query.engine.answers import starts_of
from services.query.engine.cells import Points, RowRefs
from services.query.engine.spec import Filling, Query
from services.query.engine.vectors import NUMBERS, Indexes, Mask, Vector, float_to_int, zeros
from services.query.engine.window import Windows


def fill_points(
    points: Points, windows: Windows, fill: Filling, value: int | float, query: Query, start_ns: int, stop_ns: int
) -> Points:
    """*points* (at most one a group and window) with every window between the bounds.

    Groups without any point stay without; without a lower bound each group begins at its first point.
    *start_ns*, *stop_ns* are the range that the points were read from.
    """
    if fill is Filling.NONE or not len(points):
        return points
    first, last = windows.bounds(start_ns, stop_ns - 1)
    last = int(points.times.max()) if last is None else last
    begin = int(points.times.min()) if first is None else first
    if _is_full(points, windows, first, last):
        return points
    group_starts = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(np.diff(points.groups)) + 1))
    groups = points.groups[group_starts]
    steps = windows.count(begin, last)
    if steps * len(groups) > query.max_cells:
        raise Unprocessable(
            f"max-select-buckets limit exceeded: ({steps * len(groups)}/{query.max_cells})"
        )  # fmt: skip
    grid = windows.grid(begin, last)
    firsts = np.zeros(len(groups), np.int64)
    if first is None:
        firsts = _places(grid, points.times[group_starts], windows)
    lengths = len(grid) - firsts
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    total = int(offsets[-1])
    group_of = np.repeat(np.arange(len(groups)), lengths)
    place = np.arange(total) - offsets[group_of] + firsts[group_of]
    counts = np.diff(np.append(group_starts, len(points)))
    at = _places(grid, points.times, windows) + np.repeat(offsets[:-1] - firsts, counts)
    filled = _fill_vector(points.values, at, group_of, offsets, place, fill, value, query.descending)
    rows = None if points.rows is None else _spread_rows(points.rows, at, total)
    return Points(groups[group_of], grid[place], filled, rows)


def _is_full(points: Points, windows: Windows, first: int | None, last: int) -> bool:
    """Whether there is one group, and it has a point in each window."""
    one = windows.zone is None and bool(points.groups[0] == points.groups[-1])
    return one and first is not None and len(points) == windows.count(first, last)


def _places(grid: Indexes, times: Indexes, windows: Windows) -> Indexes:
    """Place of each window start in the grid."""
    if windows.zone is not None:
        return np.searchsorted(grid, times)
    places: Indexes = (times - grid[0]) // windows.width_ns
    return places


def _spread_rows(rows: RowRefs, at: Indexes, total: int) -> RowRefs:
    """Source rows of the filled windows: -1 where there is none."""
    which, row = np.full(total, -1, np.int64), np.zeros(total, np.int64)
    which[at], row[at] = rows.which, rows.at
    return RowRefs(rows.rows, which, row)


def _fill_vector(
    vector: Vector,
    at: Indexes,
    group_of: Indexes,
    offsets: Indexes,
    place: Indexes,
    fill: Filling,
    value: int | float,
    descending: bool,
) -> Vector:
    total = len(group_of)
    values = zeros(vector.type, total)
    values[at] = vector.values
    present = np.zeros(total, bool)
    present[at] = True
    valid = present.copy()
    valid[at] = vector.mask
    if fill is Filling.NUMBER:
        if vector.type in NUMBERS:
            values[~present] = filler(value, vector.type)
        valid |= ~present
        return Vector(vector.type, values, None if valid.all() else valid)
    if fill is Filling.NULL or (fill is Filling.LINEAR and vector.type not in NUMBERS):
        return Vector(vector.type, values, None if valid.all() else valid)
    before, after = _neighbours(present, group_of, offsets)
    if fill is Filling.PREVIOUS:
        source = after if descending else before
        found = source >= 0
        take = np.where(found, source, 0)
        return Vector(vector.type, values[take], found & valid[take])
    inside = ~present & (before >= 0) & (after >= 0)
    # No line begins or ends at a window that has a point without a value (stddev of one).
    inside &= valid[np.maximum(before, 0)] & valid[np.maximum(after, 0)]
    left, right = before[inside], after[inside]
    slope = (values[right].astype(np.float64) - values[left].astype(np.float64)) / (place[right] - place[left])
    line = slope * (place[inside] - place[left]) + values[left].astype(np.float64)
    values[inside] = line if vector.type is FieldType.FLOAT else line.astype(values.dtype)
    valid |= inside
    return Vector(vector.type, values, None if valid.all() else valid)


def filler(value: int | float, type: FieldType) -> int | float:
    """The number of fill() as a value of a numeric type: cut towards zero, unsigned wraps."""
    if type is FieldType.FLOAT:
        return float(value)
    whole = value if isinstance(value, int) else int(float_to_int(np.array([value], np.float64))[0])
    if type is FieldType.UNSIGNED:
        return whole & 0xFFFFFFFFFFFFFFFF
    return (whole + (1 << 63)) % (1 << 64) - (1 << 63)


# ---------------------------------------------------------------- joined columns


def fill_missing(vector: Vector, present: Mask, value: int | float) -> Vector:
    """The values of a call beside those of others: rows in which it has no point, by *present*, get the number."""
    values = vector.values.copy()
    if vector.type in NUMBERS:
        values[~present] = filler(value, vector.type)
    valid = vector.mask | ~present
    return Vector(vector.type, values, None if valid.all() else valid)


def fill_column(vector: Vector, fill: Filling, value: int | float, groups: Indexes, descending: bool) -> Vector:
    """A selected column with its nulls filled: by the number, or by the value of the row before in its group.

    A number stands bare among strings and booleans, as there. *groups* is the group of each row, *descending* whether
    the rows are told backward.
    """
    if vector.valid is None:
        return vector
    if fill is Filling.PREVIOUS:
        return carry(vector, groups, descending)
    if fill is not Filling.NUMBER:
        return vector
    if vector.type in NUMBERS:
        number = vector.values.dtype.type(filler(value, vector.type))
        return Vector(vector.type, np.where(vector.valid, vector.values, number))
    return Vector(vector.type, np.where(vector.valid, vector.values.astype(object), value))


def without_bare_numbers(vector: Vector) -> Vector:
    """A filled column as values of its own type alone, for a query around it: bare numbers are nulls."""
    if vector.type in NUMBERS or vector.values.dtype != object:
        return vector
    kind = str if vector.type is FieldType.STRING else bool
    own = np.fromiter((isinstance(value, kind) for value in vector.values), bool, len(vector))
    if own.all() and vector.type is FieldType.STRING:
        return vector
    values = zeros(vector.type, len(vector))
    values[own] = vector.values[own]
    return Vector(vector.type, values, vector.mask & own)


def carry(vector: Vector, groups: Indexes, descending: bool) -> Vector:
    """*vector* with each null replaced by the value that was told last in its group."""
    valid = vector.mask
    if valid.all():
        return vector
    offsets = np.append(starts_of(groups), len(groups))
    group_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    before, after = _neighbours(valid, group_of, offsets)
    source = after if descending else before
    return Vector(vector.type, vector.values[np.maximum(source, 0)], source >= 0)


def _neighbours(present: Mask, group_of: Indexes, offsets: Indexes) -> tuple[Indexes, Indexes]:
    """For each window the nearest one with a point at or before it, and at or after it, within its group; -1 = none."""
    total = len(present)
    index = np.arange(total)
    before = np.maximum.accumulate(np.where(present, index, -1))
    before = np.where(before >= offsets[group_of], before, -1)
    after = np.minimum.accumulate(np.where(present, index, total)[::-1])[::-1]
    after = np.where(after < offsets[group_of + 1], after, -1)
    return before, after
