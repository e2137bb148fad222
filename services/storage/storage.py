"""All parts of storage, wired; opened and closed in mirror order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry

from common.budget import Budget
from common.errors import InfluxError
from common.folder_lock import FolderLock
from common.log import get_logger
from services.storage.board import Board
from services.storage.changes.append_request import AppendRequest
from services.storage.changes.pressure import Pressure
from services.storage.changes.series_watch import SeriesWatch
from services.storage.commits.committer import Committer
from services.storage.commits.feed import Feed
from services.storage.compaction.compaction import Compaction
from services.storage.config import StorageSettings
from services.storage.instances import Instance, Instances
from services.storage.metrics import Metrics, StateCollector
from services.storage.reading.dictionary import Dictionary
from services.storage.reading.segments import Segments
from services.storage.recovery.mending import Mend, Mended, lost_fields, lost_measurements
from services.storage.recovery.startup import build_state
from services.storage.sqlite.catalog import SqliteCatalog, engine_version
from services.storage.state.measurement import Measurement
from services.storage.state.state import State
from services.storage.sweep.reclaim import Reclaimer
from services.storage.sweep.sweeper import Sweeper

log = get_logger("storage")
VERSION = version("tidegate")
LEASE_CHECK_S = 0.5
SERIES_CHECK_S = 10.0


class Storage:
    """One storage process."""

    def __init__(self, settings: StorageSettings, registry: CollectorRegistry) -> None:
        self.settings = settings
        self._registry = registry
        self.budget = Budget(settings.budget_bytes)
        self.feed = Feed()
        self.instances = Instances(time.monotonic, self._tell_instances)
        self.pressure = Pressure(self.level0_load)
        self.series_watch = SeriesWatch(settings.max_series_per_bucket)
        self.metrics = Metrics(registry, engine_version())
        self.state = State()
        self.hash_key = b""
        self.is_ready = False
        self._lock = FolderLock(settings.data, "storage.lock")
        self.catalog = SqliteCatalog(
            settings.data,
            page_bytes=settings.storage_page_bytes,
            durable=settings.durability == "durable",
            readers=settings.storage_readers,
            log_limit_bytes=settings.storage_wal_bytes,
            reserve_bytes=settings.storage_reserve_bytes,
            on_commit=self.metrics.commit_seconds.observe,
            on_checkpoint=self.metrics.checkpoint_seconds.observe,
        )
        # What is open, each with how it is closed; in mirror order.
        self._opened = contextlib.AsyncExitStack()
        registry.register(StateCollector(lambda: self.state, self.series_watch, self._gauges))

    async def open(self) -> None:
        """Take the data folder, load the metadata, start the writer and what runs in the background.

        Raises FolderHeld when another process holds the folder; UnusableCatalog or OSError when the data
        can't be used. Nothing is left open then.
        """
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        began = time.monotonic()
        self._lock.take()
        self._opened.callback(self._lock.give_back)
        self.board = Board(self.settings.shared_memory, self.settings.data)
        self._opened.callback(self.board.close)
        self._opened.push_async_callback(self.catalog.close)
        await self.catalog.open()
        loaded = await self.catalog.load()
        self.hash_key = loaded.hash_key
        mended = Mended(lost_measurements(loaded), []) if loaded.damage else Mended([], [])
        self.state = await asyncio.to_thread(build_state, loaded, mended.measurements)
        self.state.on_change = self.board.count_up
        for segment, reason in self.state.quarantined.items():
            log.error("a segment is in quarantine", segment=segment, reason=reason)
        for damage in self.state.damage:
            log.error("a table is damaged", table=damage.table, reason=damage.reason)
        self.committer = Committer(
            self.catalog,
            self.state,
            self.feed,
            on_group=self.metrics.observe_group,
        )
        self.segments = Segments(self.catalog, self.state, self.committer)
        self.dictionary = Dictionary(self.catalog, self.state, self.committer)
        self.committer.start()
        self._opened.push_async_callback(self.committer.close)
        if loaded.damage:
            await self._mend(mended)
        self.reclaimer = Reclaimer(
            self.catalog, self.state, self.committer, self.segments, self.settings.max_series_per_bucket
        )
        self.sweeper = Sweeper(
            self.catalog,
            self.state,
            self.committer,
            self.reclaimer,
            self.settings.storage_keep_replaced_s * 1000,
            self.now_ms,
        )
        self.compaction = Compaction(
            self.segments, lambda: list(self.state.segments()), self._registry, snapshot=self._snapshot
        )
        for background in (self.sweeper.run(), self._expire_leases(), self._watch_series(), self.compaction.run()):
            self._opened.push_async_callback(_end, asyncio.create_task(background))
        self.is_ready = True
        log.info(
            "data loaded",
            seconds=round(time.monotonic() - began, 3),
            number=self.state.number,
            measurements=len(self.state.by_id),
            commits=len(self.state.commits),
        )

    async def _mend(self, mended: Mended) -> None:
        """Write again what the segments tell of damaged rows."""
        mended.fields.extend(await asyncio.to_thread(lost_fields, self.state))
        try:
            await self.committer.submit(Mend(mended))
        except InfluxError as error:
            # It is right in memory, and is tried again at the next start.
            log.error("cannot write damaged rows again", reason=str(error))

    async def close(self) -> None:
        """End what runs in the background, finish what is queued, write the log back, let the folder go."""
        self.is_ready = False
        await self._opened.aclose()

    def readiness(self) -> dict[str, Any]:
        """For /ready."""
        if not self.is_ready:
            return {"status": "starting"}
        return {
            "status": "ready",
            "number": self.state.number,
            "quarantined": len(self.state.quarantined),
            "damaged": len(self.state.damage),
            "level0": round(self.level0_load(), 3),
        }

    def level0_load(self) -> float:
        """How full level 0 is; past 1 appends are held back."""
        blocks = self.state.level0_blocks / self.settings.storage_level0_blocks
        return max(blocks, self.state.level0_bytes / self.settings.storage_level0_bytes)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def count_append(self, request: AppendRequest, answer: dict[str, Any]) -> None:
        """Tell the metrics of one append."""
        if "retry" in answer:
            self.metrics.appends.labels("retry").inc()
            return
        self.metrics.appends.labels("stored").inc()
        self.metrics.rows.inc(sum(block.rows for block in request.blocks))
        self.metrics.bytes.inc(len(request.data))

    def _snapshot(self, measurement: int) -> tuple[int, Measurement | None]:
        return self.state.number, self.state.by_id.get(measurement)

    async def _expire_leases(self) -> None:
        while True:
            await asyncio.sleep(LEASE_CHECK_S)
            self.instances.expire()

    async def _watch_series(self) -> None:
        while True:
            self.series_watch.look(self.state)
            await asyncio.sleep(SERIES_CHECK_S)

    def _tell_instances(self, listed: list[Instance]) -> None:
        self.feed.publish({"instances": [list(instance) for instance in listed]})

    def _gauges(self) -> dict[str, float]:
        return {
            "queued_changes": self.committer.queued if self.is_ready else 0,
            "wal_bytes": self.catalog.log_bytes(),
            "budget_used_bytes": self.budget.used_bytes,
            "level0_blocks": self.state.level0_blocks,
            "level0_bytes": self.state.level0_bytes,
            "level0_load": self.level0_load(),
            "feed_subscribers": len(self.feed),
        }


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
