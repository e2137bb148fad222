"""The ingest service as an aiohttp app: what it is made of, started and stopped in mirror order."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from common import web as shared
from common.budget import Budget
from common.config import load_keys
from common.errors import InfluxError
from common.feed import FeedFollower
from common.lineprotocol import compiled
from common.log import get_logger
from common.rpc.client import RpcClient
from services.ingest.commit import Commits
from services.ingest.config import IngestSettings
from services.ingest.known_series import KnownSeries
from services.ingest.metrics import Metrics
from services.ingest.rpc import handlers
from services.ingest.schema import SchemaCache
from services.ingest.targets import Targets
from services.ingest.write import Writer

log = get_logger("ingest")


class Ingest:
    """The parts of one ingest, wired; what storage tells goes to the caches from here.

    Args:
        clock_s: monotonic seconds, by which what is cached ages.
    """

    def __init__(
        self,
        settings: IngestSettings,
        client: RpcClient,
        registry: Any,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._storage_url = settings.storage_url
        self.budget = Budget(settings.budget_bytes)
        self.pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="write")
        self.series = KnownSeries(settings.known_series_bytes)
        self.targets = Targets(client, settings.auth_url, clock_s)
        self.schema = SchemaCache(client, settings.storage_url, clock_s)
        self.hash_key: bytes | None = None
        metrics = Metrics(registry, self.budget, self.series)
        commits = Commits(
            client, settings.storage_url, self.schema, self.series, self.targets, self.pool, metrics,
            settings.append_retry_s, settings.append_timeout_s,
        )  # fmt: skip
        self.writer = Writer(
            self.targets, commits, self.budget, self.pool, metrics, lambda: self.hash_key, settings.body_limit
        )
        self.feed = FeedFollower(
            client, settings.storage_url, "storage.feed", self._on_start, self._on_event, self._on_down
        )
        self._greeting: asyncio.Task[None] | None = None

    def readiness(self) -> dict[str, Any]:
        storage = "ready" if self.feed.up.is_set() and self.hash_key is not None else "storage does not answer"
        parser = "compiled" if compiled.is_compiled() else "not compiled yet: writes are slow"
        return {"status": "ready" if storage == "ready" else "not ready", "storage": storage, "parser": parser}

    def _on_start(self, head: dict[str, Any]) -> None:
        for cache in (self.targets, self.schema):
            cache.drop_all(head["number"])
            cache.set_fed(True)
        # It may be another storage than before.
        if self._greeting is not None:
            self._greeting.cancel()
        self._greeting = asyncio.create_task(self._greet())

    async def _greet(self) -> None:
        """Learn the key of the series hash."""
        while True:
            try:
                answer = await self._client.call(self._storage_url, "storage.hello", {}, timeout_s=3, retry_for_s=3)
            except InfluxError as error:
                log.warning("storage does not say hello", reason=str(error))
                await asyncio.sleep(0.2)
                continue
            if answer.head["hash_key"] != self.hash_key:
                self.series.forget_all()
                self.hash_key = answer.head["hash_key"]
            return

    def _on_event(self, event: dict[str, Any]) -> None:
        tags = event.get("tags")
        if not tags:
            return
        for cache in (self.targets, self.schema):
            cache.drop(tags, event["number"])
        for tag in tags:
            kind, _, id = tag.partition(":")
            if kind == "bucket":
                self.series.forget_bucket(id)

    def _on_down(self) -> None:
        for cache in (self.targets, self.schema):
            cache.set_fed(False)

    async def follow(self, _app: web.Application) -> AsyncIterator[None]:
        """Follow the feed and load the parser while the app runs."""
        # A thread of its own that the end of the process need not wait for: compiling takes up to a minute.
        threading.Thread(target=_load_parser, name="load parser", daemon=True).start()
        following = asyncio.create_task(self.feed.run())
        yield
        for task in (following, self._greeting):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self.pool.shutdown(wait=True)


def _load_parser() -> None:
    started = time.monotonic()
    try:
        compiled.prepare()
    except Exception as error:
        log.error("the line protocol parser stays uncompiled: writes are slow", exc_info=error)
    else:
        log.info("line protocol parser ready", seconds=round(time.monotonic() - started, 2))


def build(settings: IngestSettings, url: Callable[[], str | None]) -> web.Application:
    """The app.

    Args:
        url: gives the address under which this instance is reached, None until it listens.
    """
    keys = load_keys(settings)
    client = RpcClient(keys, "ingest")
    registry = shared.make_registry()
    ingest = Ingest(settings, client, registry)
    methods = handlers(ingest.writer.write, ingest.budget, settings.body_limit)
    app = shared.internal_app("ingest", keys, methods, ingest.readiness, registry)

    async def keep_client(_app: web.Application) -> AsyncIterator[None]:
        await client.open()
        yield
        await client.close()

    app.cleanup_ctx.extend(
        [
            keep_client,
            ingest.follow,
            shared.registration(client, settings.storage_url, "ingest", url),
        ]
    )
    return app
