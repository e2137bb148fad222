"""Rows cut into runs (one series within one window) and runs gathered into cells (one group within one window) · pure.

Aggregates work on runs of neighbouring rows and then on the few values that the runs gave, never row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.frame import Rows
from services.query.engine.kernels import cell_starts, cut_windows
from services.query.engine.summary import Summary
from services.query.engine.vectors import Indexes, Vector, cast, zeros
from services.query.engine.window import Windows


@dataclass(frozen=True, slots=True)
class Runs:
    """Neighbouring rows of one series in one window.

    Attributes:
        starts: first row of each run; a run ends where the next begins.
        series: series code of each run.
        groups: group of each run.
        times: start of each run's window, 0 without windows.
    """

    rows: Rows
    starts: Indexes
    series: Indexes
    groups: Indexes
    times: Indexes


def cut_runs(rows: Rows, of_series: Indexes, windows: Windows | None) -> Runs:
    """Cut *rows* where the series or the window changes; *of_series* is the group of each series code."""
    if windows is None or not len(rows):
        starts = rows.offsets[:-1]
        return Runs(rows, starts, rows.series, of_series[rows.series], np.zeros(len(starts), np.int64))
    if windows.zone is None and cut_windows.compiled:
        starts, run, begins = cut_windows(
            np.ascontiguousarray(rows.times), rows.offsets, windows.width_ns, windows.offset_ns
        )
        run_series = rows.series[run]
        return Runs(rows, starts, run_series, of_series[run_series], begins)
    window = windows.starts(rows.times)
    changed = np.empty(len(window), bool)
    changed[0] = True
    np.not_equal(window[1:], window[:-1], out=changed[1:])
    changed[rows.offsets[:-1]] = True
    starts = np.flatnonzero(changed)
    run_series = rows.series[np.searchsorted(rows.offsets, starts, side="right") - 1]
    return Runs(rows, starts, run_series, of_series[run_series], window[starts])


@dataclass(frozen=True, slots=True)
class Part:
    """The values of one field in some runs: rows without a value, and runs without rows, are left out.

    Attributes:
        at: row in ``rows`` of each value; None = the values are those of all rows.
    """

    rows: Rows
    values: NDArray[Any]
    starts: Indexes
    series: Indexes
    groups: Indexes
    times: Indexes
    at: Indexes | None

    @property
    def ends(self) -> Indexes:
        return np.append(self.starts[1:], len(self.values))

    def row_times(self, which: Indexes | None = None) -> Indexes:
        """Times of the values at *which* places, or of all."""
        if which is None:
            return self.rows.times if self.at is None else self.rows.times[self.at]
        return self.rows.times[which if self.at is None else self.at[which]]

    def row_of(self, which: Indexes) -> Indexes:
        """Rows of the values at *which* places."""
        return which if self.at is None else self.at[which]


@dataclass(frozen=True, slots=True)
class Cells:
    """Runs of all parts, gathered by group and window.

    Attributes:
        groups, times: of each cell, ascending.
        order: runs (counted through all parts) cell by cell; None = they are so already.
        starts: place in ``order`` at which each cell begins.
        runs: number of runs.
    """

    groups: Indexes
    times: Indexes
    order: Indexes | None
    starts: Indexes
    runs: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def single(self) -> bool:
        """Whether each cell is one run."""
        return self.order is None and len(self.starts) == self.runs

    def reduce(self, ufunc: np.ufunc, partials: NDArray[Any]) -> NDArray[Any]:
        """One value a cell from one a run."""
        if not len(self.starts):
            return partials[:0]
        if self.order is not None:
            partials = partials[self.order]
        if len(self.starts) == len(partials):
            return partials
        return np.asarray(ufunc.reduceat(partials, self.starts))

    def of_runs(self) -> Indexes:
        """Cell of each run."""
        sizes = np.diff(np.append(self.starts, self.runs))
        cell = np.repeat(np.arange(len(self.starts)), sizes)
        if self.order is None:
            return cell
        out = np.empty(self.runs, np.int64)
        out[self.order] = cell
        return out


def gather_cells(groups: Indexes, times: Indexes) -> Cells:
    """Cells of runs with these groups and window starts."""
    if not len(groups):
        return Cells(groups, times, None, groups, 0)
    if cell_starts.compiled and groups.flags.c_contiguous and times.flags.c_contiguous:
        starts = cell_starts(groups, times)
        if len(starts) == len(groups):
            return Cells(groups, times, None, starts, len(groups))
        if len(starts):
            return Cells(groups[starts], times[starts], None, starts, len(groups))
    new = (groups[1:] != groups[:-1]) | (times[1:] != times[:-1])
    ascends = (groups[1:] > groups[:-1]) | ((groups[1:] == groups[:-1]) & (times[1:] >= times[:-1]))
    order = None
    if not ascends.all():
        order = np.lexsort((times, groups))
        groups, times = groups[order], times[order]
        new = (groups[1:] != groups[:-1]) | (times[1:] != times[:-1])
    starts = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(new) + 1))
    return Cells(groups[starts], times[starts], order, starts, len(groups))


@dataclass(slots=True)
class RowRefs:
    """Source rows of results: which rows object, and which row of it."""

    rows: Sequence[Rows]
    which: Indexes
    at: Indexes
    _series: Indexes | None = None

    def column(self, name: str, type: FieldType) -> Vector:
        """Values of a field in these rows, as *type*."""
        values, valid = zeros(type, len(self.at)), np.zeros(len(self.at), bool)
        for i, rows in enumerate(self.rows):
            mine = np.flatnonzero(self.which == i)
            vector = rows.column(name) if len(mine) else None
            if vector is not None:
                taken = cast(vector.take(self.at[mine]), type)
                values[mine], valid[mine] = taken.values, taken.mask
        return Vector(type, values, None if valid.all() else valid)

    def series(self) -> Indexes:
        """Series code of each of these rows."""
        if self._series is None:
            self._series = np.zeros(len(self.at), np.int64)
            for i, rows in enumerate(self.rows):
                mine = np.flatnonzero(self.which == i)
                self._series[mine] = rows.series_at(self.at[mine])
        return self._series

    def take(self, at: Indexes) -> RowRefs:
        return RowRefs(self.rows, self.which[at], self.at[at])


@dataclass(frozen=True, slots=True)
class Points:
    """What a call gives: one value for each of some (group, time), sorted by group, then time.

    Attributes:
        rows: for selectors, the rows that the values come from.
    """

    groups: Indexes
    times: Indexes
    values: Vector
    rows: RowRefs | None = None

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, at: Indexes) -> Points:
        """The points at *at*, in that order."""
        rows = None if self.rows is None else self.rows.take(at)
        return Points(self.groups[at], self.times[at], self.values.take(at), rows)


@dataclass(slots=True)
class Sample:
    """The values of one field that a call works on, with their runs and cells.

    Attributes:
        type: type of the field in the whole query; parts are of it.
        ranks: place of each series code in ascending order of the series keys.
        windowed: whether the query has GROUP BY time().
        summary: of further values, as runs that follow those of the parts; only for what needs no single value.
    """

    type: FieldType
    parts: list[Part]
    ranks: Indexes
    windowed: bool
    summary: Summary | None = None
    _cells: Cells | None = field(default=None, repr=False)
    _rows: CellRows | None = field(default=None, repr=False)

    @property
    def cells(self) -> Cells:
        if self._cells is None:
            self._cells = gather_cells(self.across("groups"), self.across("times"))
        return self._cells

    def across(self, name: str) -> Indexes:
        """An array of all runs, joined."""
        return _join([getattr(part, name) for part in (*self.parts, *self._summaries)])

    def partials(self, ufunc: np.ufunc) -> NDArray[Any]:
        """*ufunc* over the values of each run, joined."""
        of_parts = [ufunc.reduceat(part.values, part.starts) for part in self.parts]
        return _join([*of_parts, *(summary.extreme(ufunc) for summary in self._summaries)])

    def counts(self) -> Indexes:
        """Number of values in each run."""
        of_parts = [np.diff(np.append(part.starts, len(part.values))) for part in self.parts]
        return _join([*of_parts, *(summary.counts for summary in self._summaries)])

    @property
    def _summaries(self) -> tuple[Summary, ...]:
        return () if self.summary is None else (self.summary,)

    @property
    def rows(self) -> CellRows:
        """All values, cell by cell."""
        if self._rows is None:
            self._rows = _cell_rows(self)
        return self._rows


def _join(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)


def sample(runs: Sequence[Runs], name: str, type: FieldType, source_ranks: Indexes, windowed: bool) -> Sample:
    """Field *name* in *runs*, as *type*; where it has another type that can't be cast, it has no values."""
    parts: list[Part] = []
    for each in runs:
        vector = each.rows.column(name)
        if vector is not None:
            part = _part(each, cast(vector, type))
            if part is not None:
                parts.append(part)
    return Sample(type, parts, source_ranks, windowed)


def _part(runs: Runs, vector: Vector) -> Part | None:
    if not len(vector):
        return None
    if vector.valid is None:
        return Part(runs.rows, vector.values, runs.starts, runs.series, runs.groups, runs.times, None)
    at = np.flatnonzero(vector.valid)
    if not len(at):
        return None
    if len(at) == len(vector):
        return Part(runs.rows, vector.values, runs.starts, runs.series, runs.groups, runs.times, None)
    bounds = np.searchsorted(at, np.append(runs.starts, len(vector)))
    full = np.flatnonzero(bounds[1:] > bounds[:-1])
    return Part(
        runs.rows, vector.values[at], bounds[full], runs.series[full], runs.groups[full], runs.times[full], at
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CellRows:
    """All values of a sample, cell by cell; within a cell by series rank, then time.

    Attributes:
        cell: cell of each value.
        which, at: the part, and the row of its ``rows``, that each value comes from.
    """

    values: NDArray[Any]
    times: Indexes
    cell: Indexes
    rank: Indexes
    which: Indexes
    at: Indexes


def _cell_rows(sample: Sample) -> CellRows:
    counts = sample.counts()
    run_cell = sample.cells.of_runs()
    run_rank = sample.ranks[sample.across("series")]
    values = _join([part.values for part in sample.parts])
    times = _join([part.row_times() for part in sample.parts])
    which = np.repeat(np.arange(len(sample.parts)), [len(part.values) for part in sample.parts])
    at = _join([np.arange(len(part.values)) if part.at is None else part.at for part in sample.parts])
    cell, rank = np.repeat(run_cell, counts), np.repeat(run_rank, counts)
    first_time = _join([part.row_times(part.starts) for part in sample.parts])
    order = np.lexsort((first_time, run_rank, run_cell))
    if (order[1:] > order[:-1]).all():
        return CellRows(values, times, cell, rank, which, at)
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))[:-1]
    sizes = counts[order]
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[:-1]
    take = np.arange(int(sizes.sum())) + np.repeat(starts[order] - offsets, sizes)
    return CellRows(values[take], times[take], cell[take], rank[take], which[take], at[take])
