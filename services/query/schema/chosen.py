"""What a SHOW statement looks at: the measurements that it names, what fields they have, and their series.

Source: spec/influxql.md, 13.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from common.model import Bucket, FieldType
from services.query.context import QueryContext
from services.query.engine.frame import SeriesTable
from services.query.influxql import tree
from services.query.influxql.pattern import compile_pattern
from services.query.reading.held import MeasurementInfo
from services.query.schema.tables import Found
from services.query.schema.where import ShowCondition

ALL_TIME = ShowCondition(None)
# Measurements whose series are read at the same time.
_TOGETHER = 64


@dataclass(slots=True)
class Chosen:
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


async def choose(sources: Iterable[tree.Measurement], database: str, resolve: Resolve) -> list[Chosen]:
    """The buckets and measurements that FROM names; without FROM everything in the default policy's bucket."""
    sources = tuple(sources)
    if not sources:
        return [Chosen(await resolve(database, ""), every=True)]
    chosen: dict[str, Chosen] = {}
    for source in sources:
        bucket = await resolve(source.database or database, source.policy)
        entry = chosen.setdefault(bucket.id, Chosen(bucket))
        if source.regex is not None:
            entry.patterns.append(compile_pattern(source.regex))
        else:
            entry.names.add(source.name)
    return list(chosen.values())


async def find(
    context: QueryContext, chosen: Iterable[Chosen], condition: ShowCondition, *, with_series: bool = True
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


async def _find_named(context: QueryContext, choice: Chosen) -> list[Found]:
    """What there is of the measurements that *choice* names, in one call to storage."""
    found = await asyncio.gather(*(context.reader.measured(choice.bucket, name) for name in sorted(choice.names)))
    return [Found(each.name, each.fields_by_shard, each.living) for each in found if each is not None]


def _touches(fields: Iterable[tuple[int, str, FieldType]], bucket: Bucket, condition: ShowCondition) -> bool:
    """Whether the measurement has a shard in the time range, which chooses whole shards only."""
    return any(start < condition.stop_ns and start + bucket.shard_ns > condition.start_ns for start, _, _ in fields)


async def default_only(context: QueryContext, database: str, policy: str) -> Bucket:
    """The default policy whatever the request's ``rp`` says, unless the statement itself names another."""
    if policy:
        return await context.resolve(database, policy)
    return await context.resolve_default(database)
