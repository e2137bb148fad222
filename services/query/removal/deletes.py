"""DELETE, DROP SERIES, DROP MEASUREMENT and ``/api/v2/delete``: which series, then one call to storage.

What a condition on tags means is worked out here, on the index of series, into sequence numbers; storage writes them
down with the range of time (docs/decisions/0015-deletes.md). A statement that has been told to succeed is visible to
every query that begins after it. Source: spec/influxql.md, 14; http-query-v1.md, "DELETE and DROP details".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import numpy as np

from common.dbrp import Mapping
from common.errors import Forbidden, Gone, Invalid, Unavailable
from common.model import MAX_TIME_NS, MIN_TIME_NS, Bucket
from common.tombstones import encode_choice
from services.query.context import QueryContext
from services.query.influxql import tree
from services.query.influxql.pattern import compile_pattern
from services.query.planning.now import Now
from services.query.planning.times import split_time
from services.query.reading.held import Measured, MeasurementInfo
from services.query.reading.reader import Reader
from services.query.render.result import ResultSeries
from services.query.schema.where import Mask, checked_tags, series_mask

# Measurements whose series are read at the same time.
TOGETHER = 64
# Bytes of choices of series that one call carries.
MAX_CALL_BYTES = 32 << 20
# How often series are chosen again whose numbers have changed.
MAX_TRIES = 8
Choose = Callable[[Measured], Mask]
Chosen = tuple[Measured, bytes]
# What these statements answer.
NO_ROWS: tuple[ResultSeries, ...] = ()


# ---------------------------------------------------------------- statements


async def delete(statement: tree.Delete, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """DELETE: of the default policy, or of that which FROM names."""
    tags, first_ns, last_ns = split_time(statement.condition, Now(context.now_ns), None)
    start_ns = MIN_TIME_NS if first_ns is None else first_ns
    stop_ns = (MAX_TIME_NS if last_ns is None else last_ns) + 1
    for mapping, sources in await _by_mapping(statement.sources, context):
        await _delete_sources(context, mapping.bucket, sources, tags, start_ns, stop_ns)
    for series in NO_ROWS:
        yield series


async def drop_series(statement: tree.DropSeries, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """DROP SERIES: of every policy, all of their time."""
    tags, first_ns, last_ns = split_time(statement.condition, Now(context.now_ns), None)
    if first_ns is not None or last_ns is not None:
        raise Invalid("DROP SERIES doesn't support time in WHERE clause")
    if not context.database:
        raise Invalid("database name required")
    mappings = await context.readable_of(context.database)
    if not mappings:
        raise Invalid(f"database not found: {context.database}")
    for bucket in _buckets(mappings, context):
        await _delete_sources(context, bucket, statement.sources, tags, MIN_TIME_NS, MAX_TIME_NS + 1)
    for series in NO_ROWS:
        yield series


async def drop_measurement(statement: tree.DropMeasurement, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """DROP MEASUREMENT: from every policy of the database; what is not there is no error."""
    mappings = await context.readable_of(context.database) if context.database else []
    for bucket in _buckets(mappings, context):
        await delete_all(context.reader, bucket, [statement.name], MIN_TIME_NS, MAX_TIME_NS + 1)
    for series in NO_ROWS:
        yield series


def _buckets(mappings: Iterable[Mapping], context: QueryContext) -> list[Bucket]:
    """The buckets of *mappings*, each once. Raises Forbidden, before anything is done, where one may not be written."""
    buckets = list({mapping.bucket.id: mapping.bucket for mapping in mappings}.values())
    for bucket in buckets:
        _check_write(bucket, context)
    return buckets


def _check_write(bucket: Bucket, context: QueryContext) -> None:
    if not context.identity.may("write", "buckets", bucket.id, bucket.org_id):
        raise Forbidden("insufficient permissions")


async def _by_mapping(
    sources: Sequence[tree.Measurement], context: QueryContext
) -> list[tuple[Mapping, list[tree.Measurement]]]:
    """The policies that FROM names with their measurements; without FROM the default one, with none = every one."""
    if not sources:
        return [(await _mapping(context, ""), [])]
    found: dict[str, tuple[Mapping, list[tree.Measurement]]] = {}
    for source in sources:
        mapping = await _mapping(context, source.policy)
        found.setdefault(mapping.bucket.id, (mapping, []))[1].append(source)
    return list(found.values())


async def _mapping(context: QueryContext, policy: str) -> Mapping:
    known = await context.readable_of(context.database) if context.database else []
    fitting = [m for m in known if (m.retention_policy == policy if policy else m.default)]
    if not fitting:
        raise Invalid(
            f"no dbrp mappings found: db={context.database}, rp={policy}, please check to make sure db and rp exist"
        )
    _check_write(fitting[0].bucket, context)
    return fitting[0]


async def _delete_sources(
    context: QueryContext,
    bucket: Bucket,
    sources: Sequence[tree.Measurement],
    tags: tree.Expr | None,
    start_ns: int,
    stop_ns: int,
) -> None:
    takes = _chooser(sources)
    infos = [info for info in await context.reader.measurements(bucket) if takes(info.name)]
    if tags is None:
        await delete_all(context.reader, bucket, [info.name for info in infos], start_ns, stop_ns)
        return
    for info in infos:
        _check_fields(tags, info, bucket)
    if infos:
        checked_tags(tags)

    def choose(measured: Measured) -> Mask:
        # What tags alone don't answer chooses nothing: host = "h1", misquoted, or host = 5.
        mask = series_mask(measured.table, measured.name, tags)
        return np.ones(measured.table.count, np.bool_) if mask is None else mask

    await delete_chosen(context.reader, bucket, [info.name for info in infos], choose, start_ns, stop_ns)


def _chooser(sources: Sequence[tree.Measurement]) -> Callable[[str], bool]:
    names = {source.name for source in sources if source.regex is None}
    patterns = [compile_pattern(source.regex) for source in sources if source.regex is not None]
    return lambda name: not sources or name in names or any(pattern(name) for pattern in patterns)


def _check_fields(tags: tree.Expr, info: MeasurementInfo, bucket: Bucket) -> None:
    """Raises Invalid where a condition names a field of the measurement."""
    named = set(_names(tags))
    for shard_start_ns, field, _ in info.fields:
        if field in named:
            # Shards have no numbers here: their place since 1970 stands for it.
            shard = shard_start_ns // bucket.shard_ns
            raise Invalid(f"shard {shard}: fields not supported in WHERE clause during deletion")


def _names(expr: tree.Expr) -> Iterable[str]:
    if isinstance(expr, tree.VarRef):
        yield expr.name
    elif isinstance(expr, tree.ParenExpr):
        yield from _names(expr.expr)
    elif isinstance(expr, tree.BinaryExpr):
        yield from _names(expr.left)
        yield from _names(expr.right)


# ---------------------------------------------------------------- deleting


async def delete_all(reader: Reader, bucket: Bucket, names: Sequence[str], start_ns: int, stop_ns: int) -> None:
    """Delete all series of some measurements within ``[start_ns, stop_ns)``, those too that nobody knows of yet."""
    if names:
        await reader.delete(bucket, [[name, None] for name in names], [], start_ns, stop_ns)


async def delete_chosen(
    reader: Reader, bucket: Bucket, names: Sequence[str], choose: Choose, start_ns: int, stop_ns: int
) -> None:
    """Delete chosen series of some measurements within ``[start_ns, stop_ns)``.

    One call, and so whole or not at all, unless the choices are larger than ``MAX_CALL_BYTES``.

    Args:
        choose: the series, one bool each; run in a thread.
    """

    async def delete(chosen: list[Chosen]) -> None:
        for _ in range(MAX_TRIES):
            entries = [[measured.name, measured.generation] for measured, _ in chosen]
            try:
                await reader.delete(bucket, entries, [choice for _, choice in chosen], start_ns, stop_ns)
                return
            except Gone:  # the series of one have other numbers now, and nothing was deleted
                chosen = await _chosen(reader, bucket, [measured.name for measured, _ in chosen], choose)
        raise Unavailable("cannot delete: the series change their numbers faster than they can be chosen")

    waiting: list[Chosen] = []
    for start in range(0, len(names), TOGETHER):
        for measured, choice in await _chosen(reader, bucket, names[start : start + TOGETHER], choose):
            if waiting and sum(len(each) for _, each in waiting) + len(choice) > MAX_CALL_BYTES:
                await delete(waiting)
                waiting = []
            waiting.append((measured, choice))
    if waiting:
        await delete(waiting)


async def _chosen(reader: Reader, bucket: Bucket, names: Sequence[str], choose: Choose) -> list[Chosen]:
    """Those measurements of which series are chosen, each with its choice."""
    found = await asyncio.gather(*(reader.measured(bucket, name) for name in names))
    living = [measured for measured in found if measured is not None]
    choices = [await asyncio.to_thread(_choice, measured, choose) for measured in living]
    return [(measured, choice) for measured, choice in zip(living, choices, strict=True) if choice is not None]


def _choice(measured: Measured, choose: Choose) -> bytes | None:
    mask = choose(measured)
    return encode_choice(mask) if mask.any() else None
