"""What can't be an array operation, compiled: merging streams, technical analysis, Holt-Winters · pure.

A kernel is a plain Python function that numba compiles for one signature. ``compile_all`` does so at install (into
numba's cache) and again at start, in a thread, where it only loads; until then the same function runs uncompiled, so
that no query ever waits for a compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from common.model import MAX_TIME_NS, MIN_TIME_NS
from services.query.engine.vectors import Indexes, Mask

Floats = NDArray[np.float64]

# Inputs are declared read-only: that takes writable arrays as well, and so one compilation serves both.
INTS = numba.types.Array(numba.int64, 1, "C", readonly=True)
INT_TABLE = numba.types.Array(numba.int64, 2, "C", readonly=True)
FLOATS = numba.types.Array(numba.float64, 1, "C", readonly=True)
MASK = numba.types.Array(numba.boolean, 1, "C", readonly=True)


NO_TIES = np.empty((0, 0), np.int64)


class Kernel:
    """A function that is compiled later; calling it runs what there is."""

    def __init__(self, plain: Callable[..., Any], signature: Any) -> None:
        self.plain = plain
        self._signature = signature
        self._run = plain

    def __call__(self, *args: Any) -> Any:
        return self._run(*args)

    @property
    def compiled(self) -> bool:
        return self._run is not self.plain

    def compile(self) -> None:
        """Compile into numba's cache, or load from there. Division by zero gives inf or NaN, as in numpy."""
        self._run = numba.njit(self._signature, cache=True, nogil=True, error_model="numpy")(self.plain)


def kernel(*signature: Any, returns: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a function a ``Kernel`` of that signature."""
    return lambda plain: Kernel(plain, returns(*signature))


# ---------------------------------------------------------------- merging streams


@kernel(INTS, INTS, INTS, INTS, INT_TABLE, numba.boolean, numba.int64, returns=numba.int64[::1])
def merge_streams(
    times: Indexes, starts: Indexes, ends: Indexes, bounds: Indexes, ties: Indexes, descending: bool, limit: int
) -> Indexes:
    """Order in which the rows of sorted streams come, group by group, as Go's container/heap gives it.

    Args:
        times: of the rows; rows of stream i are ``starts[i]:ends[i]``, ascending in time.
        bounds: streams of group g are ``bounds[g]:bounds[g + 1]``, in the order in which they enter the heap.
        ties: shape (columns, rows): numbers that decide between equal times, column by column; a negative one ends
            the comparison undecided.
        limit: how many rows of each group to give at most.

    Returns:
        Row indexes. InfluxDB merges the series of a result so, and clients see it in the order of equal times.
    """
    heads = np.empty(len(starts), np.int64)  # the next row of each stream that has one, as a heap
    firsts = np.empty(len(starts), np.int64)  # the stream's first and last row, beside its head
    lasts = np.empty(len(starts), np.int64)

    def comes_before(a: int, b: int) -> Any:
        x, y = heads[a], heads[b]
        if times[x] != times[y]:
            return times[x] > times[y] if descending else times[x] < times[y]
        for column in range(ties.shape[0]):
            left = ties[column, x]
            right = ties[column, y]
            if left < 0 or right < 0:
                return False
            if left != right:
                return left > right if descending else left < right
        return False

    def swap(a: int, b: int) -> None:
        heads[a], heads[b] = heads[b], heads[a]
        firsts[a], firsts[b] = firsts[b], firsts[a]
        lasts[a], lasts[b] = lasts[b], lasts[a]

    def sift_down(root: int, size: int) -> None:
        while 2 * root + 1 < size:
            child = 2 * root + 1
            if child + 1 < size and comes_before(child + 1, child):
                child += 1
            if not comes_before(child, root):
                break
            swap(root, child)
            root = child

    step = -1 if descending else 1
    rows = 0
    for group in range(len(bounds) - 1):
        total = 0
        for stream in range(bounds[group], bounds[group + 1]):
            total += ends[stream] - starts[stream]
        rows += min(total, limit)
    out = np.empty(rows, np.int64)
    place = 0
    for group in range(len(bounds) - 1):
        size = 0
        for stream in range(bounds[group], bounds[group + 1]):
            if ends[stream] > starts[stream]:
                heads[size] = ends[stream] - 1 if descending else starts[stream]
                firsts[size] = starts[stream]
                lasts[size] = ends[stream] - 1
                size += 1
        for above in range(size // 2):
            sift_down(size // 2 - 1 - above, size)
        room = limit
        while size > 0 and room > 0:
            room -= 1
            out[place] = heads[0]
            place += 1
            size -= 1
            swap(0, size)
            sift_down(0, size)
            following = heads[size] + step
            if firsts[size] <= following <= lasts[size]:
                heads[size] = following
                child = size
                while child > 0 and comes_before(child, (child - 1) // 2):
                    swap(child, (child - 1) // 2)
                    child = (child - 1) // 2
                size += 1
    return out


def heap_root(heads: Indexes) -> int:
    """Which of the streams with these head times (in the order in which they are put in) heads the heap."""
    starts = np.arange(len(heads), dtype=np.int64)
    bounds = np.array([0, len(heads)], np.int64)
    order = merge_streams(heads, starts, starts + 1, bounds, NO_TIES, False, 1)
    return int(order[0])


# ---------------------------------------------------------------- windows


# ---------------------------------------------------------------- choosing and cutting rows


@kernel(INTS, INTS, INTS, MASK, numba.boolean, numba.int64, numba.int64, returns=numba.int64[:, ::1])
def choose_runs(
    series: Indexes, offsets: Indexes, times: Indexes, wanted: Mask, every: bool, start: int, stop: int
) -> Indexes:
    """The rows in ``[start, stop)`` of those runs, ``offsets[i]:offsets[i + 1]``, ascending in time, whose series
    *wanted* marks (one that is past its end is not wanted), or of *every* run.

    Returns:
        Shape (3, runs + 1), without the runs that have no such row: series and first row of each, and how many rows
        there are in those before it; the last column holds how many there are in all.
    """
    runs = len(series)
    if not every:
        runs = 0
        for run in range(len(series)):
            runs += series[run] < len(wanted) and wanted[series[run]]
    found = np.empty((3, runs + 1), np.int64)
    count, total = 0, 0
    for run in range(len(series)):
        if not every and (series[run] >= len(wanted) or not wanted[series[run]]):
            continue
        low, high = offsets[run], offsets[run + 1]
        last = high
        if low < high and times[low] < start:
            while low < high:
                middle = (low + high) // 2
                if times[middle] < start:
                    low = middle + 1
                else:
                    high = middle
            high = last
        first = low
        if low < high and times[high - 1] >= stop:
            while low < high:
                middle = (low + high) // 2
                if times[middle] < stop:
                    low = middle + 1
                else:
                    high = middle
        if high > first:
            found[0, count], found[1, count], found[2, count] = series[run], first, total
            count += 1
            total += high - first
    found[0, count], found[1, count], found[2, count] = 0, 0, total
    return found[:, : count + 1].copy()


@kernel(INTS, INTS, numba.int64, numba.int64, returns=numba.int64[:, ::1])
def cut_windows(times: Indexes, offsets: Indexes, width: int, shift: int) -> Indexes:
    """Where the window changes within runs of rows, ``offsets[i]:offsets[i + 1]``, ascending in time.

    Returns:
        Shape (3, pieces): first row of each piece, the run that it belongs to, and the start of its window.
    """
    out = np.empty((3, 0), np.int64)
    for filling in range(2):
        count = 0
        for run in range(len(offsets) - 1):
            row, stop = offsets[run], offsets[run + 1]
            while row < stop:
                gone = (times[row] % width - shift) % width
                if filling == 1:
                    out[0, count] = row
                    out[1, count] = run
                    # A window that would begin before the first possible time begins there.
                    out[2, count] = times[row] - gone if times[row] >= MIN_TIME_NS + gone else MIN_TIME_NS
                count += 1
                # The last moment of the window, cut off where time ends.
                left = width - 1 - gone
                last = times[row] + left if times[row] <= MAX_TIME_NS - left else MAX_TIME_NS
                low, step = row, 1
                while low + step < stop and times[low + step] <= last:
                    low += step
                    step *= 2
                high = min(low + step, stop)
                low += 1
                while low < high:
                    middle = (low + high) // 2
                    if times[middle] <= last:
                        low = middle + 1
                    else:
                        high = middle
                row = low
        if filling == 0:
            out = np.empty((3, count), np.int64)
    return out


@kernel(INTS, INTS, returns=numba.int64[::1])
def cell_starts(groups: Indexes, times: Indexes) -> Indexes:
    """The first of each of the pairs (group, time) that follow each other in ascending order; none, if they don't."""
    count = 0
    for at in range(len(groups)):
        if at and groups[at] == groups[at - 1]:
            if times[at] < times[at - 1]:
                return np.empty(0, np.int64)
            count += times[at] != times[at - 1]
        elif at and groups[at] < groups[at - 1]:
            return np.empty(0, np.int64)
        else:
            count += 1
    starts = np.empty(count, np.int64)
    count = 0
    for at in range(len(groups)):
        if not at or groups[at] != groups[at - 1] or times[at] != times[at - 1]:
            starts[count] = at
            count += 1
    return starts


# ---------------------------------------------------------------- aggregates


@kernel(FLOATS, INTS, returns=numba.float64[::1])
def deviations(values: Floats, offsets: Indexes) -> Floats:
    """Sample standard deviation of the values of each cell, which are ``offsets[i]:offsets[i + 1]``; 0 of one value.

    The mean is kept running and the squares are added in order, as InfluxDB does: a huge value among small ones shows
    the difference.
    """
    out = np.zeros(len(offsets) - 1, np.float64)
    for cell in range(len(out)):
        start, stop = offsets[cell], offsets[cell + 1]
        mean = 0.0
        for i in range(start, stop):
            mean += (values[i] - mean) / (i - start + 1)
        squares = 0.0
        for i in range(start, stop):
            squares += (values[i] - mean) * (values[i] - mean)
        if stop - start > 1:
            out[cell] = np.sqrt(squares / (stop - start - 1))
    return out


# ---------------------------------------------------------------- technical analysis


@kernel(FLOATS, numba.int64, numba.float64, numba.boolean, numba.int64, returns=numba.float64[::1])
def smooth(values: Floats, period: int, alpha: float, simple: bool, skipped: int) -> Floats:
    """Exponential moving average of each value; the first *skipped* values go through as they are, unseen.

    While fewer than *period* values have been seen the weight is that of a running mean (*simple*) or of a shorter
    average; afterwards it is *alpha*.
    """
    out = np.empty(len(values), np.float64)
    average = 0.0
    seen = 0
    for i in range(len(values)):
        if i < skipped:
            out[i] = values[i]
            continue
        if seen == 0:
            average = values[i]
        else:
            weight = alpha
            if seen < period:
                weight = 1.0 / (seen + 1) if simple else 2.0 / (seen + 2)
            average = values[i] * weight + average * (1.0 - weight)
        seen = min(seen + 1, period)
        out[i] = average
    return out


@kernel(FLOATS, FLOATS, numba.int64, returns=numba.float64[::1])
def adapt(values: Floats, efficiency: Floats, period: int) -> Floats:
    """Kaufman's adaptive moving average, given the efficiency ratio at each value."""
    out = values.copy()
    for i in range(period, len(values)):
        scale = (efficiency[i] * (2.0 / 3.0 - 2.0 / 31.0) + 2.0 / 31.0) ** 2
        out[i] = out[i - 1] + scale * (values[i] - out[i - 1])
    return out


# ---------------------------------------------------------------- Holt-Winters


@kernel(FLOATS, numba.int64, numba.int64, returns=numba.float64[::1])
def forecast(series: Floats, horizon: int, season: int) -> Floats:
    """Damped trend with a multiplicative season, fitted by least squares: fitted values, then *horizon* more.

    Args:
        series: one value a window, NaN where there is none; the first one is a number.
        season: length of a season, under 2 = none.

    The steps are those of InfluxDB 1.x (``query/functions``, ``neldermead``): the outcome is sensitive to each.
    """
    seasonal = season >= 2
    count = 6 + (season if seasonal else 0)
    length = len(series)

    def predict(x: Floats, steps: int) -> Floats:
        # The seasons in *x* are a ring that is written over as time goes on; so it is there.
        for i in range(4):
            x[i] = min(max(x[i], 0.0), 1.0)
        out = np.empty(length + steps, np.float64)
        out[0] = series[0]
        value, level, trend = series[0], x[4], x[5]
        phi, damping = x[3], x[3]
        shift = season - 1
        before, ahead = 1.0, 1.0
        for t in range(1, length + steps):
            if seasonal:
                before = x[6 + (t - season + shift) % season]
                ahead = x[6 + (t - season + t % season + shift) % season]
            base = level + phi * trend
            new_level = x[0] * (value / before) + (1.0 - x[0]) * base
            new_trend = x[1] * (new_level - level) + (1.0 - x[1]) * phi * trend
            new_season = x[2] * (value / base) + (1.0 - x[2]) * before
            value = (new_level + damping * new_trend) * ahead
            level, trend = new_level, new_trend
            damping += phi ** float(t)
            if seasonal:
                x[6 + (t + shift) % season] = new_season
                shift += 1
            out[t] = value
        return out

    def error(x: Floats) -> float:
        fitted = predict(x, 0)
        total = 0.0
        for i in range(length):
            if not np.isnan(series[i]):
                if np.isnan(fitted[i]):
                    return np.inf
                total += (fitted[i] - series[i]) * (fitted[i] - series[i])
        return total

    guess = np.zeros(count, np.float64)
    if seasonal:
        for i in range(season):
            if not np.isnan(series[i]):
                guess[4] += series[i] / season
        for i in range(season):
            if season + i < length and not np.isnan(series[i]) and not np.isnan(series[season + i]):
                guess[5] += (series[season + i] - series[i]) / (season * season)
        for i in range(season):
            guess[6 + i] = 0.0 if np.isnan(series[i]) else series[i] / guess[4]
    else:
        guess[4] = 0.5 * series[0]
        if not np.isnan(series[1]):
            guess[5] = 0.5 * (series[1] - series[0])

    best = guess.copy()
    best_error = np.inf
    near = (np.sqrt(count + 1.0) - 1.0) / (count * np.sqrt(2.0))
    far = (np.sqrt(count + 1.0) - 1.0 + count) / (count * np.sqrt(2.0))
    for start in range(16):
        for i in range(4):
            guess[i] = 0.7 if (start >> (3 - i)) & 1 else 0.3
        # Nelder-Mead on a simplex of edge 1.
        points = np.empty((count + 1, count), np.float64)
        for row in range(count + 1):
            for i in range(count):
                points[row, i] = guess[i] + (0.0 if row == 0 else far if row - 1 == i else near)
        errors = np.empty(count + 1, np.float64)
        for row in range(count + 1):
            errors[row] = error(points[row])
        for _ in range(1000):
            worst = 0
            lowest = 0
            for row in range(count + 1):
                if errors[row] > errors[worst]:
                    worst = row
                if errors[row] < errors[lowest]:
                    lowest = row
            second = lowest
            for row in range(count + 1):
                if errors[row] > errors[second] and errors[row] < errors[worst]:
                    second = row
            middle = np.zeros(count, np.float64)
            for row in range(count + 1):
                if row != worst:
                    middle += points[row]
            middle /= count
            reflected = middle + (middle - points[worst])
            at_reflected = error(reflected)
            if at_reflected < errors[second] and at_reflected >= errors[lowest]:
                points[worst] = reflected
                errors[worst] = at_reflected
            if at_reflected < errors[lowest]:
                expanded = middle + 2.0 * (reflected - middle)
                at_expanded = error(expanded)
                if at_expanded < at_reflected:
                    points[worst] = expanded
                    errors[worst] = at_expanded
                else:
                    points[worst] = reflected
                    errors[worst] = at_reflected
            if at_reflected >= errors[second]:
                if at_reflected < errors[worst]:
                    contracted = middle + 0.5 * (reflected - middle)
                else:
                    contracted = middle - 0.5 * (middle - points[worst])
                at_contracted = error(contracted)
                if at_contracted < errors[worst]:
                    points[worst] = contracted
                    errors[worst] = at_contracted
                else:
                    for row in range(count + 1):
                        if row != lowest:
                            points[row] = points[lowest] + (points[row] - points[lowest]) / 2.0
                    errors[worst] = error(points[worst])
                    errors[second] = error(points[second])
            mean = errors.sum() / (count + 1)
            if np.sqrt((((errors - mean) ** 2) / count).sum()) < 1e-4:
                break
        lowest = 0
        for row in range(count + 1):
            if errors[row] < errors[lowest]:
                lowest = row
        candidate = points[lowest].copy()
        candidate_error = error(points[lowest])
        if candidate_error < best_error or start == 0:
            best_error = candidate_error
            best = candidate
    return predict(best, horizon)


KERNELS: tuple[Kernel, ...] = (
    merge_streams, choose_runs, cut_windows, cell_starts, deviations, smooth, adapt, forecast,
)  # fmt: skip


def compile_all() -> None:
    """Compile every kernel into numba's cache, or load it from there."""
    for each in KERNELS:
        each.compile()
    # The first array that numba is given makes it import numpy.ma: 10 ms that the first question need not wait for.
    numba.typeof(NO_TIES)  # type: ignore[no-untyped-call]
