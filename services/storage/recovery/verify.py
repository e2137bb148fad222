"""Reads everything that a stopped data folder holds, and tells what is not as it was written.

Rows of tables against their checksums and tallies (the start does that too), each piece of each series dictionary,
each chunk of each segment: its checksum, then its decoding, and that its series are in the dictionary. One segment is
in memory at a time. Changes nothing but what every start changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.codecs.reader import DamagedChunk
from common.errors import Gone, InfluxError, Invalid
from common.folder_lock import FolderLock
from common.rpc import wire
from common.segment import Block, decode_block
from services.storage.catalog.rows import Loaded
from services.storage.catalog.segment_store import DamagedSegment, segment_id
from services.storage.reading.dictionary import SERIES_PER_READ, lost_in, whole_pieces
from services.storage.reading.segments import slices
from services.storage.recovery.mending import lost_measurements
from services.storage.recovery.startup import build_state
from services.storage.sqlite.catalog import SqliteCatalog
from services.storage.state.blocks import Segment, chunk_reads, parse_meta
from services.storage.state.measurement import Measurement
from services.storage.state.state import State


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is damaged.

    Attributes:
        bucket, measurement: whose; "" where nothing tells.
        start_ns, stop_ns: times of the rows concerned, half open; None = any, or not known.
    """

    reason: str
    bucket: str = ""
    measurement: str = ""
    start_ns: int | None = None
    stop_ns: int | None = None


@dataclass(slots=True)
class Looked:
    """How much has been looked at."""

    measurements: int = 0
    series: int = 0
    segments: int = 0
    chunks: int = 0
    bytes: int = 0
    rows: int = 0


@dataclass(slots=True)
class Verification:
    """One walk over a data folder; ``run`` once."""

    folder: Path
    looked: Looked = field(default_factory=Looked)

    async def run(self) -> AsyncIterator[Finding]:
        """What is damaged, as it is found.

        Raises:
            FolderHeld: something runs on the folder.
            UnusableCatalog, OSError: it can't be read at all.
        """
        lock = FolderLock(self.folder, "storage.lock")
        lock.take()
        catalog = SqliteCatalog(self.folder)
        try:
            await catalog.open()
            loaded = await catalog.load()
            state = await asyncio.to_thread(build_state, loaded, lost_measurements(loaded) if loaded.damage else ())
            for finding in [*_of_tables(state), *_of_quarantine(state, loaded)]:
                yield finding
            for reason in await catalog.check_pages():
                yield Finding(f"the file: {reason}")
            for measurement in state.by_id.values():
                self.looked.measurements += 1
                async for finding in self._measurement(catalog, state, measurement):
                    yield finding
        finally:
            await catalog.close()
            lock.give_back()

    async def _measurement(
        self, catalog: SqliteCatalog, state: State, measurement: Measurement
    ) -> AsyncIterator[Finding]:
        place = (measurement.bucket_id, measurement.name)
        at, count = 0, measurement.series.count
        self.looked.series += count
        while at < count:
            last = min(at + SERIES_PER_READ, count) - 1
            rows = whole_pieces(await catalog.read_dictionary(measurement.generation, at, last), at, last + 1)
            for first, stop in await asyncio.to_thread(lost_in, rows, at):
                yield Finding(f"the tags of series {first} to {stop - 1} are damaged", *place)
            at = rows[-1][0] + rows[-1][1]
        for segment in sorted(measurement.segments.values(), key=lambda each: (each.min_time_ns, each.id)):
            reason = await self._check(catalog, measurement, segment)
            if reason is not None:
                yield Finding(f"segment {segment.id}: {reason}", *place, segment.min_time_ns, segment.max_time_ns + 1)

    async def _check(self, catalog: SqliteCatalog, measurement: Measurement, segment: Segment) -> str | None:
        """Why a segment can't be read; None = it can."""
        try:
            chunks = [chunk for some in slices(chunk_reads(segment)) for chunk in await catalog.segments.read(some)]
            block = await asyncio.to_thread(decode_block, wire.decode_head(segment.meta), chunks)
        except DamagedSegment as error:
            return error.reason
        except Gone:
            return "chunks of it are missing"
        except (DamagedChunk, InfluxError, ValueError, KeyError) as error:
            return str(error)
        self.looked.segments += 1
        self.looked.chunks += len(chunks)
        self.looked.bytes += segment.size
        self.looked.rows += block.rows
        return _unsound(block, measurement, segment)


def _unsound(block: Block, measurement: Measurement, segment: Segment) -> str | None:
    """What a block that can be decoded does not keep of what it promises."""
    unknown = int((measurement.series.find(block.series) < 0).sum())
    if unknown:
        return f"{unknown} of its series are not in the dictionary"
    if int(block.times.min()) != segment.min_time_ns or int(block.times.max()) != segment.max_time_ns:
        return "its times are not those that its meta tells"
    return None


def _of_tables(state: State) -> Iterator[Finding]:
    for damage in state.damage:
        yield Finding(f"table {damage.table}: {damage.reason}")


def _of_quarantine(state: State, loaded: Loaded) -> Iterator[Finding]:
    """Segments that no start plans with any more, with what their metas tell."""
    metas = {row.id: row.meta for row in loaded.segments if row.meta is not None}
    metas |= {
        segment_id(commit.number, index): block.meta
        for commit in loaded.commits
        for index, block in enumerate(commit.blocks or ())
    }
    for id, reason in state.quarantined.items():
        text = f"segment {id} in quarantine: {reason}"
        try:
            meta = parse_meta(wire.decode_head(metas[id]))
        except (KeyError, Invalid):
            yield Finding(text)
        else:
            yield Finding(text, meta.bucket_id, meta.measurement, meta.min_time_ns, meta.max_time_ns + 1)
