"""Queries with functions: each call is computed apart, filled, and joined with the others by group and time · pure.

Source: InfluxQL as observed on 2.9, sections 5, 8 and 9.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.errors import Invalid
from common.model import MAX_TIME_NS, MIN_TIME_NS, FieldType
from services.query.engine import aggregates, selectors
from services.query.engine.answers import Answer, evaluate_outputs, limit_rows, no_answer
from services.query.engine.cells import Points, Runs, Sample, cut_runs, sample
from services.query.engine.fill import carry, fill_column, fill_missing, fill_points
from services.query.engine.frame import Rows
from services.query.engine.functions import (
    GIVES,
    LOOKS_BACK,
    MAKES_OWN_ROWS,
    NEVER_FILLED,
    SELECTORS,
    TRANSFORMS,
    transform,
)  # fmt: skip
from services.query.engine.raw import leaf_column, row_order
from services.query.engine.refusals import check_types
from services.query.engine.scan import Scan, Source, column, scan
from services.query.engine.spec import Call, Filling, Query, Ref, RefKind
from services.query.engine.transforms import Stream
from services.query.engine.vectors import Indexes, Mask, Vector, word_ranks, zeros


class CallRun:
    """Works out the calls of one query over one source; scans and runs are shared between the calls."""

    def __init__(self, query: Query, source: Source, wanted: Mask | None, chosen: list[Rows] | None = None) -> None:
        self._query = query
        self._source = source
        self._wanted = wanted
        self._scans: dict[tuple[int, int], Scan] = {}
        if chosen is not None:
            main = scan(source, query, wanted, query.start_ns, query.stop_ns, chosen)
            self._scans[query.start_ns, query.stop_ns] = main
        self._runs: dict[tuple[int, int, bool], list[Runs]] = {}
        self._samples: dict[tuple[Ref, int, int, bool], Sample] = {}

    def answer(self) -> Answer:
        """The rows of the answer, in its order."""
        query = self._query
        if self._wanted is not None and not self._wanted.any():
            return no_answer()
        check_types(query.calls)
        if query.start_ns >= query.stop_ns:
            return no_answer()
        single = len(query.calls) == 1
        results = [self._points(leaf, own_time=single) for leaf in query.leaves if isinstance(leaf, Call)]
        if not any(len(points) for points in results):
            return no_answer()
        groups, times, places = _join(results)
        leaves: list[Vector] = []
        joined = iter(zip(results, places, strict=True))
        companions = results[0]
        for leaf in query.leaves:
            if isinstance(leaf, Call):
                leaves.append(self._joined(leaf, *next(joined), groups))
            else:
                leaves.append(self._companion(leaf, companions))
        columns = evaluate_outputs(query.outputs, leaves, len(groups))
        answer = Answer(groups, times, columns)
        if query.descending:
            answer = answer.take(np.arange(len(answer) - 1, -1, -1))
        return limit_rows(answer, query)

    # ------------------------------------------------------------ what calls work on

    def scanned(self, start_ns: int, stop_ns: int) -> Scan:
        """The chosen rows of a range."""
        key = (start_ns, stop_ns)
        if key not in self._scans:
            self._scans[key] = scan(self._source, self._query, self._wanted, start_ns, stop_ns)
        return self._scans[key]

    def _sample(self, ref: Ref, start_ns: int, stop_ns: int, windowed: bool) -> Sample:
        key = (ref, start_ns, stop_ns, windowed)
        if key not in self._samples:
            runs_key = (start_ns, stop_ns, windowed)
            if runs_key not in self._runs:
                scanned = self.scanned(start_ns, stop_ns)
                windows = self._query.windows if windowed else None
                self._runs[runs_key] = [cut_runs(rows, scanned.of_series, windows) for rows in scanned.rows]
            runs = self._runs[runs_key] if ref.kind is RefKind.FIELD else []
            taken = self._samples[key] = sample(runs, ref.name, ref.type, self._source.table.ranks, windowed)
            summary = self._source.summaries.get(ref.name)
            if summary is not None:
                taken.summary = summary.place(self._query.windows if windowed else None)
        return self._samples[key]

    # ------------------------------------------------------------ calls

    def _points(self, call: Call, own_time: bool) -> Points:
        """What *call* gives, filled, with the times of its rows; *own_time*: it is the only one of the query."""
        query = self._query
        if call.name in TRANSFORMS:
            return self._transformed(call)
        points = self._reduced(call, query.start_ns, query.stop_ns, own_time and query.windows is None)
        if query.windows is not None:
            return self._filled(call, points, query.start_ns, query.stop_ns)
        if call.name in MAKES_OWN_ROWS or (own_time and call.name in SELECTORS):
            return points
        row_time = query.start_ns if query.bounded else 0
        return Points(points.groups, np.full(len(points), row_time, np.int64), points.values, points.rows)

    def _filled(self, call: Call, points: Points, start_ns: int, stop_ns: int) -> Points:
        query = self._query
        if query.windows is None or call.name in NEVER_FILLED:
            return points
        fill, value = query.fill, query.fill_value
        if fill is Filling.NULL and call.name in ("count", "count_distinct"):
            fill, value = Filling.NUMBER, 0
        return fill_points(points, query.windows, fill, value, query, start_ns, stop_ns)

    def _reduced(self, call: Call, start_ns: int, stop_ns: int, own_time: bool) -> Points:
        """An aggregate or selector over a column."""
        ref, query = call.argument, self._query
        if not isinstance(ref, Ref):
            raise Invalid(f"expected field argument in {call.name}()")
        windowed = query.windows is not None
        if call.name == "integral":
            stream = self._field_stream(ref, descending=False)
            return aggregates.integral(stream, int(call.options[0]), query.windows)
        taken = self._sample(ref, start_ns, stop_ns, windowed)
        if not taken.parts and taken.summary is None:
            return _no_points(GIVES.get(call.name, ref.type))
        if call.name in aggregates.AGGREGATES:
            return aggregates.AGGREGATES[call.name](taken)
        return self._selected(call, taken, own_time)

    def _selected(self, call: Call, taken: Sample, own_time: bool) -> Points:
        query = self._query
        needs_rows = own_time or any(isinstance(leaf, Ref) for leaf in query.leaves)
        if call.name in ("max", "min"):
            if not needs_rows:
                return selectors.extreme_values(taken, np.maximum if call.name == "max" else np.minimum)
            return (selectors.largest if call.name == "max" else selectors.smallest)(taken, own_time)
        if call.name in ("first", "last"):
            companions = any(isinstance(leaf, Ref) for leaf in query.leaves)
            return selectors.end(taken, own_time, last=call.name == "last", companions=companions)
        if call.name == "percentile":
            return selectors.percentile(taken, float(call.options[0]), own_time)
        if call.name == "sample":
            return selectors.sample_points(taken, int(call.options[0]), query.seed)
        tags = [self._tag_numbers(tag, taken) for tag in call.tags]
        choose = selectors.top if call.name == "top" else selectors.bottom
        return choose(taken, int(call.options[0]), tags, query.descending)

    def _tag_numbers(self, ref: Ref, taken: Sample) -> Indexes:
        """A number for the value of *ref* in each row of the sample."""
        rows = taken.rows
        words = zeros(FieldType.STRING, len(rows.at))
        for i, part in enumerate(taken.parts):
            mine = np.flatnonzero(rows.which == i)
            vector = column(part.rows, self._source.table, ref).take(rows.at[mine])
            words[mine] = vector.values if vector.type is FieldType.STRING else vector.values.astype(str)
        return word_ranks(words)[0]

    def _joined(self, call: Call, points: Points, at: Indexes | None, groups: Indexes) -> Vector:
        """The values of a call in all rows of the answer, *at* which it has points; None = in each.

        Where it has none, whether its windows are filled or not, a number or the value before stands in
        (InfluxDB 1.x, ``query.IteratorScanner``).
        """
        query, vector = self._query, points.values
        if at is not None:
            present = np.zeros(len(groups), bool)
            present[at] = True
            vector = _spread(vector, at, len(groups))
            ref = call.column
            known = ref.kind is not RefKind.UNKNOWN or ref.name in query.elsewhere
            if query.fill is Filling.NUMBER and known:
                vector = fill_missing(vector, present, query.fill_value)
        return carry(vector, groups, query.descending) if query.fill is Filling.PREVIOUS else vector

    def _companion(self, ref: Ref, points: Points) -> Vector:
        """A column of the rows that the one selector chose."""
        query = self._query
        rows = points.rows
        if rows is None:
            raise Invalid("mixing aggregate and non-aggregate queries is not supported")
        vector = leaf_column(rows, self.scanned(query.start_ns, query.stop_ns), ref)
        chosen = rows.which >= 0
        if not chosen.all():
            vector = Vector(vector.type, vector.values, vector.mask & chosen)
        return fill_column(vector, query.fill, query.fill_value, points.groups, query.descending)

    # ------------------------------------------------------------ transformations

    def _transformed(self, call: Call) -> Points:
        stream = self._stream(call, 0)
        if self._query.descending:
            stream = stream.take(np.arange(len(stream) - 1, -1, -1))
        return Points(stream.groups, stream.times, stream.values)

    def _stream(self, call: Call, back_ns: int) -> Stream:
        """What a transformation gives, in the order in which it looks; *back_ns*: how far before the range it reads."""
        query, inner = self._query, call.argument
        if isinstance(inner, Ref):
            stream = self._field_stream(inner, query.descending)
        else:
            if call.name in LOOKS_BACK and query.windows is not None:
                steps = int(call.options[0]) - 1 if call.name == "moving_average" else 1
                back_ns += steps * query.windows.width_ns
            stream = self._inner_stream(inner, back_ns)
        return transform(call, stream, query) if len(stream) else stream

    def _inner_stream(self, inner: Call, back_ns: int) -> Stream:
        """The values of the inner call, window by window, empty windows left out."""
        query = self._query
        if inner.name in TRANSFORMS:
            return _without_nulls(self._stream(inner, back_ns))
        start_ns, stop_ns = query.start_ns, query.stop_ns
        if query.descending:
            stop_ns = min(stop_ns + back_ns, MAX_TIME_NS + 1)
        elif query.bounded:
            start_ns = max(start_ns - back_ns, MIN_TIME_NS)
        points = self._reduced(inner, start_ns, stop_ns, own_time=False)
        points = self._filled(inner, points, start_ns, stop_ns)
        stream = _without_nulls(Stream(points.groups, points.times, points.values))
        return stream.take(np.arange(len(stream) - 1, -1, -1)) if query.descending else stream

    def _field_stream(self, ref: Ref, descending: bool) -> Stream:
        """The values of a column in the order of raw rows, all series of a group together."""
        query = self._query
        scanned = self.scanned(query.start_ns, query.stop_ns)
        rows = []
        if ref.kind is RefKind.FIELD:
            for each in scanned.rows:
                vector = column(each, scanned.table, ref)
                kept = each if vector.valid is None else each.keep(vector.valid)
                if len(kept):
                    rows.append(kept)
        if not rows:
            return Stream(np.zeros(0, np.int64), np.zeros(0, np.int64), Vector(ref.type, zeros(ref.type, 0)))
        order, groups = row_order(replace(query, limit=0, offset=0, descending=descending), scanned, rows, [])
        vector = order.refs.column(ref.name, ref.type)
        return Stream(groups, order.times, Vector(ref.type, vector.values))


def _without_nulls(stream: Stream) -> Stream:
    if stream.values.valid is not None:
        stream = stream.take(np.flatnonzero(stream.values.valid))
    return Stream(stream.groups, stream.times, Vector(stream.values.type, stream.values.values))


def _no_points(type: FieldType) -> Points:
    return Points(np.zeros(0, np.int64), np.zeros(0, np.int64), Vector(type, zeros(type, 0)), None)


# ---------------------------------------------------------------- joining calls


def _join(results: Sequence[Points]) -> tuple[Indexes, Indexes, list[Indexes | None]]:
    """Groups and times of all rows, ascending, and the row of each point of each call; None = its own place.

    Rows of one call with equal group and time stay apart, the n-th meeting the n-th of the other calls.
    """
    first = results[0]
    if all(
        points is first or (np.array_equal(points.groups, first.groups) and np.array_equal(points.times, first.times))
        for points in results
    ):
        return first.groups, first.times, [None] * len(results)
    groups = np.concatenate([points.groups for points in results])
    times = np.concatenate([points.times for points in results])
    nth = np.concatenate([_occurrence(points) for points in results])
    order = np.lexsort((nth, times, groups))
    new = np.ones(len(order), bool)
    for key in (groups[order], times[order], nth[order]):
        new[1:] &= key[1:] == key[:-1]
    new[1:] = ~new[1:]
    row = np.empty(len(order), np.int64)
    row[order] = np.cumsum(new) - 1
    bounds = np.cumsum([0] + [len(points) for points in results])
    heads = order[new]
    places: list[Indexes | None] = [row[bounds[i] : bounds[i + 1]] for i in range(len(results))]
    return groups[heads], times[heads], places


def _occurrence(points: Points) -> Indexes:
    """How many points of the same group and time come before each point."""
    if not len(points):
        return points.groups
    new = np.ones(len(points), bool)
    new[1:] = (points.groups[1:] != points.groups[:-1]) | (points.times[1:] != points.times[:-1])
    starts = np.flatnonzero(new)
    return np.arange(len(points)) - np.repeat(starts, np.diff(np.append(starts, len(points))))


def _spread(vector: Vector, at: Indexes, count: int) -> Vector:
    """The values of a call at its places among *count* rows."""
    values, valid = zeros(vector.type, count), np.zeros(count, bool)
    values[at], valid[at] = vector.values, vector.mask
    return Vector(vector.type, values, None if valid.all() else valid)
