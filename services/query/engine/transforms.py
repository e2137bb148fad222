"""Transformations: functions over the stream of a group's values in order of time · pure.

Source: InfluxQL as observed on 2.9, section 11.3; InfluxDB 1.x ``query/functions``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.answers import starts_of
from services.query.engine.vectors import DTYPES, Indexes, Mask, Vector

FLOAT, INTEGER, UNSIGNED = FieldType.FLOAT, FieldType.INTEGER, FieldType.UNSIGNED


@dataclass(frozen=True, slots=True)
class Stream:
    """Values without nulls, those of a group together, in the order in which they are looked at."""

    groups: Indexes
    times: Indexes
    values: Vector

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, at: Indexes | Mask) -> Stream:
        return Stream(self.groups[at], self.times[at], self.values.take(at))

    def without_repeated_times(self) -> Stream:
        """Of neighbours with equal times only the first."""
        if len(self) < 2:
            return self
        fresh = np.ones(len(self), bool)
        fresh[1:] = (self.groups[1:] != self.groups[:-1]) | (self.times[1:] != self.times[:-1])
        return self if fresh.all() else self.take(fresh)


def _followers(stream: Stream) -> Indexes:
    """Places that have a place before them in the same group."""
    return np.flatnonzero(stream.groups[1:] == stream.groups[:-1]) + 1


def _result(stream: Stream, at: Indexes, type: FieldType, values: NDArray[Any]) -> Stream:
    return Stream(stream.groups[at], stream.times[at], Vector(type, values))


def derivative(stream: Stream, unit_ns: int, descending: bool) -> Stream:
    """Change for each *unit_ns*; backward in time the change of the rows as they run."""
    stream = stream.without_repeated_times()
    at = _followers(stream)
    values = stream.values.values
    if stream.values.type is UNSIGNED:
        # Sizes of unsigned values are compared before they are subtracted, so that a fall is negative.
        fell = values[at] < values[at - 1]
        change = np.where(fell, values[at - 1] - values[at], values[at] - values[at - 1]).astype(np.float64)
        change = np.where(fell, -change, change)
    else:
        with np.errstate(all="ignore"):
            change = (values[at] - values[at - 1]).astype(np.float64)
    elapsed = stream.times[at] - stream.times[at - 1]
    if descending:
        elapsed = -elapsed
    return _result(stream, at, FLOAT, change / (elapsed / unit_ns))


def difference(stream: Stream) -> Stream:
    """Change from value to value; unsigned values wrap."""
    stream = stream.without_repeated_times()
    at = _followers(stream)
    values = stream.values.values
    with np.errstate(all="ignore"):
        return _result(stream, at, stream.values.type, values[at] - values[at - 1])


def without_negatives(stream: Stream) -> Stream:
    """Only the values from 0 up."""
    if stream.values.type is UNSIGNED:
        return stream
    return stream.take(stream.values.values >= 0)


def non_negative_difference(stream: Stream) -> Stream:
    """Changes that are no falls; of unsigned values those that do not wrap."""
    if stream.values.type is not UNSIGNED:
        return without_negatives(difference(stream))
    stream = stream.without_repeated_times()
    at = _followers(stream)
    values = stream.values.values
    at = at[values[at] >= values[at - 1]]
    return _result(stream, at, UNSIGNED, values[at] - values[at - 1])


def elapsed(stream: Stream, unit_ns: int) -> Stream:
    """Time since the point before, in whole units, cut towards zero; negative where the stream runs backward."""
    at = _followers(stream)
    passed = stream.times[at] - stream.times[at - 1]
    return _result(stream, at, INTEGER, np.sign(passed) * (np.abs(passed) // np.int64(unit_ns)))


def moving_average(stream: Stream, count: int) -> Stream:
    """Mean of the last *count* values, from the *count*-th on."""
    groups: list[Indexes] = []
    means: list[NDArray[np.float64]] = []
    for start, stop in _bounds(stream):
        if stop - start < count:
            continue
        values = stream.values.values[start:stop]
        # A sliding sum of integers is exact; of floats it is kept as InfluxDB keeps it, by adding and taking away.
        sums = np.cumsum(values if stream.values.type is not FLOAT else values.astype(np.float64))
        window = sums[count - 1 :].copy()
        window[1:] -= sums[:-count]
        groups.append(np.arange(start + count - 1, stop))
        means.append(window.astype(np.float64) / count)
    at = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    return _result(stream, at, FLOAT, np.concatenate(means) if means else np.zeros(0))


def cumulative_sum(stream: Stream) -> Stream:
    """Running total; integers wrap."""
    values = np.empty(len(stream), DTYPES[stream.values.type])
    for start, stop in _bounds(stream):
        np.cumsum(stream.values.values[start:stop], out=values[start:stop])
    return Stream(stream.groups, stream.times, Vector(stream.values.type, values))


def _bounds(stream: Stream) -> list[tuple[int, int]]:
    starts = starts_of(stream.groups).tolist()
    return list(zip(starts, [*starts[1:], len(stream)], strict=True))


def each_group(stream: Stream, function: Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], int]]) -> Stream:
    """*function* of each group's values as floats: it gives results and how many of the first values have none."""
    places: list[Indexes] = []
    results: list[NDArray[np.float64]] = []
    floats = np.ascontiguousarray(stream.values.values.astype(np.float64))
    for start, stop in _bounds(stream):
        values, skipped = function(floats[start:stop])
        values = values[skipped:]
        places.append(np.arange(stop - len(values), stop))
        results.append(values)
    at = np.concatenate(places) if places else np.zeros(0, np.int64)
    return _result(stream, at, FLOAT, np.concatenate(results) if results else np.zeros(0))
