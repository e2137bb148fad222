"""Interface of the segment store: immutable column chunks, read by place.

Chunks are written within a ``catalog.Transaction`` (with SQLite both are one file); reading needs no transaction,
because a segment never changes. Source: design, decisions 3 and 14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# Ids of segments: number of the commit, then the place within it.
PLACE_BITS = 20
MAX_BLOCKS_PER_COMMIT = 1 << PLACE_BITS


def segment_id(number: int, place: int) -> int:
    """Id of the segment at *place* in the commit *number*; ids grow with commit numbers."""
    return number << PLACE_BITS | place


def commit_of(segment: int) -> int:
    """Number of the commit (or of the replacement) that made *segment*."""
    return segment >> PLACE_BITS


@dataclass(frozen=True, slots=True)
class ChunkRead:
    """Which bytes: chunk *chunk* of *segment*. In level 0 it is *size* bytes at *offset* of the commit's data.

    ``checksum`` is the CRC-32 that its meta tells.
    """

    segment: int
    level: int
    chunk: int
    offset: int
    size: int
    checksum: int


class SegmentStore(Protocol):
    """Reads chunks."""

    async def read(self, reads: Sequence[ChunkRead]) -> list[bytes]:
        """The chunks, in the order of *reads*, which are few enough for one short read.

        Raises:
            Gone: the segment has been deleted.
            DamagedSegment: the bytes are not those that were written; ``segment`` says of which.
        """


class DamagedSegment(Exception):
    """A segment's bytes can't be read."""

    def __init__(self, segment: int, reason: str) -> None:
        super().__init__(f"segment {segment} is damaged: {reason}")
        self.segment = segment
        self.reason = reason
