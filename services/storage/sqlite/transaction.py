"""Everything that writes, as SQL. Runs in the writing connection's thread, between BEGIN and COMMIT."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack

from common.errors import Unavailable
from common.tombstones import Tombstone
from services.storage.catalog import BlockRow, SegmentRow, StoredRecord, from_key, to_key
from services.storage.segment_store import segment_id
from services.storage.sqlite import reads
from services.storage.sqlite.checksums import row_checksum


class SqliteTransaction:
    """``catalog.Transaction`` on one connection that is within a transaction."""

    engine_error: type[Exception] = sqlite3.Error

    def __init__(self, connection: sqlite3.Connection, count_free: Callable[[], int]) -> None:
        self._connection = connection
        self._count_free = count_free
        self._free_bytes: int | None = None
        self._execute = connection.execute
        self._number: int | None = None
        self._at_start = connection.total_changes

    # ---- space and numbers

    def require_space(self, size: int) -> None:
        if self._free_bytes is None:
            self._free_bytes = self._count_free()
        # It stands in the log before it stands in the file.
        if self._free_bytes < 2 * size:
            raise Unavailable("cannot store: the disk is full", retry_after_s=5)
        self._free_bytes -= 2 * size

    def next_number(self) -> int:
        if self._number is None:
            (self._number,) = self._execute("SELECT number FROM sequence").fetchone()
        self._number += 1
        return self._number

    def finish(self) -> bool:
        """Write what is kept back until the end; returns whether there is anything to commit."""
        if self._number is not None:
            self._execute("UPDATE sequence SET number = ?", (self._number,))
        return self.changes > 0

    @property
    def changes(self) -> int:
        """Rows changed so far."""
        return self._connection.total_changes - self._at_start

    # ---- results of writes

    def find_results(self, ids: Sequence[bytes]) -> dict[bytes, bytes | None]:
        return reads.find_results(self._connection, ids)

    def add_results(self, results: Iterable[tuple[bytes, bytes | None]]) -> None:
        self._connection.executemany("INSERT INTO results VALUES (?, ?)", results)

    def forget_results(self, before: bytes, limit: int) -> int:
        ids = self._execute("SELECT id FROM results WHERE id < ? ORDER BY id LIMIT ?", (before, limit)).fetchall()
        if ids:
            self._execute("DELETE FROM results WHERE id <= ?", ids[-1])
        return len(ids)

    # ---- measurements

    def add_measurement(self, bucket_id: str, name: str) -> int:
        key = (to_key(bucket_id), to_key(name))
        cursor = self._execute("INSERT INTO measurements (bucket, name) VALUES (?, ?)", key)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def drop_measurements(self, measurements: Sequence[int]) -> None:
        self._connection.executemany("UPDATE measurements SET dropped = 1 WHERE id = ?", [(m,) for m in measurements])

    def delete_dropped(self, measurement: int, limit: int) -> bool:
        rows = self._execute("SELECT rowid FROM dictionary WHERE measurement = ? LIMIT ?", (measurement, limit))
        rowids = rows.fetchall()
        self._connection.executemany("DELETE FROM dictionary WHERE rowid = ?", rowids)
        if len(rowids) == limit:
            return False
        self._execute("DELETE FROM fields WHERE measurement = ?", (measurement,))
        self._execute("DELETE FROM tombstones WHERE measurement = ?", (measurement,))
        self._execute("DELETE FROM measurements WHERE id = ? AND dropped = 1", (measurement,))
        return True

    def add_fields(self, fields: Iterable[tuple[int, int, str, int]]) -> None:
        rows = [(measurement, start, to_key(field), type) for measurement, start, field, type in fields]
        self._connection.executemany("INSERT INTO fields VALUES (?, ?, ?, ?)", rows)

    def delete_fields(self, measurement: int, shard_start_ns: int) -> None:
        self._execute("DELETE FROM fields WHERE measurement = ? AND shard_start = ?", (measurement, shard_start_ns))

    def add_series(self, measurement: int, first: int, count: int, ids: bytes, piece: bytes) -> None:
        row = (measurement, first, count, row_checksum(ids, measurement, first, count), ids, piece)
        self._execute("INSERT INTO dictionary VALUES (?, ?, ?, ?, ?, ?)", row)

    def read_dictionary(self, measurement: int, first: int, last: int) -> list[tuple[int, int, bytes]]:
        return reads.read_dictionary(self._connection, measurement, first, last)

    # ---- tombstones

    def add_tombstone(self, measurement: int, stone: Tombstone) -> None:
        numbers = (measurement, stone.number, stone.start_ns, stone.stop_ns)
        row = (*numbers, row_checksum(stone.series, *numbers), stone.series)
        self._execute("INSERT INTO tombstones VALUES (?, ?, ?, ?, ?, ?)", row)

    def delete_tombstones(self, measurement: int, numbers: Iterable[int]) -> None:
        rows = [(measurement, number) for number in numbers]
        self._connection.executemany("DELETE FROM tombstones WHERE measurement = ? AND number = ?", rows)

    # ---- commits and segments

    def add_commit(self, number: int, blocks: Sequence[BlockRow], data: bytes) -> None:
        directory: bytes = msgpack.packb(blocks)
        row = (number, len(data), row_checksum(directory, number), directory, data)
        self._execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", row)

    def add_segment(self, row: SegmentRow, chunks: Sequence[bytes]) -> None:
        id, measurement, level, order, size, meta = row
        assert meta is not None
        self._execute(
            "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)",
            (id, measurement, level, order, size, row_checksum(meta, id, measurement, level, order), meta),
        )
        rows = [(id, index, chunk) for index, chunk in enumerate(chunks)]
        self._connection.executemany("INSERT INTO chunks VALUES (?, ?, ?)", rows)

    def mark_replaced(self, segments: Iterable[int], at_ms: int) -> None:
        self._connection.executemany("INSERT OR IGNORE INTO replaced VALUES (?, ?)", [(s, at_ms) for s in segments])

    def quarantine(self, segment: int, at_ms: int, reason: str) -> None:
        self._execute("INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?)", (segment, at_ms, reason))

    def delete_commits(self, numbers: Sequence[int]) -> None:
        self._connection.executemany("DELETE FROM commits WHERE number = ?", [(n,) for n in numbers])
        # All of a commit's segments are neighbours.
        ranges = [(segment_id(n, 0), segment_id(n + 1, 0)) for n in numbers]
        self._connection.executemany("DELETE FROM replaced WHERE segment >= ? AND segment < ?", ranges)
        self._connection.executemany("DELETE FROM quarantine WHERE segment >= ? AND segment < ?", ranges)

    def delete_segments(self, segments: Sequence[int]) -> None:
        ids = [(s,) for s in segments]
        for statement in (
            "DELETE FROM chunks WHERE segment = ?",
            "DELETE FROM segments WHERE id = ?",
            "DELETE FROM replaced WHERE segment = ?",
            "DELETE FROM quarantine WHERE segment = ?",
        ):
            self._connection.executemany(statement, ids)

    # ---- records

    def find_record(self, kind: str, id: str) -> StoredRecord | None:
        return reads.find_record(self._connection, kind, id)

    def find_by_unique(self, key: str) -> tuple[str, str] | None:
        row = self._execute("SELECT kind, id FROM record_keys WHERE key = ?", (to_key(key),)).fetchone()
        return None if row is None else (from_key(row[0]), from_key(row[1]))

    def has_kind(self, kind: str) -> bool:
        return self._execute("SELECT 1 FROM records WHERE kind = ? LIMIT 1", (to_key(kind),)).fetchone() is not None

    def put_record(self, record: StoredRecord, unique: Sequence[str], indexes: Sequence[tuple[str, Any]]) -> None:
        kind, id = to_key(record.kind), to_key(record.id)
        self._forget_keys(kind, id)
        self._execute("REPLACE INTO records VALUES (?, ?, ?, ?)", (kind, id, record.version, record.body))
        self._connection.executemany(
            "INSERT INTO record_keys VALUES (?, ?, ?)", [(to_key(u), kind, id) for u in unique]
        )
        rows = [(kind, to_key(field), reads.index_value(value), id) for field, value in indexes]
        self._connection.executemany("INSERT OR IGNORE INTO record_indexes VALUES (?, ?, ?, ?)", rows)

    def delete_record(self, kind: str, id: str) -> None:
        key = (to_key(kind), to_key(id))
        self._forget_keys(*key)
        self._execute("DELETE FROM records WHERE kind = ? AND id = ?", key)

    def forget_keys(self, kind: str, id: str) -> None:
        self._forget_keys(to_key(kind), to_key(id))

    def _forget_keys(self, kind: bytes, id: bytes) -> None:
        self._execute("DELETE FROM record_keys WHERE kind = ? AND id = ?", (kind, id))
        self._execute("DELETE FROM record_indexes WHERE kind = ? AND id = ?", (kind, id))
