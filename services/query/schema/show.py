"""SHOW statements about databases, measurements, keys, values, series and how many there are.

Answered from the mappings, the schema and the series dictionary, on arrays of series; what costs more than a moment
runs in a thread. Source: spec/influxql.md, 13; http-query-v1.md, 6 and 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.dbrp import Mapping
from common.errors import Invalid
from common.model import Bucket, FieldType
from common.times import format_go_duration
from services.query.context import QueryContext
from services.query.engine.frame import SeriesTable
from services.query.influxql import tree
from services.query.influxql.pattern import compile_pattern
from services.query.influxql.refused import refusal
from services.query.reading.segments import MeasurementInfo
from services.query.render.result import Kind, ResultColumn, ResultSeries
from services.query.schema import tables
from services.query.schema.measurement_where import MeasurementFilter, measurement_filter
from services.query.schema.tables import Found
from services.query.schema.where import Dialect, ShowCondition, split_condition

_ALL_TIME = ShowCondition(None)
# Tags of up to so many series are looked at on the event loop: a thread costs more than the work.
SERIES_ON_LOOP = 2_000
# Measurements whose series are read at the same time.
_TOGETHER = 64


def _strings(name: str, values: Sequence[str]) -> ResultColumn:
    return ResultColumn(name, Kind.STRING, values)


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[ResultColumn, ...]:
    return tuple(_strings(name, [row[index] for row in rows]) for index, name in enumerate(names))


def _limited(limits: tree.Limits, rows: list[Any]) -> list[Any]:
    stop = limits.offset + limits.limit if limits.limit else None
    return rows[limits.offset : stop]


# ---------------------------------------------------------------- what is looked at


@dataclass(slots=True)
class _Chosen:
    """Which measurements of one bucket: by name, by pattern, or all."""

    bucket: Bucket
    names: set[str] = field(default_factory=set)
    patterns: list[Callable[[str], bool]] = field(default_factory=list)
    every: bool = False

    @property
    def named(self) -> bool:
        """Whether it says all the names itself, so that the bucket need not be looked through."""
        return not self.every and not self.patterns

    def taken(self, infos: Iterable[MeasurementInfo]) -> list[MeasurementInfo]:
        """Those of *infos* that are chosen; patterns may take long."""
        return [info for info in infos if self._takes(info.name)]

    def _takes(self, name: str) -> bool:
        return self.every or name in self.names or any(pattern(name) for pattern in self.patterns)


Resolve = Callable[[str, str], Awaitable[Bucket]]


async def _choose(sources: Iterable[tree.Measurement], database: str, resolve: Resolve) -> list[_Chosen]:
    """The buckets and measurements that FROM names; without FROM everything in the default policy's bucket."""
    sources = tuple(sources)
    if not sources:
        return [_Chosen(await resolve(database, ""), every=True)]
    chosen: dict[str, _Chosen] = {}
    for source in sources:
        bucket = await resolve(source.database or database, source.policy)
        entry = chosen.setdefault(bucket.id, _Chosen(bucket))
        if source.regex is not None:
            entry.patterns.append(compile_pattern(source.regex))
        else:
            entry.names.add(source.name)
    return list(chosen.values())


async def _find(
    context: QueryContext, chosen: Iterable[_Chosen], condition: ShowCondition, *, with_series: bool = True
) -> list[list[Found]]:
    """What there is of the chosen measurements, sorted by name; the same name in several buckets together.

    Args:
        with_series: read the series too; without, the tables are empty.
    """
    by_name: dict[str, list[Found]] = {}
    for choice in chosen:
        bucket = choice.bucket
        if choice.named and with_series:
            for each in await _find_named(context, choice):
                if _touches(each.fields, bucket, condition):
                    by_name.setdefault(each.name, []).append(each)
            continue
        listed = await context.reader.measurements(bucket)
        taken = await asyncio.to_thread(choice.taken, listed) if choice.patterns else choice.taken(listed)
        infos = [info for info in taken if _touches(info.fields, bucket, condition)]
        # Asked for together, measurements share the calls to storage.
        for start in range(0, len(infos), _TOGETHER):
            some = infos[start : start + _TOGETHER]
            tables: Sequence[SeriesTable | None] = [None] * len(some)
            if with_series:
                tables = await asyncio.gather(*(context.reader.series(bucket, info.name) for info in some))
            for info, table in zip(some, tables, strict=True):
                by_name.setdefault(info.name, []).append(Found(info.name, info.fields, table))
    return [by_name[name] for name in sorted(by_name)]


async def _find_named(context: QueryContext, choice: _Chosen) -> list[Found]:
    """What there is of the measurements that *choice* names, in one call to storage."""
    found = await asyncio.gather(*(context.reader.measured(choice.bucket, name) for name in sorted(choice.names)))
    return [Found(each.name, each.fields_by_shard, each.living) for each in found if each is not None]


def _touches(fields: Iterable[tuple[int, str, FieldType]], bucket: Bucket, condition: ShowCondition) -> bool:
    """Whether the measurement has a shard in the time range, which chooses whole shards only."""
    return any(start < condition.stop_ns and start + bucket.shard_ns > condition.start_ns for start, _, _ in fields)


async def _default_only(context: QueryContext, database: str, policy: str) -> Bucket:
    """The default policy whatever the request's ``rp`` says, unless the statement itself names another."""
    if policy:
        return await context.resolve(database, policy)
    return await context.resolve_default(database)


# ---------------------------------------------------------------- databases and policies


async def databases(_: tree.ShowDatabases, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW DATABASES: stored mappings by age, then buckets by name; each database once."""
    names = list(dict.fromkeys(mapping.database for mapping in await context.readable()))
    yield ResultSeries("databases", (), (_strings("name", names),))


async def retention_policies(
    statement: tree.ShowRetentionPolicies, context: QueryContext
) -> AsyncIterator[ResultSeries]:
    """SHOW RETENTION POLICIES: one row a mapping, with the true durations; none for an unknown database."""
    database = statement.database or context.database
    if not database:
        raise Invalid("database name required")
    mappings = await context.readable_of(database)
    yield ResultSeries(
        None,
        (),
        (
            _strings("name", [mapping.retention_policy for mapping in mappings]),
            _strings("duration", [format_go_duration(mapping.bucket.retention_ns) for mapping in mappings]),
            _strings("shardGroupDuration", [format_go_duration(mapping.bucket.shard_ns) for mapping in mappings]),
            ResultColumn("replicaN", Kind.MIXED, [1] * len(mappings)),
            ResultColumn("default", Kind.MIXED, [mapping.default for mapping in mappings]),
        ),
    )


# ---------------------------------------------------------------- measurements


async def measurements(statement: tree.ShowMeasurements, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW MEASUREMENTS, of the default policy or, with ON a.b, of each that is named."""
    if statement.every_database and not statement.every_policy:
        raise Invalid("query 'SHOW MEASUREMENTS ON *' not supported. use 'ON *.*' or specify a database")
    keeps = None if statement.condition is None else measurement_filter(statement.condition)
    qualified = bool(statement.policy) or statement.every_policy
    rows: list[tuple[str, ...]] = []
    for mapping in await _mappings_of(statement, context):
        names = await _names(statement, context, mapping.bucket, keeps)
        rows += [(name, mapping.database, mapping.retention_policy) if qualified else (name,) for name in names]
    rows = _limited(statement.limits, rows)
    if rows:
        columns = ("name", "database", "retention policy") if qualified else ("name",)
        yield ResultSeries("measurements", (), _rows(columns, rows))


async def _mappings_of(statement: tree.ShowMeasurements, context: QueryContext) -> list[Mapping]:
    """The mappings that ON names, by database, then policy; an unknown database has none."""
    if statement.every_database:
        mappings = await context.readable()
    else:
        database = statement.database or context.database
        if not database:
            raise Invalid("database name required")
        mappings = await context.readable_of(database)
        if statement.policy:
            mappings = [mapping for mapping in mappings if mapping.retention_policy == statement.policy]
        elif not statement.every_policy:
            # Stored mappings come first: a stored default wins over the virtual one.
            defaults = [mapping for mapping in mappings if mapping.default]
            if mappings and not defaults:
                raise Invalid(f"default retention policy not set for: {database}")
            return defaults[:1]
    return sorted(mappings, key=lambda mapping: (mapping.database, mapping.retention_policy))


async def _names(
    statement: tree.ShowMeasurements, context: QueryContext, bucket: Bucket, keeps: MeasurementFilter | None
) -> list[str]:
    choice = _Chosen(bucket, every=statement.source is None)
    if statement.source is not None:
        if statement.source.regex is not None:
            choice.patterns.append(compile_pattern(statement.source.regex))
        else:
            choice.names.add(statement.source.name)
    found = await _find(context, [choice], _ALL_TIME, with_series=keeps is not None)
    if keeps is None:
        return [entries[0].name for entries in found]
    return await asyncio.to_thread(tables.measurement_names, found, keeps)


# ---------------------------------------------------------------- keys and values


async def tag_keys(statement: tree.ShowTagKeys, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW TAG KEYS; WITH KEY does not filter and SLIMIT does nothing, as there."""
    condition = split_condition(statement.condition, context.now_ns, Dialect.METAQUERY)
    for entries in await _find_default(statement, context, condition):
        few = _is_quick(entries, condition)
        keys = (
            tables.tag_keys(entries, condition.tags)
            if few
            else await asyncio.to_thread(tables.tag_keys, entries, condition.tags)
        )
        keys = _limited(statement.limits, keys)
        if keys:
            yield ResultSeries(entries[0].name, (), (_strings("tagKey", keys),))


async def tag_values(statement: tree.ShowTagValues, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW TAG VALUES WITH KEY: sorted by key, then value."""
    condition = split_condition(statement.condition, context.now_ns, Dialect.METAQUERY)
    wanted = key_filter(statement.keys)

    def answer(entries: list[Found]) -> ResultSeries | None:
        keys, values = tables.tag_values(entries, condition.tags, wanted)
        keys, values = _limited(statement.limits, keys), _limited(statement.limits, values)
        return ResultSeries(entries[0].name, (), (_strings("key", keys), _strings("value", values))) if keys else None

    for entries in await _find_default(statement, context, condition):
        few = _is_quick(entries, condition) and statement.keys.regex is None
        found = answer(entries) if few else await asyncio.to_thread(answer, entries)
        if found is not None:
            yield found


def _is_quick(entries: Sequence[Found], condition: ShowCondition) -> bool:
    """Whether tags are looked at in no time: few series, and no pattern, which may take long for each letter."""
    if condition.tags is not None and any(isinstance(node, tree.RegexLiteral) for node in tree.walk(condition.tags)):
        return False
    return sum(entry.count for entry in entries) <= SERIES_ON_LOOP


async def _find_default(
    statement: tree.ShowTagKeys | tree.ShowTagValues, context: QueryContext, condition: ShowCondition
) -> list[list[Found]]:
    async def resolve(database: str, policy: str) -> Bucket:
        return await _default_only(context, database, policy)

    chosen = await _choose(statement.sources, statement.database, resolve)
    return await _find(context, chosen, condition)


def key_filter(keys: tree.KeySelector) -> Callable[[str], bool]:
    """Which tag keys WITH KEY names."""
    if keys.regex is not None:
        matches, wanted = compile_pattern(keys.regex), keys.op == "=~"
        return lambda key: matches(key) is wanted
    names = frozenset(keys.names)
    return (lambda key: key not in names) if keys.op == "!=" else (lambda key: key in names)


async def field_keys(statement: tree.ShowFieldKeys, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW FIELD KEYS: each type of a field on a row of its own."""
    chosen = await _choose(statement.sources, statement.database, context.resolve)
    for entries in await _find(context, chosen, _ALL_TIME, with_series=False):
        rows = _limited(statement.limits, tables.field_keys(entries))
        if rows:
            yield ResultSeries(entries[0].name, (), _rows(("fieldKey", "fieldType"), rows))


# ---------------------------------------------------------------- series


async def series(statement: tree.ShowSeries, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW SERIES: keys as in line protocol, sorted, of all measurements in one."""
    condition = split_condition(statement.condition, context.now_ns, Dialect.SERIES)
    chosen = await _choose(statement.sources, statement.database, context.resolve)
    found = await _find(context, chosen, condition)
    keys = await asyncio.to_thread(tables.series_keys, found, condition.tags)
    keys = _limited(statement.limits, keys)
    if keys:
        yield ResultSeries(None, (), (_strings("key", keys),))


# ---------------------------------------------------------------- cardinalities


async def cardinality(statement: tree.ShowCardinality, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW … CARDINALITY; the estimates of 1.x are exact here (spec/README.md, decision 15)."""
    condition = split_condition(statement.condition, context.now_ns, Dialect.SERIES)
    counted = statement.counted
    chosen = await _choose(statement.sources, statement.database, context.resolve)
    found = await _find(context, chosen, condition, with_series=counted is not tree.Counted.FIELD_KEY)
    if counted is tree.Counted.MEASUREMENT or _is_estimate(statement):
        async for answer in _totals(statement, found, condition):
            yield answer
        return
    wanted = key_filter(statement.keys) if statement.keys is not None else None
    keys = _group_keys(statement.dimensions)
    for entries in found:
        groups = await asyncio.to_thread(tables.count, counted, entries, condition.tags, keys, wanted)
        for tags, count in groups:
            counts = _limited(statement.limits, [count])
            if counts:
                yield ResultSeries(entries[0].name, tags, (ResultColumn("count", Kind.MIXED, counts),))


def _is_estimate(statement: tree.ShowCardinality) -> bool:
    """The bare form of 1.x; with any clause that narrows it, it counts exactly there too."""
    return (
        statement.counted is tree.Counted.SERIES
        and not statement.exact
        and not statement.sources
        and statement.condition is None
        and not statement.dimensions
    )


async def _totals(
    statement: tree.ShowCardinality, found: list[list[Found]], condition: ShowCondition
) -> AsyncIterator[ResultSeries]:
    if statement.counted is tree.Counted.SERIES:
        groups = [
            await asyncio.to_thread(tables.count, statement.counted, entries, None, (), None) for entries in found
        ]
        total = sum(count for group in groups for _, count in group)
    else:
        total = len(await asyncio.to_thread(tables.names_with_series, found, condition.tags))
    estimated = not statement.exact and not statement.sources and statement.condition is None
    counts = _limited(statement.limits, [total])
    if counts and (total or estimated):
        name = "cardinality estimation" if estimated else "count"
        yield ResultSeries(None, (), (ResultColumn(name, Kind.MIXED, counts),))


def _group_keys(dimensions: Iterable[tree.Expr]) -> tuple[str, ...]:
    names = []
    for dimension in dimensions:
        if not isinstance(dimension, tree.VarRef):
            raise refusal("GROUP BY anything but tags in SHOW CARDINALITY")
        names.append(dimension.name)
    return tuple(sorted(set(names)))
