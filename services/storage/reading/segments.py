"""Reading segments, and putting others in their place: what fetch and compaction stand on.

A compaction asks ``by_shard`` what there is, reads whole segments, and puts its result in their place with
``replace``, in one transaction: killed at any moment before, it has changed nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import Gone
from common.log import get_logger
from common.rpc import wire
from services.storage.catalog.interface import Catalog, Transaction
from services.storage.catalog.rows import SegmentRow
from services.storage.catalog.segment_store import ChunkRead, DamagedSegment, segment_id
from services.storage.commits.committer import Committer
from services.storage.commits.draft import Draft
from services.storage.state.blocks import BlockMeta, Segment, chunk_reads, parse_meta, segment_of
from services.storage.state.state import State

log = get_logger("storage.segments")
# Bytes that one read brings into memory, unless a single chunk is larger. Short reads hold no snapshot of the
# database for long, so that the write-ahead log can start over.
READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ShardSegments:
    """The segments of one measurement in one shard, in the order in which they win."""

    measurement: int
    shard_start_ns: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment to be stored: what ``common.segment.encode_block`` gave, of level 1 or higher."""

    meta: dict[str, Any]
    chunks: Sequence[bytes]


class Segments:
    """All segments.

    Args:
        state: read on the event loop only.
    """

    def __init__(self, catalog: Catalog, state: State, committer: Committer) -> None:
        self._catalog = catalog
        self._state = state
        self._committer = committer

    def by_shard(self) -> list[ShardSegments]:
        """All segments that are planned with, by measurement and shard. A snapshot."""
        groups: dict[tuple[int, int], list[Segment]] = {}
        for segment in self._state.segments():
            groups.setdefault((segment.measurement, segment.shard_start_ns), []).append(segment)
        return [
            ShardSegments(*key, tuple(sorted(found, key=lambda segment: (segment.order, segment.id))))
            for key, found in groups.items()
        ]

    async def read_segment(self, segment: int) -> tuple[dict[str, Any], list[bytes]]:
        """Meta and chunks of a segment, checksums checked. Raises Gone."""
        found = self._get(segment)
        chunks = [chunk async for chunk in self.read(chunk_reads(found))]
        return wire.decode_head(found.meta), chunks

    def locate(self, asked: Sequence[tuple[int, Sequence[int]]]) -> list[ChunkRead]:
        """Where the chunks of some segments are. Raises Gone when one can't be read any more, Invalid when it has no
        such chunk."""
        return [read for segment, chunks in asked for read in chunk_reads(self._get(segment), chunks)]

    async def read(self, reads: Sequence[ChunkRead]) -> AsyncIterator[bytes]:
        """The chunks, in order, a few MB in memory at a time. Raises Gone; a damaged segment is put into quarantine
        then, so that the next plan does without it."""
        for some in slices(reads):
            try:
                chunks = await self._catalog.segments.read(some)
            except DamagedSegment as error:
                await self.quarantine(error.segment, error.reason)
                raise Gone(f"segment {error.segment} is damaged") from error
            for chunk in chunks:
                yield chunk

    async def replace(self, olds: Sequence[int], news: Sequence[NewSegment], order: int | None = None) -> list[int]:
        """Put *news* in the place of *olds*, atomically; *olds* stay readable for a while.

        Args:
            olds: segments of one measurement and shard, with no other one of it between them in order that holds the
                same rows.
            news: their merged rows; may be none, when nothing is left of them. ``meta["deletes"]`` is the number up
                to which deletes are worked in; without it, all before now are.
            order: order of the new ones; None = the greatest of *olds*.

        Returns:
            Ids of the new segments.
        Raises:
            Gone: one of *olds* has been replaced, dropped or quarantined meanwhile; nothing was changed.
        """
        parsed = [(parse_meta(new.meta), new.chunks) for new in news]
        ids: list[int] = await self._committer.submit(_Replace(olds, parsed, order, _now_ms()))
        return ids

    async def quarantine(self, segment: int, reason: str) -> None:
        """Plan with a damaged segment no longer, keep its bytes, and say so."""
        found = self._state.find_segment(segment)
        measurement = None if found is None else self._state.by_id.get(found.measurement)
        log.error(
            "a damaged segment goes into quarantine",
            segment=segment,
            bucket=measurement and measurement.bucket_id,
            measurement=measurement and measurement.name,
            shard_start_ns=found and found.shard_start_ns,
            reason=reason,
        )
        await self._committer.submit(_Quarantine(segment, reason, _now_ms()))

    def _get(self, segment: int) -> Segment:
        found = self._state.find_segment(segment)
        if found is None:
            raise Gone(f"segment {segment} has been replaced")
        return found


def slices(reads: Sequence[ChunkRead]) -> Iterator[list[ChunkRead]]:
    """*reads* in runs of at most ``READ_BYTES``."""
    some: list[ChunkRead] = []
    size = 0
    for read in reads:
        if some and size + read.size > READ_BYTES:
            yield some
            some, size = [], 0
        some.append(read)
        size += read.size
    if some:
        yield some


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Replace:
    """The job of ``Segments.replace``."""

    def __init__(
        self, olds: Sequence[int], news: Sequence[tuple[BlockMeta, Sequence[bytes]]], order: int | None, at_ms: int
    ) -> None:
        self._olds = olds
        self._news = news
        self._order = order
        self._at_ms = at_ms
        self.size = sum(block.size for block, _ in news)

    def run(self, transaction: Transaction, draft: Draft) -> list[int]:
        olds = [draft.find_segment(old) for old in self._olds]
        found = [old for old in olds if old is not None]
        if len(found) < len(olds) or not found:
            raise Gone("a segment has been replaced")
        places = {(old.measurement, old.shard_start_ns) for old in found}
        if len(places) != 1 or any(block.shard_start_ns != found[0].shard_start_ns for block, _ in self._news):
            raise ValueError("segments of several measurements or shards can't be replaced together")
        transaction.require_space(self.size)
        order = max(old.order for old in found) if self._order is None else self._order
        number = draft.number = transaction.next_number()
        ids = []
        transaction.mark_replaced(self._olds, self._at_ms)
        draft.retire(self._olds, self._at_ms)
        for index, (block, chunks) in enumerate(self._news):
            segment = segment_of(block, segment_id(number, index), order, found[0].measurement, 0)
            transaction.add_segment(
                SegmentRow(segment.id, segment.measurement, segment.level, order, segment.size, segment.meta), chunks
            )
            draft.add_segment(segment)
            ids.append(segment.id)
        return ids


class _Quarantine:
    """The job of ``Segments.quarantine``."""

    size = 0

    def __init__(self, segment: int, reason: str, at_ms: int) -> None:
        self._segment = segment
        self._reason = reason
        self._at_ms = at_ms

    def run(self, transaction: Transaction, draft: Draft) -> None:
        draft.number = transaction.next_number()
        transaction.quarantine(self._segment, self._at_ms, self._reason)
        draft.quarantine(self._segment, self._reason)
