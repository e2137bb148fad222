"""Calls worked out over one range of time after the other, of which only their partial results are kept · pure.

A group of any number of rows is aggregated in bounded memory so, if its calls are among ``FOLDS``; others (median,
distinct, …) need all values at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from common.model import FieldType
from services.query.engine.answers import Answer, no_answer
from services.query.engine.calls import CallRun
from services.query.engine.cells import Points
from services.query.engine.refusals import check_types
from services.query.engine.run import Task
from services.query.engine.spec import Call, Query, Ref
from services.query.engine.vectors import Indexes, Mask, Vector, concat, ranks_of

# What each call is made of.
FOLDS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("count", "sum", "min", "max", "first", "last")},
    "mean": ("sum", "count"),
    "spread": ("max", "min"),
}
_ADDED = frozenset(("count", "sum"))


def can_fold(query: Query) -> bool:
    """Whether *query* can be worked out range by range: calls of columns alone, none of which needs all values."""
    return bool(query.leaves) and all(
        isinstance(leaf, Call) and leaf.name in FOLDS and isinstance(leaf.argument, Ref) for leaf in query.leaves
    )


class _RangeRun(CallRun):
    """Works on the rows of one range."""

    def partial(self, name: str, ref: Ref, own_time: bool) -> Points:
        """What the partial *name* gives of *ref*."""
        return self._reduced(Call(name, ref), self._query.start_ns, self._query.stop_ns, own_time)


class _FoldedRun(CallRun):
    """Answers from results that stand already."""

    def __init__(self, task: Task, results: Mapping[Call, Points]) -> None:
        super().__init__(task.query, task.source, task.wanted)
        self._results = results

    def _reduced(self, call: Call, start_ns: int, stop_ns: int, own_time: bool) -> Points:
        return self._results[call]


class Fold:
    """The partial results of one query; ranges of time are taken in ascending order and don't overlap."""

    def __init__(self, query: Query) -> None:
        self._windowed = query.windows is not None
        self._own_time = len(query.calls) == 1 and not self._windowed
        self._calls = {call: call.argument for call in query.calls if isinstance(call.argument, Ref)}
        self._partial: dict[tuple[str, Ref], Points] = {}

    @property
    def nbytes(self) -> int:
        """Bytes held, near enough for a budget."""
        return sum(
            points.groups.nbytes + points.times.nbytes + points.values.nbytes for points in self._partial.values()
        )

    def take(self, task: Task) -> Answer:
        """Take in the rows that *task*, the query over one range, has chosen; there is nothing to tell of them yet.

        Raises:
            Invalid: a call can't take values of its column's type.
        """
        run = _RangeRun(task.query, task.source, task.wanted, task.chosen)
        check_types(self._calls)
        for name, ref in dict.fromkeys((name, ref) for call, ref in self._calls.items() for name in FOLDS[call.name]):
            points = run.partial(name, ref, self._own_time)
            held = self._partial.get((name, ref))
            if held is not None and len(held):
                points = _united(name, held, points, self._windowed) if len(points) else held
            # Without the rows that they come from, which go with their range.
            self._partial[name, ref] = Points(points.groups, points.times, points.values)
        return no_answer()

    def answer(self, task: Task) -> Answer:
        """The answer of the whole query, that of *task*, whose source has no rows."""
        return _FoldedRun(task, {call: self._result(call.name, ref) for call, ref in self._calls.items()}).answer()

    def _result(self, name: str, ref: Ref) -> Points:
        parts = [self._partial[part, ref] for part in FOLDS[name]]
        if len(parts) == 1 or not len(parts[0]):
            return parts[0]
        one, other = (part.values.values for part in parts)
        with np.errstate(all="ignore"):
            values = one.astype(np.float64) / other if name == "mean" else one - other
        type = FieldType.FLOAT if name == "mean" else ref.type
        return Points(parts[0].groups, parts[0].times, Vector(type, values))


def _united(name: str, earlier: Points, later: Points, windowed: bool) -> Points:
    """The points of both, at most one a group and window each, as one a group and window."""
    groups, times = np.concatenate((earlier.groups, later.groups)), np.concatenate((earlier.times, later.times))
    values = concat((earlier.values, later.values))
    windows = times if windowed else np.zeros(len(times), np.int64)
    # Stable: the earlier of a pair stands first.
    order = np.lexsort((windows, groups))
    same = (np.diff(groups[order]) == 0) & (np.diff(windows[order]) == 0)
    pair = np.flatnonzero(same)
    left, right = order[pair], order[pair + 1]
    if name in _ADDED:
        added = values.values.copy()
        with np.errstate(all="ignore"):
            added[left] += added[right]
        values = Vector(values.type, added)
    else:
        order[pair] = np.where(_takes_later(name, values, left, right), right, left)
    kept = order[np.append(True, ~same)]
    return Points(groups[kept], times[kept], values.take(kept))


def _takes_later(name: str, values: Vector, left: Indexes, right: Indexes) -> Mask:
    """Of which pairs the later point counts; of equal extremes it is the earlier."""
    if name in ("first", "last"):
        return np.full(len(left), name == "last")
    size = ranks_of(values)
    return np.asarray(size[right] > size[left] if name == "max" else size[right] < size[left], bool)
