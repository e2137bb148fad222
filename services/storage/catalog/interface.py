"""Interface of the catalog: records, commits, dictionaries and segment metadata, changed in transactions.

Knows no SQL and no HTTP. ``sqlite/`` implements it; another engine may. What passes is in ``rows.py``. Source: design,
decisions 4, 5, 13 and 14.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from common.tombstones import Tombstone
from services.storage.catalog.rows import BlockRow, Loaded, MeasurementRow, SegmentRow, StoredRecord
from services.storage.catalog.segment_store import ChunkRead, SegmentStore

T = TypeVar("T")


class UnusableCatalog(Exception):
    """The data can't be used; ``str(error)`` says why."""


class Transaction(Protocol):
    """Changes within one transaction. All of them happen, or none; reads see the changes before them."""

    engine_error: type[Exception]
    """What the engine raises; it ends the transaction, whoever's fault it is."""

    @property
    def changes(self) -> int:
        """How many rows have been changed so far."""

    def require_space(self, size: int) -> None:
        """Raises Unavailable unless *size* more bytes can be stored and space is left for deleting."""

    def next_number(self) -> int:
        """The next number of the one sequence."""

    def find_results(self, ids: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Remembered (packed) results of those writes that are known."""

    def add_results(self, results: Iterable[tuple[bytes, bytes | None]]) -> None: ...

    def forget_results(self, before: bytes, limit: int) -> int:
        """Forget up to *limit* results whose id sorts under *before*; returns how many."""

    def add_measurement(self, bucket_id: str, name: str) -> int:
        """Make a measurement; returns its id, which is never used again."""

    def drop_measurements(self, measurements: Sequence[int]) -> None:
        """Mark as dropped; their contents are deleted later, in slices."""

    def delete_dropped(self, measurement: int) -> None:
        """Delete what is left of a dropped measurement that has no segments and no dictionary any more."""

    def set_epoch(self, measurement: int, epoch: int) -> None:
        """Note how often the dictionary of a measurement has been written anew."""

    def add_fields(self, fields: Iterable[tuple[int, int, str, int]]) -> None:
        """(measurement, shard start, field, type)"""

    def mend(self, measurements: Iterable[MeasurementRow], fields: Iterable[tuple[int, int, str, int]]) -> None:
        """Put rows in the place of damaged ones, delete damaged rows of field types, and count both tables anew."""

    def delete_fields(self, measurement: int, shard_start_ns: int) -> None: ...

    def add_series(self, generation: int, first: int, count: int, ids: bytes, piece: bytes) -> None: ...

    def delete_series(self, generation: int, first: int, stop: int) -> None:
        """Delete the pieces that begin with series *first* … *stop* − 1."""

    def delete_pieces(self, generation: int, limit: int) -> bool:
        """Delete up to *limit* pieces, the first ones first; returns whether those were all."""

    def read_dictionary(self, generation: int, first: int, last: int) -> list[tuple[int, int, bytes]]:
        """(first, count, piece) of the pieces that hold series of sequence numbers first … last, in order."""

    def add_tombstone(self, measurement: int, stone: Tombstone) -> None: ...

    def delete_tombstones(self, measurement: int, numbers: Iterable[int]) -> None: ...

    def add_commit(self, number: int, blocks: Sequence[BlockRow], data: bytes) -> None: ...

    def add_segment(self, row: SegmentRow, chunks: Sequence[bytes]) -> None: ...

    def mark_replaced(self, segments: Iterable[int], at_ms: int) -> None: ...

    def quarantine(self, segment: int, at_ms: int, reason: str) -> None: ...

    def read_chunks(self, reads: Sequence[ChunkRead]) -> list[bytes]:
        """Chunks, as ``SegmentStore.read`` gives them, those written in this transaction too."""

    def delete_commits(self, numbers: Sequence[int]) -> None:
        """Delete whole commits, and what is noted about their segments."""

    def delete_segments(self, segments: Sequence[int]) -> None:
        """Delete compacted segments with their chunks."""

    def find_record(self, kind: str, id: str) -> StoredRecord | None: ...

    def find_by_unique(self, key: str) -> tuple[str, str] | None:
        """(kind, id) of the record that holds a unique key."""

    def has_kind(self, kind: str) -> bool: ...

    def put_record(self, record: StoredRecord, unique: Sequence[str], indexes: Sequence[tuple[str, Any]]) -> None: ...

    def delete_record(self, kind: str, id: str) -> None: ...

    def forget_keys(self, kind: str, id: str) -> None:
        """Take away the unique keys and index values of a record."""


class Catalog(Protocol):
    """The database. One transaction at a time; reads run beside it and see whole transactions."""

    @property
    def segments(self) -> SegmentStore:
        """Where the chunks are."""

    async def open(self) -> None:
        """Raises UnusableCatalog or OSError; ``close`` then too."""

    async def close(self) -> None: ...

    async def load(self) -> Loaded:
        """All metadata. Raises UnusableCatalog."""

    async def transact(self, change: Callable[[Transaction], T]) -> T:
        """Run *change*, off the event loop, in a transaction, and return when it is on disk.

        Raises:
            Unavailable: the disk is full or read-only; nothing was written.
        """

    async def read_records(self, reads: Sequence[Sequence[Any]]) -> tuple[int, list[list[StoredRecord]]]:
        """Answers to reads (docs/rpc.md, "storage.read_records"), all as of the number returned."""

    async def find_results(self, ids: Sequence[bytes]) -> dict[bytes, bytes | None]: ...

    async def read_dictionary(self, generation: int, first: int, last: int) -> list[tuple[int, int, bytes]]:
        """As ``Transaction.read_dictionary``, outside of a transaction."""

    async def find_in_pieces(self, at_least: int) -> list[int]:
        """Generations of dictionaries that have so many pieces."""

    async def list_pieces(self, generation: int) -> list[tuple[int, int, int]]:
        """(first sequence number, count, bytes) of the pieces of a dictionary, in order."""

    def is_log_long(self, *, idle: bool) -> bool:
        """Whether it is time to write the log back; in an idle moment it is earlier."""

    async def write_log_back(self) -> None:
        """Write the log back into the main file, so that it starts over."""

    async def give_back_space(self) -> bool:
        """Return a slice of the unused space to the file system; returns whether there is more to return."""

    def log_bytes(self) -> int:
        """Size of the write-ahead log file."""
