"""The chunks in SQLite: a range of the blob of a level-0 commit, or a row of its own."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from itertools import groupby

from common.errors import Gone
from services.storage.catalog.segment_store import ChunkRead, DamagedSegment, commit_of
from services.storage.sqlite.connection import ReaderPool
from services.storage.sqlite.failures import Failure, failure_of

# Ranges of one blob that are this close are read in one go: a seek in a chain of overflow pages reads them anyway.
JOIN_GAP_BYTES = 64 << 10


class SqliteSegmentStore:
    """``segment_store.SegmentStore`` over the reading connections."""

    def __init__(self, readers: ReaderPool) -> None:
        self._readers = readers

    async def read(self, reads: Sequence[ChunkRead]) -> list[bytes]:
        return await self._readers.run(lambda connection: read_chunks(connection, reads))


def read_chunks(connection: sqlite3.Connection, reads: Sequence[ChunkRead]) -> list[bytes]:
    """The chunks, in the order asked for; neighbours of one commit are read together."""
    chunks: list[bytes] = []
    for commit, group in groupby(reads, lambda read: commit_of(read.segment) if read.level == 0 else None):
        some = list(group)
        try:
            chunks += [_read_row(connection, read) for read in some] if commit is None else _read_blob(connection, some)
        except sqlite3.Error as error:
            if failure_of(error) is not Failure.DAMAGED:
                raise
            raise DamagedSegment(some[0].segment, str(error)) from error
    for read, chunk in zip(reads, chunks, strict=True):
        if zlib.crc32(chunk) != read.checksum:
            raise DamagedSegment(read.segment, f"chunk {read.chunk} does not have its checksum")
    return chunks


def _read_row(connection: sqlite3.Connection, read: ChunkRead) -> bytes:
    row = connection.execute(
        "SELECT bytes FROM chunks WHERE segment = ? AND chunk = ?", (read.segment, read.chunk)
    ).fetchone()
    if row is None:
        raise Gone(f"segment {read.segment} has been replaced")
    chunk: bytes = row[0]
    return chunk


def _read_blob(connection: sqlite3.Connection, reads: Sequence[ChunkRead]) -> list[bytes]:
    try:
        blob = connection.blobopen("commits", "data", commit_of(reads[0].segment), readonly=True)
    except sqlite3.OperationalError as error:
        if failure_of(error) is Failure.DAMAGED:
            raise
        raise Gone(f"segment {reads[0].segment} has been replaced") from None
    chunks: list[bytes] = []
    with blob:
        size = len(blob)
        for run in _runs(reads):
            start, stop = run[0].offset, run[-1].offset + run[-1].size
            if stop > size:
                raise DamagedSegment(run[0].segment, f"the commit has {size} bytes, its directory says {stop}")
            blob.seek(start)
            together = blob.read(stop - start)
            chunks += [together[read.offset - start : read.offset - start + read.size] for read in run]
    return chunks


def _runs(reads: Sequence[ChunkRead]) -> list[list[ChunkRead]]:
    """*reads* of one commit cut into runs of ascending places with small gaps."""
    runs: list[list[ChunkRead]] = []
    end = -1
    for read in reads:
        if runs and 0 <= read.offset - end <= JOIN_GAP_BYTES:
            runs[-1].append(read)
        else:
            runs.append([read])
        end = read.offset + read.size
    return runs
