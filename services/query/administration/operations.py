"""Statements about this service's own work: SHOW QUERIES, KILL QUERY, SHOW SHARDS, SHARD GROUPS, STATS, DIAGNOSTICS.

In the shapes of InfluxDB 1.12 (spec/README.md, decision 15). A shard here is the time window of a bucket that holds
points; its number is made of both, so that it is the same on every replica.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from common.errors import Forbidden
from common.times import format_go_duration
from services.query.context import QueryContext
from services.query.control.peers import Peers
from services.query.execute import Executor
from services.query.influxql import tree
from services.query.render.result import Kind, ResultColumn, ResultSeries

EXPIRES_NEVER = ""


def _table(name: str | None, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> ResultSeries:
    cells = zip(*rows, strict=True) if rows else ((),) * len(columns)
    return ResultSeries(
        name,
        (),
        tuple(ResultColumn(column, Kind.MIXED, list(values)) for column, values in zip(columns, cells, strict=True)),
    )


def _peers(context: QueryContext) -> Peers:
    if context.peers is None:
        raise RuntimeError("the context of a request has no peers")
    return context.peers


async def show_queries(_statement: tree.ShowQueries, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """The queries of every replica that the caller may see, itself included."""
    rows = [
        (id, text, database, format_go_duration(_coarse(ns)), status)
        for id, text, database, ns, status in await _peers(context).listed(context.identity)
    ]
    yield _table(None, ("qid", "query", "database", "duration", "status"), rows)


def _coarse(ns: int) -> int:
    """A duration cut to the unit that it is told in."""
    for unit in (1_000_000_000, 1_000_000, 1_000):
        if ns >= unit:
            return ns - ns % unit
    return ns


async def kill_query(statement: tree.KillQuery, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """End a query, wherever it runs. Raises NotFound: ``no such query id: n``."""
    await _peers(context).kill(statement.query, context.identity)
    nothing: tuple[ResultSeries, ...] = ()
    for series in nothing:
        yield series


def shard_number(bucket_id: str, start_ns: int) -> int:
    """A number for a shard, the same wherever it is asked for."""
    return zlib.crc32(f"{bucket_id}/{start_ns}".encode())


def _moment(ns: int) -> str:
    seconds = ns // 1_000_000_000
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return EXPIRES_NEVER


async def _shards(context: QueryContext) -> dict[str, list[tuple[int, str, str, int, int, int]]]:
    """By database: number, database, policy, start, stop, expiry (0 = never) of each shard that holds points."""
    found: dict[str, list[tuple[int, str, str, int, int, int]]] = {}
    for mapping in await context.readable():
        bucket = mapping.bucket
        infos = await context.reader.measurements(bucket)
        starts = sorted({start for info in infos for start, _, _ in info.fields})
        rows = found.setdefault(mapping.database, [])
        for start in starts:
            stop = start + bucket.shard_ns
            expiry = stop + bucket.retention_ns if bucket.retention_ns else 0
            rows.append(
                (shard_number(bucket.id, start), mapping.database, mapping.retention_policy, start, stop, expiry)
            )
    return found


async def show_shards(_statement: tree.ShowShards, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """A series a database."""
    columns = (
        "id", "database", "retention_policy", "shard_group", "start_time", "end_time", "expiry_time", "owners",
    )  # fmt: skip
    for database, shards in (await _shards(context)).items():
        yield _table(database, columns, [
            (id, db, policy, id, _moment(start), _moment(stop), _moment(expiry) if expiry else EXPIRES_NEVER, "")
            for id, db, policy, start, stop, expiry in shards
        ])  # fmt: skip


async def show_shard_groups(_statement: tree.ShowShardGroups, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """One series; a group has one shard."""
    rows = [
        (id, db, policy, _moment(start), _moment(stop), _moment(expiry) if expiry else EXPIRES_NEVER)
        for shards in (await _shards(context)).values()
        for id, db, policy, start, stop, expiry in shards
    ]
    columns = ("id", "database", "retention_policy", "start_time", "end_time", "expiry_time")
    yield _table("shard groups", columns, rows)


def _check_operator(context: QueryContext, words: str) -> None:
    """Figures of the whole process are nobody's but the operator's."""
    if not context.identity.may("read", "orgs"):
        raise Forbidden(f"insufficient permissions for {words}")


async def show_stats(statement: tree.ShowStats, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """Figures of the replica that answers."""
    _check_operator(context, "SHOW STATS")
    queries = _peers(context).queries
    budget = context.reader.budget
    modules = {
        "queryExecutor": {
            "queriesActive": len(queries),
            "queriesExecuted": queries.executed,
            "queriesFinished": queries.finished,
            "queryDurationNs": int(queries.duration_s * 1e9),
        },
        "memory": {"budgetBytes": budget.limit_bytes, "usedBytes": budget.used_bytes},
    }
    for name, values in modules.items():
        if statement.module in ("", name):
            yield _table(name, tuple(values), [tuple(values.values())])


async def show_diagnostics(statement: tree.ShowDiagnostics, context: QueryContext) -> AsyncIterator[ResultSeries]:
    """What the replica that answers is, and for how long it runs."""
    _check_operator(context, "SHOW DIAGNOSTICS")
    started_s = _peers(context).queries.started_s
    uptime_ns = int(time.time() - started_s) * 1_000_000_000
    modules: dict[str, dict[str, Any]] = {
        "runtime": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "os": sys.platform,
            "cpus": os.cpu_count() or 1,
        },
        "system": {
            "PID": os.getpid(),
            "currentTime": _moment(time.time_ns()),
            "started": _moment(int(started_s * 1e9)),
            "uptime": format_go_duration(uptime_ns),
        },
    }
    for name, values in modules.items():
        if statement.module in ("", name):
            yield _table(name, tuple(values), [tuple(values.values())])


OPERATIONS: dict[type, Executor] = {
    tree.ShowQueries: show_queries,
    tree.KillQuery: kill_query,
    tree.ShowShards: show_shards,
    tree.ShowShardGroups: show_shard_groups,
    tree.ShowStats: show_stats,
    tree.ShowDiagnostics: show_diagnostics,
}
