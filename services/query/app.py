"""The query service as an aiohttp app: what it is made of, started and stopped in mirror order."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from common import web as shared
from common.budget import Budget
from common.config import load_keys
from common.feed import FeedFollower
from common.log import get_logger
from common.rpc.client import RpcClient
from services.query import compile
from services.query.administration.administer import Administration
from services.query.administration.operations import OPERATIONS
from services.query.config import QuerySettings
from services.query.context import SelectLimits
from services.query.control.allowance import Allowance
from services.query.control.memory import trimming
from services.query.control.peers import Peers
from services.query.control.queries import Queries
from services.query.control.slots import Slots
from services.query.metrics import Metrics
from services.query.reading.mappings import Mappings
from services.query.reading.reader import Reader
from services.query.removal.request import Deletes
from services.query.rpc import Methods, RequestLimits
from services.query.statements import EXECUTORS, EXECUTORS_OF_1X

log = get_logger("query")


class Query:
    """The parts of one query service, wired; what storage tells goes to the caches from here."""

    def __init__(
        self, settings: QuerySettings, client: RpcClient, registry: Any, url: Callable[[], str | None] = lambda: None
    ) -> None:
        self.budget = Budget(settings.budget_bytes)
        self.mappings = Mappings(client, settings.auth_url)
        self.reader = Reader(client, settings.storage_url, self.budget, settings.shared_memory)
        self.slots = Slots(settings.concurrency, settings.query_queue, settings.query_wait_s)
        self.peers = Peers(Queries(), client, url)
        limits = RequestLimits(
            SelectLimits(settings.query_max_points, settings.query_max_series, settings.query_max_buckets),
            settings.query_max_rows,
            settings.query_slow_s,
            settings.query_timeout_s,
            settings.query_max_chars,
            Allowance(settings.query_token_s, time.monotonic),
        )
        metrics = Metrics(
            registry,
            {
                "tidegate_query_running": ("Queries under way", lambda: self.slots.running),
                "tidegate_query_waiting": ("Queries that wait for their turn", lambda: self.slots.waiting),
                "tidegate_query_board": (
                    "1 while storage's changes are seen in shared memory, without asking it",
                    lambda: self.reader.sees_changes,
                ),
                "tidegate_query_memory_bytes": ("Bytes of the budget in use", lambda: self.budget.used_bytes),
            },
        )
        administration = Administration(client, settings.auth_url, self.mappings)
        self.methods = Methods(
            {**EXECUTORS, **OPERATIONS, **EXECUTORS_OF_1X, **administration.executors()}
            if settings.v1_admin
            else EXECUTORS,
            self.mappings,
            self.reader,
            self.slots,
            metrics,
            self.peers,
            limits,
            Deletes(client, settings.auth_url, self.reader),
        )
        self.feed = FeedFollower(
            client, settings.storage_url, "storage.feed", self._on_start, self._on_event, self._on_down
        )

    def readiness(self) -> dict[str, Any]:
        up = self.feed.up.is_set()
        return {"status": "ready" if up else "not ready", "storage": "ready" if up else "storage does not answer"}

    def _on_start(self, head: dict[str, Any]) -> None:
        self.mappings.drop_all(head["number"])
        self.peers.learn(head["instances"])
        self.mappings.set_fed(True)

    def _on_event(self, event: dict[str, Any]) -> None:
        if "instances" in event:
            self.peers.learn(event["instances"])
        tags = event.get("tags")
        if tags:
            self.mappings.drop(tags, event["number"])

    def _on_down(self) -> None:
        self.mappings.set_fed(False)

    async def follow(self, _app: web.Application) -> AsyncIterator[None]:
        """Follow the feed while the app runs."""
        following = asyncio.create_task(self.feed.run())
        yield
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def _load_kernels(_app: web.Application) -> AsyncIterator[None]:
    """Put the compiled kernels in use while queries are answered already; nobody waits for it at the end."""
    threading.Thread(target=_prepare, name="load kernels", daemon=True).start()
    yield


def _prepare() -> None:
    started = time.monotonic()
    try:
        compile.prepare()
    except Exception as error:
        log.error("the engine's kernels stay uncompiled: some queries are slow", exc_info=error)
    else:
        log.info("engine's kernels ready", seconds=round(time.monotonic() - started, 2))


def build(settings: QuerySettings, url: Callable[[], str | None]) -> web.Application:
    """The app.

    Args:
        url: gives the address under which this instance is reached, None until it listens.
    """
    keys = load_keys(settings)
    client = RpcClient(keys, "query")
    registry = shared.make_registry()
    query = Query(settings, client, registry, url)
    app = shared.internal_app("query", keys, query.methods.handlers(), query.readiness, registry)

    async def keep_client(_app: web.Application) -> AsyncIterator[None]:
        await client.open()
        yield
        await client.close()

    trim = trimming(lambda: query.budget.used_bytes)
    registration = shared.registration(client, settings.storage_url, "query", url)
    app.cleanup_ctx.extend([trim, keep_client, query.follow, registration, _load_kernels])
    return app
