"""Bringing the writes of one call into storage: check, append, and again as storage rules.

Storage has the last word on types, series and buckets; what it answers narrows the commit until it takes it, always
under the same ids (docs/rpc.md, "storage.append").
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

import numpy as np

from common.errors import NotFound, TooLarge, Unavailable
from common.lineprotocol import compiled
from common.log import get_logger
from common.model import FieldType
from common.rpc import wire
from common.rpc.client import RpcClient
from services.ingest.checks import (
    AdmittedWrite,
    CheckedWrites,
    GroupKey,
    ParsedWrites,
    Result,
    Ruling,
    check_group_types,
    check_writes,
    group_key,
    group_writes,
    groups_in_conflict,
    parse_writes,
    to_result,
)
from services.ingest.columns import TypeCheck
from services.ingest.groups import Groups
from services.ingest.known_series import KnownSeries
from services.ingest.metrics import Metrics
from services.ingest.schema import NewField, SchemaCache, Shards
from services.ingest.targets import Targets

log = get_logger("commit")
P = ParamSpec("P")
T = TypeVar("T")
# Calls with bodies of up to this size are worked on in the event loop: that is quicker than the way to a thread.
INLINE_BYTES = 32 << 10
# The head of a commit has a bound; this many blocks are surely within it.
MAX_SURE_BLOCKS = 256
# Each answer of storage settles something for good, so a few rounds do.
MAX_ROUNDS = 16


class Commits:
    """Takes admitted writes to storage.

    Args:
        retry_s: how long a commit is tried again while storage can't be reached or is overloaded.
        timeout_s: how long one try may wait for its answer.
    """

    def __init__(
        self,
        client: RpcClient,
        storage_url: str,
        schema: SchemaCache,
        series: KnownSeries,
        targets: Targets,
        pool: Executor,
        metrics: Metrics,
        retry_s: float,
        timeout_s: float,
    ) -> None:
        self._client = client
        self._storage_url = storage_url
        self._schema = schema
        self._series = series
        self._targets = targets
        self._pool = pool
        self._metrics = metrics
        self._points = {outcome: metrics.points.labels(outcome) for outcome in ("stored", "dropped", "unparsed")}
        self._retry_s = retry_s
        self._timeout_s = timeout_s

    async def find_results(self, ids: Sequence[bytes]) -> dict[bytes, Result]:
        """What storage remembers of writes that were tried before."""
        answer = await self._client.call(
            self._storage_url, "storage.results", {"ids": list(ids)}, timeout_s=self._timeout_s, retry_for_s=1
        )
        return dict(answer.head["results"])

    async def commit(self, writes: Sequence[AdmittedWrite], hash_key: bytes) -> list[Result]:
        """Store *writes* in one commit. Returns the result of each.

        Raises:
            Unavailable: storage can't be reached, or has no room; the writes may or may not be stored, and may be
                sent again under the same ids.
        """
        size = sum(len(write.body) for write in writes)
        with self._metrics.parse_seconds.time():
            stage, ruling, groups = await self._run(size, _parse_and_group, writes, hash_key)
        for _ in range(MAX_ROUNDS):
            checked = await self._check(size, stage, ruling, groups)
            if not checked.stored:
                break
            with self._metrics.append_seconds.time():
                answer = await self._append(stage, checked)
            if "number" in answer:
                self._metrics.rounds.labels("stored").inc()
                await self._learn(size, checked, answer["number"])
                break
            self._metrics.rounds.labels("again").inc()
            await self._rule(stage, checked, ruling, answer["retry"])
            groups = await self._run(size, group_writes, stage, ruling)
        else:
            log.error("storage does not take a commit", rounds=MAX_ROUNDS, answer=sorted(answer["retry"]))
            raise Unavailable("storage does not take the points; try again")
        self._count(stage, checked)
        return list(checked.results)

    async def _run(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if size <= INLINE_BYTES and compiled.is_compiled():
            return work(*args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*args, **kwargs))

    async def _check(self, size: int, stage: ParsedWrites, ruling: Ruling, groups: Groups) -> CheckedWrites:
        started = time.perf_counter()
        types, checked = await self._run(
            size, _check_unless_in_conflict, stage, ruling, groups, self._known_types(groups), self._series
        )
        if checked is None:
            losers = {group_key(groups, group)[:2] for group in groups_in_conflict(groups, types)}
            suspects = {key for key in losers if self._schema.find(*key)}
            if suspects:
                confirmed = await self._schema.confirm(suspects)
                known = self._known_types(groups, confirmed)
                types = await self._run(size, check_group_types, stage, groups, ruling, known)
            checked = await self._run(size, check_writes, stage, ruling, groups, types, self._series)
        self._metrics.build_seconds.observe(time.perf_counter() - started)
        return checked

    def _known_types(
        self, groups: Groups, confirmed: Mapping[tuple[str, str], Shards] | None = None
    ) -> dict[GroupKey, Mapping[str, FieldType]]:
        """Types of the groups' fields: confirmed ones, else those that are kept. Read here, in the event loop."""
        known: dict[GroupKey, Mapping[str, FieldType]] = {}
        for group in range(len(groups)):
            key = group_key(groups, group)
            shards = (confirmed or {}).get(key[:2])
            if shards is None:
                shards = self._schema.find(*key[:2])
            known[key] = shards.get(key[2], {})
        return known

    async def _append(self, stage: ParsedWrites, checked: CheckedWrites) -> Any:
        head = {
            "writes": [[stage.writes[body].id, checked.results[body]] for body in checked.stored],
            "blocks": list(checked.metas),
            "new_series": [[bucket_id, name, len(ids)] for bucket_id, name, ids in checked.new_series],
        }
        if len(checked.metas) > MAX_SURE_BLOCKS and len(wire.encode_head(head)) > wire.MAX_HEAD_BYTES:
            raise TooLarge(f"Request Entity Too Large: points of {len(checked.metas)} measurements and shards at once")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_s
        pause_s = 0.02
        while True:
            try:
                answer = await self._client.call(
                    self._storage_url, "storage.append", head, checked.parts, timeout_s=self._timeout_s
                )
                return answer.head
            except Unavailable as error:
                # Sent again under the same ids: if the first try has been stored, the answer says so.
                if loop.time() + pause_s > deadline:
                    raise Unavailable(str(error), retry_after_s=error.retry_after_s) from error
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.5)

    async def _learn(self, size: int, checked: CheckedWrites, number: int) -> None:
        """Keep what the commit has shown to be stored."""
        fields: list[NewField] = [
            (*group_key(checked.groups, group), name, type)
            for group, new in enumerate(checked.types.new)
            for name, type in new.items()
        ]
        if fields:
            self._schema.learn(fields, number)
        for bucket_id, measurement, ids in checked.new_series:
            await self._run(size, self._series.add, bucket_id, measurement, ids)

    async def _rule(
        self, stage: ParsedWrites, checked: CheckedWrites, ruling: Ruling, answer: Mapping[str, Any]
    ) -> None:
        """Take in what storage says to a commit that it did not take."""
        results: dict[bytes, Result] = dict(answer.get("known", ()))
        gone = set(answer.get("gone", ()))
        for body, write in enumerate(stage.writes):
            if write.id in results:
                ruling.results[body] = results[write.id]
            elif write.bucket.id in gone and body not in ruling.results:
                ruling.results[body] = to_result(NotFound(write.gone_text))
        for bucket_id in gone:
            self._targets.forget(bucket_id)
            self._series.forget_bucket(bucket_id)
        conflicts = answer.get("conflicts", ())
        for index, name, type in conflicts:
            key = group_key(checked.groups, checked.built[index].group)
            ruling.types.setdefault(key, {})[name] = FieldType(type)
        if conflicts:
            # The next write of this kind then finds its conflict here, before a commit is built for it.
            await self._schema.confirm({group_key(checked.groups, checked.built[c[0]].group)[:2] for c in conflicts})
        for index, _ in answer.get("unknown", ()):
            block = checked.built[index].block
            self._series.forget(block.bucket_id, block.measurement)
        ruling.limit = answer.get("limit", ruling.limit)
        for index, positions in answer.get("over_limit", ()):
            self._drop_series(stage, checked, ruling, index, np.frombuffer(positions, np.int64))

    @staticmethod
    def _drop_series(
        stage: ParsedWrites, checked: CheckedWrites, ruling: Ruling, index: int, positions: np.ndarray[Any, Any]
    ) -> None:
        built, parsed = checked.built[index], stage.parsed
        over = np.zeros(len(parsed.series_ids), np.bool_)
        over[built.series[positions]] = True
        # The same series may go to another bucket too, which has room.
        here = np.array([write.bucket.id == built.block.bucket_id for write in stage.writes])
        ruling.over_limit |= over[parsed.series] & here[parsed.body]

    def _count(self, stage: ParsedWrites, checked: CheckedWrites) -> None:
        stored = len(checked.groups.rows) - int(checked.types.lost[checked.groups.rows].sum()) if checked.stored else 0
        self._points["stored"].inc(stored)
        self._points["dropped"].inc(stage.parsed.rows - stored)
        self._points["unparsed"].inc(int(stage.parsed.error_counts.sum()))


# What one turn in the pool does: each way there and back costs as much as a thousand points.


def _parse_and_group(writes: Sequence[AdmittedWrite], hash_key: bytes) -> tuple[ParsedWrites, Ruling, Groups]:
    stage = parse_writes(writes, hash_key)
    ruling = Ruling(np.zeros(stage.parsed.rows, np.bool_))
    return stage, ruling, group_writes(stage, ruling)


def _check_unless_in_conflict(
    stage: ParsedWrites,
    ruling: Ruling,
    groups: Groups,
    known: Mapping[GroupKey, Mapping[str, FieldType]],
    series: KnownSeries,
) -> tuple[TypeCheck, CheckedWrites | None]:
    """The commit, or None where types are in conflict with what is known, which may be old."""
    types = check_group_types(stage, groups, ruling, known)
    return types, None if types.first else check_writes(stage, ruling, groups, types, series)
