"""SHOW statements about databases, measurements, keys, values and series.

Answered from the mappings, the schema and the series dictionary, on arrays of series; what costs more than a moment
runs in a thread. Source: spec/influxql.md, 13; http-query-v1.md, 6 and 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Any

from common.dbrp import Mapping
from common.errors import Invalid
from common.model import Bucket
from common.times import format_go_duration
from services.query.context import QueryContext
from services.query.influxql import tree
from services.query.influxql.pattern import compile_pattern
from services.query.render.result import Kind, PrintedRows, ResultColumn, ResultSeries
from services.query.schema import tables
from services.query.schema.chosen import ALL_TIME, Chosen, choose, default_only, find
from services.query.schema.measurement_where import MeasurementFilter, measurement_filter
from services.query.schema.tables import Found
from services.query.schema.where import Dialect, ShowCondition, split_condition

# Tags of up to so many series are looked at on the event loop: a thread costs more than the work.
SERIES_ON_LOOP = 2_000
# What an answer that is kept takes besides its rows, and each node of its condition.
KEY_BYTES = 256


def _strings(name: str, values: Sequence[str]) -> ResultColumn:
    return ResultColumn(name, Kind.STRING, values)


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[ResultColumn, ...]:
    return tuple(_strings(name, [row[index] for row in rows]) for index, name in enumerate(names))


def limited(limits: tree.Limits, rows: list[Any]) -> list[Any]:
    stop = limits.offset + limits.limit if limits.limit else None
    return rows[limits.offset : stop]


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
    rows = limited(statement.limits, rows)
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
    choice = Chosen(bucket, every=statement.source is None)
    if statement.source is not None:
        if statement.source.regex is not None:
            choice.patterns.append(compile_pattern(statement.source.regex))
        else:
            choice.names.add(statement.source.name)
    found = await find(context, [choice], ALL_TIME, with_series=keeps is not None)
    if keeps is None:
        return [entries[0].name for entries in found]
    return await asyncio.to_thread(tables.measurement_names, found, keeps)


# ---------------------------------------------------------------- keys and values


async def tag_keys(statement: tree.ShowTagKeys, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW TAG KEYS; WITH KEY does not filter and SLIMIT does nothing, as there."""
    condition, found = await _find_default(statement, context)

    def answer(entries: list[Found]) -> ResultSeries:
        keys = limited(statement.limits, tables.tag_keys(entries, condition.tags))
        return _told(entries[0].name, ("tagKey",), (keys,))

    for entries in found:
        told = await _answer(
            answer, entries, condition, (tree.ShowTagKeys, statement.limits), few=_is_quick(entries, condition)
        )
        if told.rows:
            yield told


async def tag_values(statement: tree.ShowTagValues, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW TAG VALUES WITH KEY: sorted by key, then value."""
    condition, found = await _find_default(statement, context)
    wanted = key_filter(statement.keys)

    def answer(entries: list[Found]) -> ResultSeries:
        keys, values = tables.tag_values(entries, condition.tags, wanted)
        shown = (limited(statement.limits, keys), limited(statement.limits, values))
        return _told(entries[0].name, ("key", "value"), shown)

    for entries in found:
        few = _is_quick(entries, condition) and statement.keys.regex is None
        told = await _answer(
            answer, entries, condition, (tree.ShowTagValues, statement.limits, statement.keys), few=few
        )
        if told.rows:
            yield told


def _told(name: str, names: Sequence[str], columns: Sequence[Sequence[str]]) -> ResultSeries:
    """A series that may be told again: its rows are kept once they are printed."""
    shown = tuple(_strings(*pair) for pair in zip(names, columns, strict=True))
    return ResultSeries(name, (), shown, printed=PrintedRows(sum(map(_printed_bytes, columns))))


def _printed_bytes(column: Sequence[str]) -> int:
    """Bytes that *column* takes as JSON at most, but for what has to be escaped in it."""
    return sum(map(len, column)) + len('[""],') * len(column)


async def _answer(
    answer: Callable[[list[Found]], ResultSeries],
    entries: list[Found],
    condition: ShowCondition,
    asked: tuple[Hashable, ...],
    *,
    few: bool,
) -> ResultSeries:
    """What *answer* makes of one measurement, kept with its table of series when it lies in one bucket.

    Args:
        asked: all that the answer hangs on besides the series, their fields and the condition.
        few: the work is done in no time; else it goes to a thread.
    """
    table = entries[0].table
    if len(entries) > 1 or table is None:
        return answer(entries) if few else await asyncio.to_thread(answer, entries)
    # A condition may name fields, which come without series.
    fields = condition.tags and frozenset(name for _, name, _ in entries[0].fields)
    key = (asked, condition.tags, fields)
    told: ResultSeries | None = table.answers.find(key)
    if told is None:
        told = answer(entries) if few else await asyncio.to_thread(answer, entries)
        table.answers.keep(key, told, _kept_bytes(told, condition.tags))
    return told


def _kept_bytes(told: ResultSeries, tags: tree.Expr | None) -> int:
    """What *told* takes: of its texts, which are the table's own, the places, and all of them printed."""
    assert told.printed is not None
    nodes = 0 if tags is None else sum(1 for _ in tree.walk(tags))
    return 8 * told.rows * len(told.columns) + told.printed.room_bytes + KEY_BYTES * (1 + nodes)


def _is_quick(entries: Sequence[Found], condition: ShowCondition) -> bool:
    """Whether tags are looked at in no time: few series, and no pattern, which may take long for each letter."""
    if condition.tags is not None and any(isinstance(node, tree.RegexLiteral) for node in tree.walk(condition.tags)):
        return False
    return sum(entry.count for entry in entries) <= SERIES_ON_LOOP


async def _find_default(
    statement: tree.ShowTagKeys | tree.ShowTagValues, context: QueryContext
) -> tuple[ShowCondition, list[list[Found]]]:
    """The condition, and what there is; a database that is not there is told before what is wrong with the first."""

    async def resolve(database: str, policy: str) -> Bucket:
        return await default_only(context, database, policy)

    chosen = await choose(statement.sources, statement.database, resolve)
    condition = split_condition(statement.condition, context.now_ns, Dialect.METAQUERY)
    return condition, await find(context, chosen, condition)


def key_filter(keys: tree.KeySelector) -> Callable[[str], bool]:
    """Which tag keys WITH KEY names."""
    if keys.regex is not None:
        matches, wanted = compile_pattern(keys.regex), keys.op == "=~"
        return lambda key: matches(key) is wanted
    names = frozenset(keys.names)
    return (lambda key: key not in names) if keys.op == "!=" else (lambda key: key in names)


async def field_keys(statement: tree.ShowFieldKeys, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW FIELD KEYS: each type of a field on a row of its own."""
    chosen = await choose(statement.sources, statement.database, context.resolve)
    for entries in await find(context, chosen, ALL_TIME, with_series=False):
        rows = limited(statement.limits, tables.field_keys(entries))
        if rows:
            yield ResultSeries(entries[0].name, (), _rows(("fieldKey", "fieldType"), rows))


# ---------------------------------------------------------------- series


async def series(statement: tree.ShowSeries, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW SERIES: keys as in line protocol, sorted, of all measurements in one."""
    chosen = await choose(statement.sources, statement.database, context.resolve)
    condition = split_condition(statement.condition, context.now_ns, Dialect.SERIES)
    found = await find(context, chosen, condition)
    keys = await asyncio.to_thread(tables.series_keys, found, condition.tags)
    keys = limited(statement.limits, keys)
    if keys:
        yield ResultSeries(None, (), (_strings("key", keys),))
