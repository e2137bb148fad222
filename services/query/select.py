"""SELECT: checked, planned, its sources read, worked out by the engine, told series by series.

I/O and the order of things are here; what is computed is ``engine/``, what is meant is ``plan*.py``.
Source: InfluxQL as observed on 2.9, section 5; docs/rpc.md, "storage".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.errors import Invalid
from common.model import MIN_TIME_NS, Bucket, FieldType
from services.query import explain as explained
from services.query.context import QueryContext
from services.query.engine.answers import Answer
from services.query.engine.derive import combine, derive, split_by_columns
from services.query.engine.run import Task, by_group, tags_of
from services.query.engine.scan import Source, choose_series
from services.query.engine.spec import Call, Filling, Query, Ref, RefKind
from services.query.engine.vectors import Vector
from services.query.influxql import tree
from services.query.pattern import compile_pattern
from services.query.plan import bind, output_types
from services.query.plan_check import Checked, check
from services.query.plan_names import Expanded, Schema, expand
from services.query.result import Kind, ResultColumn, ResultSeries
from services.query.running import Phase
from services.query.segments import Measured

# Up to so many rows a query is worked out on the event loop: a thread costs more than the work.
ROWS_ON_LOOP = 4_000
SERIES_ON_LOOP = 4_000
# Bytes that a row of a query takes while it is worked out: times, cells, order, and a value and mask a column.
ROW_BYTES = 32
VALUE_BYTES = 17
# Rows of one series that are told at a time.
PIECE_ROWS = 10_000

KINDS = {
    FieldType.FLOAT: Kind.FLOAT,
    FieldType.INTEGER: Kind.INTEGER,
    FieldType.UNSIGNED: Kind.UNSIGNED,
    FieldType.STRING: Kind.STRING,
    FieldType.BOOLEAN: Kind.BOOLEAN,
}


async def select(statement: tree.Select, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """The series that a SELECT answers, in order.

    Raises:
        Invalid: what the statement may not say, in InfluxDB's words.
        Unavailable: the memory budget does not hold it, or storage does not answer.
    """
    checked = check(statement, context.now_ns)
    run = _Run(context)
    async for name, task, answer in run.answers(checked):
        for series in _told(name, task, answer, checked):
            yield series


async def explain(statement: tree.Explain, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """What EXPLAIN (ANALYZE) says of a SELECT. Raises as ``select``."""
    if statement.analyze:
        yield await explained.analyze(select(statement.select, context), context)
        return
    checked = check(statement.select, context.now_ns)
    table = explained.plan_table(await _Run(context).described(checked))
    if table is not None:
        yield table


@dataclass(frozen=True, slots=True)
class _Entry:
    """One source of a SELECT: a measurement, or one name of a subquery's answer."""

    name: str
    schema: Schema
    measured: Measured | None = None
    derived: Source | None = None


class _Run:
    """Runs one SELECT with its subqueries."""

    def __init__(self, context: QueryContext) -> None:
        self._context = context
        self._budget = context.reader.budget

    async def answers(self, checked: Checked) -> AsyncIterator[tuple[str, Task, Answer]]:
        """The answer over each measurement, in the order of names (backward in time: reversed)."""
        running = self._context.running
        running.enter(Phase.PLANNING)
        entries = await self._entries(checked)
        if not entries:
            return
        expanded = expand(checked, [entry.schema for entry in entries], compile_pattern)
        by_name: dict[str, list[_Entry]] = {}
        for entry in entries:
            by_name.setdefault(entry.name, []).append(entry)
        # Types are checked for all sources before the first row is told.
        planned = []
        for name in sorted(by_name, key=_byte_order, reverse=checked.descending):
            query = self._bind(checked, expanded, by_name[name])
            if query is not None:
                self._check_buckets(query)
                planned.append((name, query))
        for name, query in planned:
            running.enter(Phase.READING)
            task = await self._task(query, by_name[name])
            running.enter(Phase.AGGREGATING)
            answer = await self._work(task)
            running.enter(Phase.PLANNING)
            if len(answer):
                yield name, task, answer

    async def described(self, checked: Checked) -> list[list[str]]:
        """What EXPLAIN says of each thing that is read, those of subqueries first."""
        lines = [each for subquery in checked.subqueries for each in await self.described(subquery)]
        entries = [entry for entry in await self._entries(checked) if entry.measured is not None]
        if entries:
            expanded = expand(checked, [entry.schema for entry in entries], compile_pattern)
            for entry in sorted(entries, key=lambda entry: _byte_order(entry.name)):
                query = self._bind(checked, expanded, [entry])
                if query is not None and entry.measured is not None:
                    lines += explained.describe(query, entry.measured, _earliest(query), _latest(query))
        return lines

    # ------------------------------------------------------------ limits

    def _check_buckets(self, query: Query) -> None:
        limit = self._context.limits.buckets
        if limit and query.windows is not None:
            buckets = -(-(query.stop_ns - query.start_ns) // query.windows.width_ns)
            if buckets > limit:
                raise Invalid(f"max-select-buckets limit exceeded: ({buckets}/{limit})")

    def _count_series(self, query: Query, measured: Measured) -> None:
        """Before rows are read: how many series there are to read."""
        limit = self._context.limits.series
        cost = self._context.running.cost
        wanted = choose_series(Source(measured.name, measured.table, ()), replace(query, slimit=0, soffset=0))
        cost.series += measured.table.count if wanted is None else int(wanted.sum())
        if limit and cost.series > limit:
            raise Invalid(f"max-select-series limit exceeded: ({cost.series}/{limit})")

    def _count_needs(self, measured: Measured, names: Sequence[str], start_ns: int, stop_ns: int) -> None:
        needs = explained.needs_of(measured, names, start_ns, stop_ns)
        cost = self._context.running.cost
        cost.segments_read += needs.read
        cost.segments_skipped += needs.skipped
        cost.bytes_read += needs.stored_bytes

    def _count_points(self, rows: int) -> None:
        limit = self._context.limits.points
        cost = self._context.running.cost
        cost.rows_scanned += rows
        if limit and cost.rows_scanned > limit:
            # The text is misspelt in InfluxDB too.
            raise Invalid(f"max-select-point limit exceeed: ({cost.rows_scanned}/{limit})")

    # ------------------------------------------------------------ sources

    async def _entries(self, checked: Checked) -> list[_Entry]:
        entries: list[_Entry] = []
        subqueries = iter(checked.subqueries)
        seen: set[tuple[str, str]] = set()
        for source in checked.select.sources:
            if isinstance(source, tree.SubQuery):
                entries += await self._derived(next(subqueries))
                continue
            bucket = await self._context.resolve(source.database, source.policy)
            for name in await self._names(source, bucket):
                if (bucket.id, name) not in seen:
                    seen.add((bucket.id, name))
                    entry = await self._measurement(checked, bucket, name)
                    entries += [] if entry is None else [entry]
        return entries

    async def _names(self, source: tree.Measurement, bucket: Bucket) -> list[str]:
        if source.regex is None:
            if source.name == "_series":
                raise Invalid("unable to use system source '_series': use SHOW SERIES instead")
            return [source.name]
        matches = compile_pattern(source.regex)
        return [info.name for info in await self._context.reader.measurements(bucket) if matches(info.name)]

    async def _measurement(self, checked: Checked, bucket: Bucket, name: str) -> _Entry | None:
        measured = await self._context.reader.measured(bucket, name)
        if measured is None:
            return None
        start_ns = max(checked.start_ns, self._visible_from(bucket))
        schema = Schema(measured.fields(start_ns, checked.stop_ns), frozenset(measured.table.keys))
        return _Entry(name, schema, measured=measured)

    async def _derived(self, checked: Checked) -> list[_Entry]:
        """The answers of a subquery as sources."""
        entries = []
        async for name, task, answer in self.answers(checked):
            source = derive(name, task, answer)
            types: dict[str, FieldType] = {}
            tags = set()
            for output, type in zip(task.query.outputs, output_types(task.query), strict=True):
                if output.name not in types and type is not None:
                    types[output.name] = type
                    if output.tag:
                        tags.add(output.name)
            schema = Schema(types, frozenset(task.query.keys), frozenset(tags), derived=True)
            entries.append(_Entry(name, schema, derived=source))
        return entries

    def _visible_from(self, bucket: Bucket) -> int:
        return self._context.now_ns - bucket.retention_ns if bucket.retention_ns else MIN_TIME_NS

    # ------------------------------------------------------------ planning and reading

    def _bind(self, checked: Checked, expanded: Expanded, entries: Sequence[_Entry]) -> Query | None:
        schema = entries[0].schema if len(entries) == 1 else _united([entry.schema for entry in entries])
        visible = [self._visible_from(entry.measured.bucket) for entry in entries if entry.measured is not None]
        max_cells = max(1, self._budget.limit_bytes // (ROW_BYTES + VALUE_BYTES * len(expanded.columns)))
        return bind(
            checked, expanded, schema, compile_pattern, visible_from_ns=min(visible, default=MIN_TIME_NS),
            seed=self._context.now_ns, max_cells=max_cells,
        )  # fmt: skip

    async def _task(self, query: Query, entries: Sequence[_Entry]) -> Task:
        names = sorted(_fields_read(query))
        start_ns = _earliest(query)
        stop_ns = _latest(query)
        sources = []
        for entry in entries:
            if entry.derived is not None:
                split = [key for key in query.keys if key in entry.schema.tag_columns]
                sources.append(split_by_columns(entry.derived, split))
            elif entry.measured is not None:
                self._count_series(query, entry.measured)
                self._count_needs(entry.measured, names, start_ns, stop_ns)
                measured, pieces = await self._context.reader.pieces(entry.measured, names, start_ns, stop_ns)
                sources.append(Source(entry.name, measured.table, pieces))
        return Task(query, combine(sources))

    async def _work(self, task: Task) -> Answer:
        if task.source.table.count <= SERIES_ON_LOOP:
            rows = task.choose()
        else:
            rows = await asyncio.to_thread(task.choose)
        self._count_points(rows)
        with self._budget.held(rows * (ROW_BYTES + VALUE_BYTES * len(task.query.leaves))):
            if rows <= ROWS_ON_LOOP:
                answer = task.run()
            else:
                answer = await asyncio.to_thread(task.run)
        check_finite(answer.columns)
        return answer


def _byte_order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _united(schemas: Sequence[Schema]) -> Schema:
    """What several sources of one name hold together."""
    types: dict[str, FieldType] = {}
    for schema in schemas:
        for name, type in schema.fields.items():
            types[name] = min(types.get(name, type), type)
    return Schema(
        types,
        frozenset().union(*(schema.tags for schema in schemas)),
        frozenset().union(*(schema.tag_columns for schema in schemas)),
        all(schema.derived for schema in schemas),
    )


def _fields_read(query: Query) -> set[str]:
    refs: list[Ref] = [leaf for condition in query.filters for leaf in condition.leaves]
    for leaf in query.leaves:
        while isinstance(leaf, Call):
            refs += leaf.tags
            leaf = leaf.argument
        refs.append(leaf)
    return {ref.name for ref in refs if ref.kind is RefKind.FIELD}


def _back_ns(query: Query) -> int:
    """How far outside the range transformations of windows look, at most."""
    if query.windows is None:
        return 0
    steps = 0
    for leaf in query.leaves:
        deep = 0
        while isinstance(leaf, Call):
            deep += int(leaf.options[0]) if leaf.name == "moving_average" else 1
            leaf = leaf.argument
        steps = max(steps, deep)
    return steps * query.windows.width_ns


def _earliest(query: Query) -> int:
    return max(query.start_ns - _back_ns(query), MIN_TIME_NS, query.visible_from_ns)


def _latest(query: Query) -> int:
    return min(query.stop_ns + (_back_ns(query) if query.descending else 0), (1 << 63) - 1)


# ---------------------------------------------------------------- telling


def check_finite(columns: Iterable[Vector]) -> None:
    """Raise Invalid for the first infinity, in InfluxDB's words: JSON has none."""
    first: tuple[int, float] | None = None
    for column in columns:
        if column.type is FieldType.FLOAT:
            infinite = np.isinf(column.values)
            if infinite.any():
                infinite &= column.mask
                at = int(np.argmax(infinite))
                if infinite[at] and (first is None or at < first[0]):
                    first = at, float(column.values[at])
    if first is not None:
        raise Invalid(f"json: unsupported value: {'+' if first[1] > 0 else '-'}Inf")


def _told(name: str, task: Task, answer: Answer, checked: Checked) -> Iterator[ResultSeries]:
    """The answer series by series, long ones in pieces."""
    bounds = list(by_group(answer))
    tags = tags_of(task, answer.groups[[start for start, _ in bounds]])
    zone = checked.select.zone
    outputs = task.query.outputs
    mixed = task.query.fill is Filling.NUMBER
    columns = [
        _result_column(output.name, vector, mixed) for output, vector in zip(outputs, answer.columns, strict=True)
    ]
    time = ResultColumn(task.query.time_name, Kind.TIME, answer.times)
    whole = (time, *columns)
    for (start, stop), group_tags in zip(bounds, tags, strict=True):
        for at in range(start, stop, PIECE_ROWS):
            end = min(at + PIECE_ROWS, stop)
            piece = whole if end - at == len(answer) else tuple(_cut(column, at, end) for column in whole)
            yield ResultSeries(name, group_tags, piece, end < stop, zone)


def _result_column(name: str, vector: Vector, mixed: bool) -> ResultColumn:
    """A column for the renderers; *mixed*: fill(number) may have put numbers among strings and booleans."""
    valid = vector.valid
    values: Any = vector.values
    if vector.type is FieldType.FLOAT:
        lost = np.isnan(values)
        if lost.any():
            values, valid = np.where(lost, 0.0, values), vector.mask & ~lost
    elif values.dtype == object:
        values = values.tolist()
        if mixed and any(not isinstance(value, str) for value in values):
            return ResultColumn(name, Kind.MIXED, values)
    return ResultColumn(name, KINDS[vector.type], values, valid)


def _cut(column: ResultColumn, start: int, stop: int) -> ResultColumn:
    valid = None if column.valid is None else column.valid[start:stop]
    values: Any = column.values
    return ResultColumn(column.name, column.kind, values[start:stop], valid)
