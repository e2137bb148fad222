"""SELECT: checked, planned, its sources read, worked out by the engine, told series by series.

I/O and the order of things are here; what is computed is ``engine/``, what is meant is ``plan*.py``.
Source: InfluxQL as observed on 2.9, section 5; docs/rpc.md, "storage".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, replace

from common.budget import Claim
from common.errors import InfluxError, Invalid
from common.model import MIN_TIME_NS, Bucket, FieldType
from services.query.context import QueryContext
from services.query.control.queries import Phase
from services.query.engine.derive import derive, empty_source
from services.query.engine.spec import Query
from services.query.evaluation import explain as explained
from services.query.evaluation.ahead import begin
from services.query.evaluation.portions import ROW_BYTES, VALUE_BYTES
from services.query.evaluation.sources import Entry, Work, range_read
from services.query.evaluation.telling import tell
from services.query.influxql import tree
from services.query.influxql.pattern import compile_pattern
from services.query.planning.check import Checked, check
from services.query.planning.names import Expanded, Schema, expand
from services.query.planning.now import Now
from services.query.planning.plan import bind, output_types
from services.query.planning.prepared import Prepared
from services.query.reading.held import Measured
from services.query.render.result import ResultSeries

# ``Reader.measured``, or what stands in for it.
Find = Callable[[Bucket, str], Awaitable[Measured | None]]


async def select(statement: tree.Select, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """The series that a SELECT answers, in order. Raises as ``select_together``."""
    async with aclosing(select_together(statement, context)) as told:
        async for together in told:
            for series in together:
                yield series


async def select_together(statement: tree.Select, context: QueryContext) -> AsyncGenerator[list[ResultSeries], None]:
    """The series that a SELECT answers, in order, those together that are there at the same moment.

    Raises:
        Invalid: what the statement may not say, in InfluxDB's words.
        Unavailable: the memory budget does not hold it, or storage does not answer.
    """
    checked = await _checked(statement, context)
    find: Find = context.reader.measured
    ahead = await begin(checked, context)
    if ahead is not None:
        before = copy(context.running.cost)
        async with ahead, aclosing(_told(checked, context, ahead.find)) as told:
            try:
                first, failure = await anext(told, None), None
            except InfluxError as error:
                first, failure = None, error
            if await ahead.holds():
                if failure is not None:
                    raise failure
                if first is not None:
                    yield first
                    async for together in told:
                        yield together
                return
            find = ahead.find_newer
        context.running.cost.go_back_to(before)
    async with aclosing(_told(checked, context, find)) as told:
        async for together in told:
            yield together


async def _told(checked: Checked, context: QueryContext, find: Find) -> AsyncGenerator[list[ResultSeries], None]:
    """As ``select_together``; *find* gives the state of a measurement."""
    with context.reader.budget.claim() as claim:
        held: list[ResultSeries] = []
        work = Work(context)
        # In the order of names; backward in time: reversed.
        for planned in await _Planner(context, claim, work, find).plan(checked):
            async with aclosing(work.answers(planned.query, planned.entries)) as answers:
                async for task, answer in answers:
                    following = tell(planned.name, task, answer, checked.select.zone)
                    if held and following:
                        held[-1] = replace(held[-1], continues=_goes_on(held[-1], following[0]))
                        yield held
                    held = following or held
        if held:
            yield held


def _goes_on(series: ResultSeries, following: ResultSeries) -> bool:
    """Whether *following* is the same series: one may come in several answers, which don't tell so themselves."""
    return series.continues or (series.name == following.name and series.tags == following.tags)


async def explain(statement: tree.Explain, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """What EXPLAIN (ANALYZE) says of a SELECT. Raises as ``select``."""
    if statement.analyze:
        yield await explained.analyze(select(statement.select, context), context)
        return
    checked = await _checked(statement.select, context)
    with context.reader.budget.claim() as claim:
        table = explained.plan_table(
            await _Planner(context, claim, Work(context), context.reader.measured).described(checked)
        )
    if table is not None:
        yield table


async def _checked(select: tree.Select, context: QueryContext) -> Checked:
    """As ``check``; a database that is not there is told before what else is wrong, as InfluxDB does."""
    known = context.prepared.find(select)
    if known is not None and known.checked.timeless:
        return known.checked
    try:
        return check(select, Now(context.now_ns))
    except Invalid:
        await _find_databases(select, context)
        raise


async def _find_databases(select: tree.Select, context: QueryContext) -> None:
    for source in select.sources:
        if isinstance(source, tree.SubQuery):
            await _find_databases(source.select, context)
        elif not source.policy:
            # One that names its policy is looked up when it is read.
            await context.resolve(source.database)


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is asked of the sources of one name."""

    name: str
    query: Query
    entries: Sequence[Entry]


class _Planner:
    """Plans one SELECT. Its subqueries are run for it; their answers are counted in *claim*."""

    def __init__(self, context: QueryContext, claim: Claim, work: Work, find: Find) -> None:
        self._context = context
        self._find = find
        self._claim = claim
        self._budget = context.reader.budget
        self._work = work

    async def plan(self, checked: Checked) -> list[_Planned]:
        """What is asked of each measurement. Types are checked for all before the first row is told."""
        self._context.running.enter(Phase.PLANNING)
        entries = await self._entries(checked)
        if not entries:
            return []
        if len(entries) == 1 and not checked.subqueries:
            query = self._prepared(checked, entries[0])
            return [] if query is None else [_Planned(entries[0].name, query, entries)]
        expanded = expand(checked, [entry.schema for entry in entries], compile_pattern)
        by_name: dict[str, list[Entry]] = {}
        for entry in entries:
            by_name.setdefault(entry.name, []).append(entry)
        planned = []
        for name in sorted(by_name, key=_byte_order, reverse=checked.descending):
            query = self._bind(checked, expanded, by_name[name])
            if query is not None:
                self._check_buckets(query)
                planned.append(_Planned(name, query, by_name[name]))
        return planned

    def _prepared(self, checked: Checked, entry: Entry) -> Query | None:
        """What is asked of the only source; not worked out anew where the same tree has asked the same before."""
        prepared = self._context.prepared.find(checked.select)
        if prepared is not None and prepared.fits(checked, entry.schema):
            query = prepared.at(checked, self._visible_from([entry]), self._context.now_ns)
        else:
            query = self._bind(checked, expand(checked, [entry.schema], compile_pattern), [entry])
            self._context.prepared.keep(Prepared(checked, entry.schema, query))
        if query is not None:
            self._check_buckets(query)
        return query

    async def described(self, checked: Checked) -> list[list[str]]:
        """What EXPLAIN says of each thing that is read, those of subqueries first."""
        lines = [each for subquery in checked.subqueries for each in await self.described(subquery)]
        entries = [entry for entry in await self._entries(checked) if entry.measured is not None]
        if entries:
            expanded = expand(checked, [entry.schema for entry in entries], compile_pattern)
            for entry in sorted(entries, key=lambda entry: _byte_order(entry.name)):
                query = self._bind(checked, expanded, [entry])
                if query is not None and entry.measured is not None:
                    lines += explained.describe(query, entry.measured, *range_read(query))
        return lines

    # ------------------------------------------------------------ limits

    def _check_buckets(self, query: Query) -> None:
        limit = self._context.limits.buckets
        if limit and query.windows is not None:
            buckets = -(-(query.stop_ns - query.start_ns) // query.windows.width_ns)
            if buckets > limit:
                raise Invalid(f"max-select-buckets limit exceeded: ({buckets}/{limit})")

    # ------------------------------------------------------------ sources

    async def _entries(self, checked: Checked) -> list[Entry]:
        entries: list[Entry] = []
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
        infos = await self._context.reader.measurements(bucket)
        return await asyncio.to_thread(lambda: [info.name for info in infos if matches(info.name)])

    async def _measurement(self, checked: Checked, bucket: Bucket, name: str) -> Entry | None:
        measured = await self._find(bucket, name)
        if measured is None:
            return None
        start_ns = max(checked.start_ns, self._visible_from_of(bucket))
        schema = Schema(measured.fields(start_ns, checked.stop_ns), frozenset(measured.table.keys))
        return Entry(name, schema, measured=measured)

    async def _derived(self, checked: Checked) -> list[Entry]:
        """The answers of a subquery as sources; one without rows has its columns all the same."""
        entries: list[Entry] = []
        for planned in await self.plan(checked):
            schema, before = _schema_of(planned.query), len(entries)
            async with aclosing(self._work.answers(planned.query, planned.entries)) as answers:
                async for task, answer in answers:
                    source = derive(planned.name, task, answer)
                    size = sum(piece.nbytes for piece in source.pieces)
                    self._context.reader.make_room(size)
                    self._claim.take(size)
                    entries.append(Entry(planned.name, schema, derived=source))
            if len(entries) == before:
                entries.append(Entry(planned.name, schema, derived=empty_source(planned.name)))
        return entries

    def _visible_from(self, entries: Sequence[Entry]) -> int:
        """The oldest time that may be seen of any of *entries*."""
        visible = [self._visible_from_of(entry.measured.bucket) for entry in entries if entry.measured is not None]
        return min(visible, default=MIN_TIME_NS)

    def _visible_from_of(self, bucket: Bucket) -> int:
        return self._context.now_ns - bucket.retention_ns if bucket.retention_ns else MIN_TIME_NS

    # ------------------------------------------------------------ planning and reading

    def _bind(self, checked: Checked, expanded: Expanded, entries: Sequence[Entry]) -> Query | None:
        schema = entries[0].schema if len(entries) == 1 else _united([entry.schema for entry in entries])
        max_cells = max(1, self._budget.limit_bytes // (ROW_BYTES + VALUE_BYTES * len(expanded.columns)))
        return bind(
            checked, expanded, schema, compile_pattern, visible_from_ns=self._visible_from(entries),
            seed=self._context.now_ns, max_cells=max_cells,
        )  # fmt: skip


def _byte_order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _schema_of(query: Query) -> Schema:
    """What the answer of a subquery is to the query around it."""
    types: dict[str, FieldType] = {}
    tags = set()
    for output, type in zip(query.outputs, output_types(query), strict=True):
        if output.name not in types and type is not None:
            types[output.name] = type
            if output.tag:
                tags.add(output.name)
    return Schema(types, frozenset(query.keys) - query.inherited, frozenset(tags), derived=True)


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
