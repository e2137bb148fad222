"""Which bucket a write goes to, and whether its sender may write there.

Asks auth and keeps what it said; a refusal is never taken from what is kept (design, decision 11). Source:
InfluxDB 2.x, "write"; spec of /write and /api/v2/write, "Order of checks".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from common.cache import ToldCache
from common.dbrp import MappingTable
from common.errors import Forbidden, Invalid, NotFound
from common.identity import Identity
from common.model import Bucket
from common.rpc.client import RpcClient

MAX_TARGETS = 20_000
# Calls to auth that may be under way at a time; the others wait.
MAX_CALLS = 32
T = TypeVar("T")


class Confirmer:
    """Asks at most one question of a kind at a time.

    Whoever asks while the same question is under way waits for it and then for the next one, which all who wait
    share: each gets an answer that was asked for after it came, and a flood costs one call after another.
    """

    def __init__(self, max_calls: int = MAX_CALLS) -> None:
        self._slots = asyncio.Semaphore(max_calls)
        self._running: dict[Any, asyncio.Task[Any]] = {}
        self._waiting: dict[Any, asyncio.Task[Any]] = {}

    async def ask(self, key: Any, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to *question*, asked now or later."""
        running = self._running.get(key)
        if running is None:
            task = self._start(key, question)
        else:
            waiting = self._waiting.get(key)
            task = waiting if waiting is not None else self._queue(key, running, question)
        # One who leaves must not take the answer from the others.
        answer: T = await asyncio.shield(task)
        return answer

    def _start(self, key: Any, question: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        async def run() -> T:
            try:
                async with self._slots:
                    return await question()
            finally:
                if self._running.get(key) is task:
                    del self._running[key]

        task = self._running[key] = asyncio.create_task(run())
        task.add_done_callback(_retrieve)
        return task

    def _queue(self, key: Any, running: asyncio.Task[Any], question: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        async def run() -> T:
            await asyncio.wait([running])
            self._waiting.pop(key, None)
            return await asyncio.shield(self._start(key, question))

        task = self._waiting[key] = asyncio.create_task(run())
        task.add_done_callback(_retrieve)
        return task


def _retrieve(task: asyncio.Task[Any]) -> None:
    """All who asked may have left: then nobody else looks at the outcome."""
    if not task.cancelled():
        task.exception()


class Targets:
    """The buckets that writes name, by way of auth.

    Args:
        auth_url: where auth listens.
    """

    def __init__(self, client: RpcClient, auth_url: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._auth_url = auth_url
        self._buckets: ToldCache[Bucket] = ToldCache(MAX_TARGETS, clock_s)
        self._tables: ToldCache[MappingTable] = ToldCache(MAX_TARGETS, clock_s)
        self._confirmer = Confirmer()
        self._number = 0  # of the latest change that the feed told

    # The feed's three words, passed on to both caches.

    def drop(self, tags: list[str], number: int) -> None:
        self._number = max(self._number, number)
        for cache in (self._buckets, self._tables):
            cache.drop(tags, number)

    def drop_all(self, number: int) -> None:
        self._number = number
        for cache in (self._buckets, self._tables):
            cache.drop_all(number)

    def set_fed(self, fed: bool) -> None:
        for cache in (self._buckets, self._tables):
            cache.set_fed(fed)

    def find(self, identity: Identity, dialect: str, params: Mapping[str, str]) -> Bucket | None:
        """The bucket of a write if what is kept allows it; None = ask."""
        if dialect == "v2":
            bucket = self._buckets.find(_bucket_key(params))
        else:
            table = self._tables.find(identity.org_id)
            mapping = table.find(params["db"], params.get("rp", ""), identity) if table is not None else None
            bucket = mapping.bucket if mapping is not None else None
        return bucket if bucket is not None and _may_write(identity, bucket) else None

    async def get(self, identity: Identity, dialect: str, params: Mapping[str, str]) -> Bucket:
        """The bucket of a write, asked of auth. Raises NotFound, Invalid or Forbidden with InfluxDB's texts."""
        if dialect == "v2":
            return await self._get_v2(identity, params)
        return await self._get_v1(identity, params)

    async def _get_v2(self, identity: Identity, params: Mapping[str, str]) -> Bucket:
        key = _bucket_key(params)
        bucket = await self._confirmer.ask(key, lambda: self._ask_bucket(*key))
        if not identity.active:
            raise Forbidden("insufficient permissions for write: token is inactive")
        if not _may_write(identity, bucket):
            raise Forbidden("insufficient permissions for write")
        return bucket

    async def _get_v1(self, identity: Identity, params: Mapping[str, str]) -> Bucket:
        org_id = identity.org_id
        if org_id is None:
            raise NotFound("no dbrp mapping found")
        # What auth keeps will mostly do; only a refusal has to come from storage.
        for confirm in (False, True):
            question = partial(self._ask_mappings, org_id, confirm=confirm)
            try:
                table = await self._confirmer.ask((org_id, confirm), question)
            except NotFound:  # the organization is gone, and its mappings with it
                raise NotFound("no dbrp mapping found") from None
            mapping = table.find(params["db"], params.get("rp", ""), identity)
            if mapping is not None and _may_write(identity, mapping.bucket):
                return mapping.bucket
        if mapping is None:
            raise NotFound("no dbrp mapping found")
        raise Forbidden("insufficient permissions for write")

    def forget(self, bucket_id: str) -> None:
        """Storage says that this bucket is gone: what led to it is out of date."""
        self.drop([f"bucket:{bucket_id}"], self._number)

    async def _ask_bucket(self, org: str, org_id: str, name: str) -> Bucket:
        head = {"org": org, "org_id": org_id, "bucket": name}
        answer = (await self._client.call(self._auth_url, "auth.bucket", head, timeout_s=10, retry_for_s=1)).head
        bucket = Bucket(*answer["bucket"])
        self._buckets.put((org, org_id, name), bucket, answer["tags"], answer["number"])
        return bucket

    async def _ask_mappings(self, org_id: str, *, confirm: bool) -> MappingTable:
        head: dict[str, Any] = {"org_id": org_id}
        if confirm:
            head["confirm"] = True
        answer = (await self._client.call(self._auth_url, "auth.mappings", head, timeout_s=10, retry_for_s=1)).head
        table = await asyncio.to_thread(MappingTable.from_wire, answer["mappings"])
        self._tables.put(org_id, table, answer["tags"], answer["number"])
        return table


def check_params(dialect: str, params: Mapping[str, str]) -> int:
    """Check what a write must say, before anything is looked up.

    Returns:
        Length in ns of the unit of its timestamps.
    Raises:
        Invalid, NotFound: with the texts of the dialect.
    """
    if dialect == "v1":
        if not params.get("db"):
            raise Invalid("missing db")
        precision = params.get("precision", "")
        unit_ns = V1_UNITS_NS.get(precision)
        if unit_ns is None:
            raise Invalid(f'invalid precision "{precision}" (use n, u, ms, s, m or h)')
        return unit_ns
    unit_ns = V2_UNITS_NS.get(params.get("precision", ""))
    if unit_ns is None:
        raise Invalid("invalid precision; valid precision units are ns, us, ms, and s")
    if not params.get("bucket"):
        raise NotFound("bucket not found")
    return unit_ns


V2_UNITS_NS = {"": 1, "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
# The one-letter words mean what 1.x means by them (InfluxDB 2.9 takes them for ns without a word).
V1_UNITS_NS = {**V2_UNITS_NS, "n": 1, "u": 1_000, "µ": 1_000, "m": 60_000_000_000, "h": 3_600_000_000_000}


def _bucket_key(params: Mapping[str, str]) -> tuple[str, str, str]:
    return params.get("org", ""), params.get("orgID", ""), params["bucket"]


def _may_write(identity: Identity, bucket: Bucket) -> bool:
    return identity.may("write", "buckets", bucket.id, bucket.org_id)
