"""SHOW … CARDINALITY. Source: spec/influxql.md, 13; InfluxDB 1.6.7 as observed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from common.errors import Invalid
from services.query.context import QueryContext
from services.query.influxql import tree
from services.query.influxql.pattern import compile_pattern
from services.query.influxql.refused import refusal
from services.query.render.result import Kind, ResultColumn, ResultSeries
from services.query.schema.chosen import ALL_TIME, choose, find
from services.query.schema.counts import count
from services.query.schema.show import key_filter, limited
from services.query.schema.tables import Found
from services.query.schema.where import Dialect, split_condition


async def cardinality(statement: tree.ShowCardinality, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """SHOW … CARDINALITY; the estimates of 1.x are exact here (spec/README.md, decision 15)."""
    counted, condition = statement.counted, statement.condition
    if condition is not None and any(_is_time(node) for node in tree.walk(condition)):
        raise Invalid(f"SHOW {_WORDS[counted]} CARDINALITY doesn't support time in WHERE clause")
    chosen = await choose(statement.sources, statement.database, context.resolve)
    tags = split_condition(condition, context.now_ns, Dialect.COUNT).tags
    only_fields = counted is tree.Counted.FIELD_KEY and tags is None and not statement.dimensions
    found = await find(context, chosen, ALL_TIME, with_series=not only_fields)
    if _is_bare(statement):
        yield await _estimate(counted, found)
        return
    keys = _group_keys(statement.dimensions, found)
    wanted = key_filter(statement.keys) if statement.keys is not None else lambda _: True
    # Measurements are counted all together, and their answer has no name.
    together = [[each for entries in found for each in entries]] if counted is tree.Counted.MEASUREMENT else found
    for entries in together:
        for group, number in await asyncio.to_thread(count, counted, entries, tags, keys, wanted):
            column = ResultColumn("count", Kind.MIXED, limited(statement.limits, [number]))
            if column.values:
                yield ResultSeries(entries[0].name if together is found else None, group, (column,))


# As refusals call what is counted.
_WORDS = {
    tree.Counted.SERIES: "SERIES EXACT",
    tree.Counted.MEASUREMENT: "MEASUREMENT EXACT",
    tree.Counted.TAG_KEY: "TAG KEY EXACT",
    tree.Counted.TAG_VALUES: "TAG VALUES EXACT",
    tree.Counted.FIELD_KEY: "FIELD KEY",
}


def _is_time(node: tree.Expr) -> bool:
    return isinstance(node, tree.VarRef) and node.name.lower() == "time"


def _is_bare(statement: tree.ShowCardinality) -> bool:
    """The form of 1.x that estimates; with any clause that narrows it, it counts exactly there too."""
    return (
        statement.counted in (tree.Counted.SERIES, tree.Counted.MEASUREMENT)
        and not (statement.exact or statement.sources or statement.dimensions)
        and statement.condition is None
        and statement.limits == tree.Limits()
    )


async def _estimate(counted: tree.Counted, found: list[list[Found]]) -> ResultSeries:
    """All series, or all measurements, as one number."""
    if counted is tree.Counted.MEASUREMENT:
        total = sum(any(entry.count for entry in entries) for entries in found)
    else:
        groups = [await asyncio.to_thread(count, counted, entries, None) for entries in found]
        total = sum(number for group in groups for _, number in group)
    return ResultSeries(None, (), (ResultColumn("cardinality estimation", Kind.MIXED, [total]),))


def _group_keys(dimensions: Iterable[tree.Expr], found: Iterable[Iterable[Found]]) -> tuple[str, ...]:
    """The tags grouped by; ``*`` and patterns stand for keys of all measurements that are looked at."""
    names: set[str] = set()
    for dimension in dimensions:
        if isinstance(dimension, tree.VarRef):
            names.add(dimension.name)
            continue
        if not isinstance(dimension, tree.Wildcard | tree.RegexLiteral):
            raise refusal("GROUP BY anything but tags in SHOW CARDINALITY")
        matches = compile_pattern(dimension) if isinstance(dimension, tree.RegexLiteral) else lambda _: True
        tables = [entry.table for entries in found for entry in entries if entry.table is not None]
        names.update(key for table in tables for key in filter(matches, table.keys))
    return tuple(sorted(names))
