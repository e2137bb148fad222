"""Everything that writes, as SQL. Runs in the writing connection's thread, between BEGIN and COMMIT."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack

from common.errors import Unavailable
from common.tombstones import Tombstone
from services.storage.catalog.rows import BlockRow, MeasurementRow, SegmentRow, StoredRecord, from_key, to_key
from services.storage.catalog.segment_store import ChunkRead, segment_id
from services.storage.sqlite import reads
from services.storage.sqlite.checksums import (
    EMPTY,
    Cell,
    Tally,
    add_row,
    cells_checksum,
    decode_tallies,
    encode_tallies,
    row_checksum,
    take_row,
)
from services.storage.sqlite.load import count_tally
from services.storage.sqlite.segment_store import read_chunks


class SqliteTransaction:
    """``catalog.Transaction`` on one connection that is within a transaction."""

    engine_error: type[Exception] = sqlite3.Error

    def __init__(self, connection: sqlite3.Connection, count_free: Callable[[], int]) -> None:
        self._connection = connection
        self._count_free = count_free
        self._free_bytes: int | None = None
        self._execute = connection.execute
        self._number: int | None = None
        self._tallies: dict[str, Tally] | None = None
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
        self._sequence()
        assert self._number is not None
        self._number += 1
        return self._number

    def finish(self) -> bool:
        """Write what is kept back until the end; returns whether there is anything to commit."""
        if self._number is not None:
            write_sequence(self._connection, self._number, self._sequence())
        return self.changes > 0

    def _sequence(self) -> dict[str, Tally]:
        """The tallies, read once with the number; what is changed in them is written at the end."""
        if self._tallies is None:
            self._number, packed = self._execute("SELECT number, tallies FROM sequence").fetchone()
            self._tallies = decode_tallies(packed)
        return self._tallies

    def _count(self, table: str, checksum: int) -> None:
        """A row of *table* has been added."""
        tallies = self._sequence()
        tallies[table] = add_row(tallies.get(table, EMPTY), checksum)

    def _insert(self, table: str, *cells: Cell, or_ignore: bool = False) -> None:
        """Add a row to a table whose checksum stands last."""
        checksum = cells_checksum(*cells)
        statement = f"INSERT {'OR IGNORE ' * or_ignore}INTO {table} VALUES (?{', ?' * len(cells)})"  # noqa: S608
        if self._execute(statement, (*cells, checksum)).rowcount:
            self._count(table, checksum)

    def _delete(self, table: str, where: str, *values: Cell) -> None:
        """Delete rows of *table*."""
        rows = self._execute(f"DELETE FROM {table} WHERE {where} RETURNING checksum", values).fetchall()  # noqa: S608
        if rows:
            tallies = self._sequence()
            for (checksum,) in rows:
                tallies[table] = take_row(tallies.get(table, EMPTY), checksum)

    @property
    def changes(self) -> int:
        """Rows changed so far."""
        return self._connection.total_changes - self._at_start

    # ---- results of writes

    def find_results(self, ids: Sequence[bytes]) -> dict[bytes, bytes | None]:
        return reads.find_results(self._connection, ids)

    def add_results(self, results: Iterable[tuple[bytes, bytes | None]]) -> None:
        rows = [(id, result, cells_checksum(id, result)) for id, result in results]
        self._connection.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)

    def forget_results(self, before: bytes, limit: int) -> int:
        ids = self._execute("SELECT id FROM results WHERE id < ? ORDER BY id LIMIT ?", (before, limit)).fetchall()
        if ids:
            self._execute("DELETE FROM results WHERE id <= ?", ids[-1])
        return len(ids)

    # ---- measurements

    def add_measurement(self, bucket_id: str, name: str) -> int:
        cursor = self._execute(
            "INSERT INTO measurements (bucket, name, checksum) VALUES (?, ?, 0)", (to_key(bucket_id), to_key(name))
        )
        assert cursor.lastrowid is not None
        self._sign_measurement(cursor.lastrowid)
        return cursor.lastrowid

    def drop_measurements(self, measurements: Sequence[int]) -> None:
        for id in measurements:
            (old,) = self._execute("SELECT checksum FROM measurements WHERE id = ?", (id,)).fetchone()
            self._sequence()["measurements"] = take_row(self._sequence()["measurements"], old)
            self._execute("UPDATE measurements SET dropped = 1 WHERE id = ?", (id,))
            self._sign_measurement(id)

    def _sign_measurement(self, id: int) -> None:
        row = self._execute("SELECT id, bucket, name, dropped FROM measurements WHERE id = ?", (id,)).fetchone()
        checksum = cells_checksum(*row)
        self._execute("UPDATE measurements SET checksum = ? WHERE id = ?", (checksum, id))
        self._count("measurements", checksum)

    def delete_dropped(self, measurement: int) -> None:
        for table in ("fields", "tombstones", "generations"):
            self._delete(table, "measurement = ?", measurement)
        self._delete("measurements", "id = ? AND dropped = 1", measurement)

    def set_epoch(self, measurement: int, epoch: int) -> None:
        self._delete("generations", "measurement = ?", measurement)
        self._insert("generations", measurement, epoch)

    def add_fields(self, fields: Iterable[tuple[int, int, str, int]]) -> None:
        for measurement, start, field, type in fields:
            self._insert("fields", measurement, start, to_key(field), int(type))

    def mend(self, measurements: Iterable[MeasurementRow], fields: Iterable[tuple[int, int, str, int]]) -> None:
        for id, bucket_id, name in measurements:
            self._delete("measurements", "id = ?", id)
            self._insert("measurements", id, to_key(bucket_id), to_key(name), 0)
        for *cells, checksum in self._execute("SELECT measurement, shard_start, field, type, checksum FROM fields"):
            if cells_checksum(*cells) != checksum:
                self._delete("fields", "measurement = ? AND shard_start = ? AND field = ?", *cells[:3])
        self.add_fields(fields)
        for table in ("measurements", "fields"):
            self._sequence()[table] = count_tally(self._connection, table)

    def delete_fields(self, measurement: int, shard_start_ns: int) -> None:
        self._delete("fields", "measurement = ? AND shard_start = ?", measurement, shard_start_ns)

    def add_series(self, generation: int, first: int, count: int, ids: bytes, piece: bytes) -> None:
        checksum = row_checksum(ids, generation, first, count)
        self._execute(
            "INSERT INTO dictionary VALUES (?, ?, ?, ?, ?, ?)", (generation, first, count, checksum, ids, piece)
        )
        self._count("dictionary", checksum)

    def delete_series(self, generation: int, first: int, stop: int) -> None:
        self._delete("dictionary", "measurement = ? AND first >= ? AND first < ?", generation, first, stop)

    def delete_pieces(self, generation: int, limit: int) -> bool:
        rowids = self._execute(
            "SELECT rowid FROM dictionary WHERE measurement = ? ORDER BY first LIMIT ?", (generation, limit)
        ).fetchall()
        for (rowid,) in rowids:
            self._delete("dictionary", "rowid = ?", rowid)
        return len(rowids) < limit

    def read_dictionary(self, generation: int, first: int, last: int) -> list[tuple[int, int, bytes]]:
        return reads.read_dictionary(self._connection, generation, first, last)

    # ---- tombstones

    def add_tombstone(self, measurement: int, stone: Tombstone) -> None:
        numbers = (measurement, stone.number, stone.start_ns, stone.stop_ns)
        checksum = row_checksum(stone.series, *numbers)
        self._execute("INSERT INTO tombstones VALUES (?, ?, ?, ?, ?, ?)", (*numbers, checksum, stone.series))
        self._count("tombstones", checksum)

    def delete_tombstones(self, measurement: int, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._delete("tombstones", "measurement = ? AND number = ?", measurement, number)

    # ---- commits and segments

    def add_commit(self, number: int, blocks: Sequence[BlockRow], data: bytes) -> None:
        directory: bytes = msgpack.packb(blocks)
        checksum = row_checksum(directory, number)
        self._execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", (number, len(data), checksum, directory, data))
        self._count("commits", checksum)

    def add_segment(self, row: SegmentRow, chunks: Sequence[bytes]) -> None:
        id, measurement, level, order, size, meta = row
        assert meta is not None
        checksum = row_checksum(meta, id, measurement, level, order)
        self._execute(
            "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)", (id, measurement, level, order, size, checksum, meta)
        )
        self._count("segments", checksum)
        rows = [(id, index, chunk) for index, chunk in enumerate(chunks)]
        self._connection.executemany("INSERT INTO chunks VALUES (?, ?, ?)", rows)

    def mark_replaced(self, segments: Iterable[int], at_ms: int) -> None:
        for segment in segments:
            self._insert("replaced", segment, at_ms, or_ignore=True)

    def quarantine(self, segment: int, at_ms: int, reason: str) -> None:
        checksum = cells_checksum(segment, at_ms, to_key(reason))
        row = (segment, at_ms, reason, checksum)
        if self._execute("INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?)", row).rowcount:
            self._count("quarantine", checksum)

    def read_chunks(self, reads: Sequence[ChunkRead]) -> list[bytes]:
        return read_chunks(self._connection, reads)

    def delete_commits(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._delete("commits", "number = ?", number)
            # All of a commit's segments are neighbours.
            for table in ("replaced", "quarantine"):
                self._delete(table, "segment >= ? AND segment < ?", segment_id(number, 0), segment_id(number + 1, 0))

    def delete_segments(self, segments: Sequence[int]) -> None:
        self._connection.executemany("DELETE FROM chunks WHERE segment = ?", [(segment,) for segment in segments])
        for segment in segments:
            self._delete("segments", "id = ?", segment)
            self._delete("replaced", "segment = ?", segment)
            self._delete("quarantine", "segment = ?", segment)

    # ---- records

    def find_record(self, kind: str, id: str) -> StoredRecord | None:
        return reads.find_record(self._connection, kind, id)

    def find_by_unique(self, key: str) -> tuple[str, str] | None:
        holder = reads.find_by_unique(self._connection, key)
        return None if holder is None else (from_key(holder[0]), from_key(holder[1]))

    def has_kind(self, kind: str) -> bool:
        return self._execute("SELECT 1 FROM records WHERE kind = ? LIMIT 1", (to_key(kind),)).fetchone() is not None

    def put_record(self, record: StoredRecord, unique: Sequence[str], indexes: Sequence[tuple[str, Any]]) -> None:
        kind, id = to_key(record.kind), to_key(record.id)
        self._forget_keys(kind, id)
        self._delete("records", "kind = ? AND id = ?", kind, id)
        self._insert("records", kind, id, record.version, record.body)
        for key in unique:
            self._insert("record_keys", to_key(key), kind, id)
        for field, value in indexes:
            self._insert("record_indexes", kind, to_key(field), reads.index_value(value), id, or_ignore=True)

    def delete_record(self, kind: str, id: str) -> None:
        key = (to_key(kind), to_key(id))
        self._forget_keys(*key)
        self._delete("records", "kind = ? AND id = ?", *key)

    def forget_keys(self, kind: str, id: str) -> None:
        self._forget_keys(to_key(kind), to_key(id))

    def _forget_keys(self, kind: bytes, id: bytes) -> None:
        self._delete("record_keys", "kind = ? AND id = ?", kind, id)
        self._delete("record_indexes", "kind = ? AND id = ?", kind, id)


def write_sequence(connection: sqlite3.Connection, number: int, tallies: dict[str, Tally]) -> None:
    """Write the one row of the sequence."""
    packed = encode_tallies(tallies)
    connection.execute(
        "UPDATE sequence SET number = ?, tallies = ?, checksum = ?", (number, packed, cells_checksum(number, packed))
    )
