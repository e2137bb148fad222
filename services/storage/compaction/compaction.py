"""Merges small segments into large ones in the background, without holding up what comes in (design, decision 1).

``levels.py`` says which; a child process (``compactor.py``) does the work; the results appear, and their sources
cease to be planned with, in one transaction. Killed at any moment before that, nothing has changed, and the work is
planned again from what there is. Memory: one batch of sources and results (``BATCH_BYTES``) here, a few columns more
in the child. Disk: sources stay readable for a while after their replacement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy

from prometheus_client import CollectorRegistry, Counter

from common.errors import Gone, InfluxError
from common.log import get_logger
from common.tombstones import Tombstone
from services.storage.catalog.segment_store import ChunkRead
from services.storage.compaction.levels import Limits, Merge, plan_cleaning, plan_merges
from services.storage.compaction.overlaps import plan_all_overlaps
from services.storage.compaction.process import CompactorFailed, CompactorProcess
from services.storage.compaction.sources import Source, with_hidden
from services.storage.reading.segments import NewSegment, Segments
from services.storage.state.blocks import Segment, chunk_reads
from services.storage.state.measurement import Measurement

log = get_logger("storage.compaction")

INTERVAL_S = 1.0
# A block of a commit that has no company after this long is merged with what there is.
WAIT_S = 300.0
# With so many blocks of commits about (a backfill of many shards) none waits for company.
MAX_WAITING = 4096
# The child is ended when it has had nothing to do for this long.
IDLE_S = 60.0
RETRY_S = 5.0
# A delete is worked in this long after it was first seen, with those that came after it.
DELETE_WAIT_S = 20.0
# With so many on one measurement none waits.
MAX_WAITING_DELETES = 32
BATCH_ROWS = 1 << 20
BATCH_BYTES = 32 << 20
BATCH_MERGES = 64
# Small ones are read this many at a time, so that the event loop has pauses.
READ_SEGMENTS = 64
# A merge that fails so often is not tried again until a restart.
MAX_FAILURES = 3


def _locate(segments: Sequence[Segment]) -> list[list[ChunkRead]]:
    return [chunk_reads(segment) for segment in segments]


class Compaction:
    """The background task.

    Args:
        segments: reads and replaces.
        living: a snapshot of all segments that are planned with; asked on the event loop.
        snapshot: the number of the last change and a measurement (None = it is dropped), asked on the event loop.
        clock_s: monotonic.
    """

    def __init__(
        self,
        segments: Segments,
        living: Callable[[], list[Segment]],
        registry: CollectorRegistry,
        *,
        limits: Limits | None = None,
        snapshot: Callable[[int], tuple[int, Measurement | None]] = lambda measurement: (0, None),
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segments = segments
        self._living = living
        self._limits = limits or Limits()
        self._clock_s = clock_s
        self._snapshot = snapshot
        self.process = CompactorProcess()
        # When a block of a commit was first seen here; how often a merge beginning with this segment failed.
        self._seen_s: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        # When a delete was first seen here, by number.
        self._deletes_s: dict[int, float] = {}
        self._last_work_s = clock_s()
        self._merges = Counter("tidegate_storage_compactions", "Merges by outcome", ["outcome"], registry=registry)
        self._sources = Counter("tidegate_storage_compacted_segments", "Segments merged", registry=registry)
        self._rows = Counter("tidegate_storage_compacted_rows", "Rows merged", registry=registry)
        self._bytes = Counter("tidegate_storage_compacted_bytes", "Bytes of merged segments", registry=registry)

    async def run(self) -> None:
        """Compact until cancelled."""
        try:
            while True:
                pause_s = INTERVAL_S
                try:
                    while await self.compact():
                        pass
                except (InfluxError, CompactorFailed, OSError) as error:
                    log.warning("cannot compact", reason=str(error))
                    pause_s = RETRY_S
                except Exception as error:
                    # Without compaction storage would refuse writes some day: say so and go on.
                    log.error("compaction failed", exc_info=error)
                    pause_s = RETRY_S
                if self.process.pid is not None and self._clock_s() - self._last_work_s > IDLE_S:
                    await asyncio.to_thread(self.process.end)
                await asyncio.sleep(pause_s)
        finally:
            self.process.end()

    async def compact(self) -> bool:
        """Do all merges that are worth it now; returns whether there were any, so that there may be more."""
        merges = [merge for merge in await self._plan() if self._may_try(merge)]
        for batch in _batches(merges):
            await self._do(batch)
        return bool(merges)

    async def _plan(self) -> list[Merge]:
        segments = self._living()
        deletes = self._ripe_deletes({segment.measurement for segment in segments})
        return await asyncio.to_thread(self._plan_of, segments, deletes)

    def _ripe_deletes(self, measurements: Iterable[int]) -> dict[int, list[Tombstone]]:
        """Tombstones that are old enough to be worked in, by measurement: others often come soon after one."""
        found: dict[int, list[Tombstone]] = {}
        seen_s: dict[int, float] = {}
        now_s = self._clock_s()
        for id in measurements:
            _, measurement = self._snapshot(id)
            stones = () if measurement is None else measurement.tombstones
            wait_s = DELETE_WAIT_S if len(stones) < MAX_WAITING_DELETES else 0.0
            for stone in stones:
                if not stone.is_settled:
                    seen_s[stone.number] = self._deletes_s.get(stone.number, now_s)
                    if now_s - seen_s[stone.number] >= wait_s:
                        found.setdefault(id, []).append(stone)
        self._deletes_s = seen_s
        return found

    def _plan_of(self, segments: list[Segment], deletes: Mapping[int, Sequence[Tombstone]]) -> list[Merge]:
        now_s = self._clock_s()
        self._seen_s = {segment.id: self._seen_s.get(segment.id, now_s) for segment in segments if segment.level == 0}
        wait_s = WAIT_S if len(self._seen_s) < MAX_WAITING else 0.0
        waited = {id for id, seen_s in self._seen_s.items() if now_s - seen_s >= wait_s}
        merges = plan_merges(segments, self._limits, waited)
        merges += plan_all_overlaps(segments, self._limits, {each.id for merge in merges for each in merge.segments})
        if deletes:
            merges += plan_cleaning(segments, merges, deletes)
        return merges

    def _may_try(self, merge: Merge) -> bool:
        return self._failures.get(merge.segments[0].id, 0) < MAX_FAILURES

    async def _do(self, batch: Sequence[Merge]) -> None:
        """Merge, and put the results in their places. A merge that fails does not touch the others."""
        # Deletes after this moment are after all sources too, so they hide rows of the results as they hide those.
        number, hidden = self._deletes_of(batch)
        sources = [await self._read(merge, hidden) for merge in batch]
        there = [(merge, found) for merge, found in zip(batch, sources, strict=True) if found is not None]
        if not there:
            return
        try:
            answers = await self._call([found for _, found in there])
        except CompactorFailed:
            # One of them may have killed it: the next time each goes alone, and the culprit is found.
            if len(there) == 1:
                self._note_failure(there[0][0], "the compactor process died")
                raise
            alone = [merge for merge, _ in there]
            del sources, there
            for merge in alone:
                await self._do([merge])
            return
        self._last_work_s = self._clock_s()
        # Together: they share a transaction.
        await asyncio.gather(
            *(self._put(merge, answer, number) for (merge, _), answer in zip(there, answers, strict=True))
        )

    def _deletes_of(self, batch: Sequence[Merge]) -> tuple[int, dict[int, Measurement]]:
        """The number of the last change, and those of the measurements in question that have tombstones, as of it."""
        number = 0
        found: dict[int, Measurement] = {}
        for id in {merge.segments[0].measurement for merge in batch}:
            number, measurement = self._snapshot(id)
            if measurement is not None and measurement.tombstones:
                found[id] = copy(measurement)  # as it is now
        return number, found

    async def _read(self, merge: Merge, deletes: Mapping[int, Measurement]) -> list[Source] | None:
        """Its sources; None = one is not there any more."""
        sources: list[Source] = []
        for start in range(0, len(merge.segments), READ_SEGMENTS):
            some = merge.segments[start : start + READ_SEGMENTS]
            places = await asyncio.to_thread(_locate, some)
            try:
                chunks = [chunk async for chunk in self._segments.read([read for reads in places for read in reads])]
            except Gone:
                return None
            found = iter(chunks)
            for segment, reads in zip(some, places, strict=True):
                source = segment.meta, [next(found) for _ in reads]
                measurement = deletes.get(segment.measurement)
                if measurement is not None:
                    source = await asyncio.to_thread(with_hidden, segment, source, measurement)
                sources.append(source)
        return sources

    async def _call(self, merges: Sequence[Sequence[Source]]) -> list[list[NewSegment] | str]:
        call = asyncio.ensure_future(asyncio.to_thread(self.process.call, merges, self._limits.rows))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self.process.kill()
            await asyncio.wait([call])
            call.exception()  # seen: it ends with CompactorFailed, as it was made to
            raise

    async def _put(self, merge: Merge, news: list[NewSegment] | str, number: int) -> None:
        if isinstance(news, str):
            self._note_failure(merge, news)
            return
        for new in news:
            new.meta["deletes"] = number
        try:
            await self._segments.replace([segment.id for segment in merge.segments], news)
        except Gone:
            # Dropped or quarantined meanwhile; the next plan knows.
            self._merges.labels("gone").inc()
            return
        self._failures.pop(merge.segments[0].id, None)
        self._merges.labels("merged").inc()
        self._sources.inc(len(merge.segments))
        self._rows.inc(merge.rows)
        self._bytes.inc(sum(len(chunk) for new in news for chunk in new.chunks))

    def _note_failure(self, merge: Merge, reason: str) -> None:
        first = merge.segments[0]
        self._failures[first.id] = self._failures.get(first.id, 0) + 1
        self._merges.labels("failed").inc()
        log.error(
            "cannot merge segments",
            measurement=first.measurement,
            shard_start_ns=first.shard_start_ns,
            first=first.id,
            segments=len(merge.segments),
            reason=reason,
        )


def _batches(merges: Sequence[Merge]) -> list[list[Merge]]:
    """*merges* in runs that are small enough for one call; a large one goes alone."""
    batches: list[list[Merge]] = []
    rows = size = 0
    for merge in merges:
        rows += merge.rows
        size += merge.size
        if not batches or rows > BATCH_ROWS or size > BATCH_BYTES or len(batches[-1]) >= BATCH_MERGES:
            batches.append([])
            rows, size = merge.rows, merge.size
        batches[-1].append(merge)
    return batches
