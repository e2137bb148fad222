"""Selectors: functions that choose points: first, last, max, min, percentile, top, bottom, sample · pure.

Ties follow InfluxDB: InfluxQL as observed on 2.9, section 11.2; InfluxDB 1.x ``query/functions`` and
``tsdb/engine``. Results name the rows that they come from, so that other columns of those rows can go along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.aggregates import cell_offsets
from services.query.engine.cells import CellRows, Cells, Points, RowRefs, Sample
from services.query.engine.kernels import heap_root
from services.query.engine.vectors import Indexes, Vector, ranks_of

BOOLEAN, STRING = FieldType.BOOLEAN, FieldType.STRING
# What percentile's p may be, far outside of any sense, so that the index arithmetic can't overflow.
_MAX_PERCENT = 1e9


@dataclass(frozen=True, slots=True)
class _Candidates:
    """One chosen value of each run."""

    values: NDArray[Any]
    times: Indexes
    rank: Indexes
    which: Indexes
    at: Indexes


def _candidates(sample: Sample, places: Sequence[Indexes]) -> _Candidates:
    """The values at *places*, one array a part, one place a run."""
    parts = sample.parts
    joined = [
        (part.values[place], part.row_times(place), part.row_of(place))
        for part, place in zip(parts, places, strict=True)
    ]
    which = np.repeat(np.arange(len(parts)), [len(place) for place in places])
    if not joined:
        empty = np.zeros(0, np.int64)
        return _Candidates(np.zeros(0, np.float64), empty, empty, empty, empty)
    values, times, at = (np.concatenate(arrays) for arrays in zip(*joined, strict=True))
    return _Candidates(values, times, sample.ranks[sample.across("series")], which, at)


def _points_at(sample: Sample, cells: Cells, found: _Candidates, chosen: Indexes | None, own_time: bool) -> Points:
    if chosen is None:
        chosen = np.arange(len(found.at))
    times = found.times[chosen] if own_time else cells.times
    refs = RowRefs([part.rows for part in sample.parts], found.which[chosen], found.at[chosen])
    return Points(cells.groups, times, Vector(sample.type, found.values[chosen]), refs)


def _best(cells: Cells, *criteria: NDArray[Any]) -> Indexes:
    """In each cell the run that comes first by *criteria*, the first of which weighs most."""
    cell = cells.of_runs()
    order = np.lexsort((*reversed(criteria), cell))
    return order[np.searchsorted(cell[order], np.arange(len(cells)))]


def end(sample: Sample, own_time: bool, *, last: bool, companions: bool = False) -> Points:
    """The earliest or latest value.

    In windows the larger of values with equal times, of booleans false as the first; without windows the one that
    heads the rows of a raw query, but for booleans with companion columns, which go as in windows (recorded so).
    """
    found = _candidates(sample, [part.ends - 1 if last else part.starts for part in sample.parts])
    cells = sample.cells
    if cells.single:
        return _points_at(sample, cells, found, None, own_time)
    by_time = -found.times if last else found.times
    if sample.windowed or (companions and sample.type is BOOLEAN):
        size = ranks_of(Vector(sample.type, found.values))
        smallest_first = sample.type is BOOLEAN and not last
        chosen = _best(cells, by_time, size if smallest_first else _descending(size), found.rank)
        return _points_at(sample, cells, found, chosen, own_time)
    chosen = _best(cells, by_time, -found.rank if last else found.rank)
    return _points_at(sample, cells, found, _settle_ties(cells, found, chosen, last), own_time)


def _settle_ties(cells: Cells, found: _Candidates, chosen: Indexes, last: bool) -> Indexes:
    """Without windows, among equal times that point counts which heads the rows of a raw query, also read backward."""
    cell = cells.of_runs()
    tied = found.times == found.times[chosen][cell]
    ties = np.bincount(cell, tied, len(cells)) > 1
    if not ties.any():
        return chosen
    chosen = chosen.copy()
    by_cell = np.argsort(cell, kind="stable")
    bounds = cell_offsets(cell[by_cell], len(cells))
    for i in np.flatnonzero(ties):
        runs = by_cell[bounds[i] : bounds[i + 1]]
        runs = runs[np.argsort(-found.rank[runs] if last else found.rank[runs], kind="stable")]
        # A series has one stream a shard: only those of the shard with the tie meet in its heap.
        streams = _streams_of_shard(found, runs)
        heads = -found.times[streams] if last else found.times[streams]
        chosen[i] = streams[heap_root(heads)]
    return chosen


def _streams_of_shard(found: _Candidates, runs: Indexes) -> Indexes:
    """Of each series (neighbours in *runs*) one run: pieces of one series follow each other in time."""
    rank = found.rank[runs]
    firsts: Indexes = runs[np.append(True, rank[1:] != rank[:-1])]
    return firsts


def largest(sample: Sample, own_time: bool) -> Points:
    """The largest value, of equal ones the earliest; true is more than false."""
    return _extreme(sample, own_time, np.maximum)


def smallest(sample: Sample, own_time: bool) -> Points:
    """The smallest value, of equal ones the earliest."""
    return _extreme(sample, own_time, np.minimum)


def _extreme(sample: Sample, own_time: bool, ufunc: np.ufunc) -> Points:
    found = _candidates(sample, [_extreme_places(part.values, part.starts, ufunc) for part in sample.parts])
    cells = sample.cells
    if cells.single:
        return _points_at(sample, cells, found, None, own_time)
    size = ranks_of(Vector(sample.type, found.values))
    if ufunc is np.maximum:
        size = _descending(size)
    return _points_at(
        sample, cells, found, _best(cells, size, found.times, found.rank), own_time
    )  # fmt: skip


def extreme_values(sample: Sample, ufunc: np.ufunc) -> Points:
    """max or min where only the value is asked for: no need to find the points."""
    cells = sample.cells
    return Points(cells.groups, cells.times, Vector(sample.type, cells.reduce(ufunc, sample.partials(ufunc))))


def _extreme_places(values: NDArray[Any], starts: Indexes, ufunc: np.ufunc) -> Indexes:
    """Place of the first largest (or smallest) value of each run."""
    best = ufunc.reduceat(values, starts)
    hits = np.flatnonzero(values == np.repeat(best, np.diff(np.append(starts, len(values)))))
    return hits[np.searchsorted(hits, starts)]


def _descending(size: NDArray[Any]) -> NDArray[Any]:
    """Numbers that sort the other way round, without overflow."""
    return -size if size.dtype == np.float64 else ~size


def percentile(sample: Sample, percent: float, own_time: bool) -> Points:
    """The value at ``floor(n * p / 100 + 0.5) - 1`` of the sorted ones; none where that is out of range."""
    rows, cells = sample.rows, sample.cells
    offsets = cell_offsets(rows.cell, len(cells))
    order = np.lexsort((rows.values, rows.cell))
    sizes = np.diff(offsets)
    percent = min(max(percent, -_MAX_PERCENT), _MAX_PERCENT)
    index = np.floor(sizes * percent / 100.0 + 0.5).astype(np.int64) - 1
    inside = np.flatnonzero((index >= 0) & (index < sizes))
    return _chosen_rows(sample, order[offsets[inside] + index[inside]], own_time)


def _chosen_rows(sample: Sample, places: Indexes, own_time: bool) -> Points:
    """Points of the values at *places* of the sample's rows."""
    rows, cells = sample.rows, sample.cells
    cell = rows.cell[places]
    times = rows.times[places] if own_time else cells.times[cell]
    refs = RowRefs([part.rows for part in sample.parts], rows.which[places], rows.at[places])
    return Points(cells.groups[cell], times, Vector(sample.type, rows.values[places]), refs)


def top(sample: Sample, count: int, tags: Sequence[NDArray[Any]], descending: bool) -> Points:
    """The *count* largest values, in order of time; see ``_ends``."""
    return _ends(sample, count, tags, descending, largest=True)


def bottom(sample: Sample, count: int, tags: Sequence[NDArray[Any]], descending: bool) -> Points:
    """The *count* smallest values, in order of time; see ``_ends``."""
    return _ends(sample, count, tags, descending, largest=False)


def _ends(sample: Sample, count: int, tags: Sequence[NDArray[Any]], descending: bool, largest: bool) -> Points:
    """Of each cell the *count* best; with *tags* (numbers for the values of each in every row of the sample) only the
    best of each combination. Of equal values the earlier point is kept; equal times come better value first."""
    rows = sample.rows
    size = _descending(ranks_of(Vector(sample.type, rows.values))) if largest else rows.values
    order = np.lexsort((rows.rank, rows.times, size, rows.cell))
    if tags:
        order = _best_of_tags(rows, order, tags)
    place = np.arange(len(order)) - cell_offsets(rows.cell[order], len(sample.cells))[rows.cell[order]]
    order = order[place < count]
    by_time = rows.times[order]
    final = np.lexsort((-rows.rank[order], size[order], by_time, sample.cells.groups[rows.cell[order]]))
    return _chosen_rows(sample, order[final], own_time=True)


def _best_of_tags(rows: CellRows, order: Indexes, tags: Sequence[NDArray[Any]]) -> Indexes:
    """Of *order* (best first within each cell) the first of each cell and combination of tags."""
    keys = [tag[order] for tag in tags]
    grouped = np.lexsort((np.arange(len(order)), *keys, rows.cell[order]))
    new = np.zeros(len(order), bool)
    new[:1] = True
    for key in (rows.cell[order], *keys):
        new[1:] |= key[grouped][1:] != key[grouped][:-1]
    return order[np.sort(grouped[new])]


def sample_points(sample: Sample, count: int, seed: int) -> Points:
    """*count* points chosen at random, in order of time; all of them where there are no more."""
    rows = sample.rows
    order = np.lexsort((np.random.default_rng(seed).random(len(rows.cell)), rows.cell))
    place = np.arange(len(order)) - cell_offsets(rows.cell[order], len(sample.cells))[rows.cell[order]]
    chosen = order[place < count]
    final = np.lexsort((rows.rank[chosen], rows.times[chosen], sample.cells.groups[rows.cell[chosen]]))
    return _chosen_rows(sample, chosen[final], own_time=True)
