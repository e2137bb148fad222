"""What a start reads, as SQL: all metadata, each row against its checksum, each table against its tally.

What is damaged is left out and named; ``recovery/mending.py`` makes anew what can be made from the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgpack

from common.codecs.reader import DamagedChunk
from common.log import get_logger
from common.model import FieldType
from common.segment import decode_dictionary_arrays
from common.tombstones import Tombstone
from services.storage.catalog.rows import (
    BlockRow,
    CommitRow,
    Damage,
    Loaded,
    MeasurementRow,
    SegmentRow,
    SeriesPiece,
    StoredRecord,
    from_key,
)
from services.storage.sqlite.checksums import Tally, cells_checksum, decode_tallies, row_checksum, tally_of

log = get_logger("storage.sqlite")
# Columns of the tables whose checksum is over all their cells.
COLUMNS: dict[str, str] = {
    "records": "kind, id, version, body",
    "record_keys": "key, kind, id",
    "record_indexes": "kind, field, value, id",
    "measurements": "id, bucket, name, dropped",
    "generations": "measurement, epoch",
    "fields": "measurement, shard_start, field, type",
    "replaced": "segment, at_ms",
    "quarantine": "segment, at_ms, reason",
}
# Those of them that name a row.
_NAMING = dict.fromkeys(COLUMNS, slice(2)) | {
    "record_keys": slice(1, 3), "generations": slice(1), "replaced": slice(1), "quarantine": slice(1)
}  # fmt: skip
TALLIED = (*COLUMNS, "dictionary", "commits", "segments", "tombstones")
# Types of the fields of a row that is whole.
_TYPES = frozenset(map(int, FieldType))


def load(connection: sqlite3.Connection) -> Loaded:
    """All metadata, as of one number."""
    text_factory = connection.text_factory
    # A damaged text need not be UTF-8.
    connection.text_factory = bytes
    connection.execute("BEGIN")
    try:
        return _Load(connection.execute).run()
    finally:
        connection.execute("COMMIT")
        connection.text_factory = text_factory


def count_tallies(connection: sqlite3.Connection) -> dict[str, Tally]:
    """The tallies as the tables are."""
    return {table: count_tally(connection, table) for table in TALLIED}


def count_tally(connection: sqlite3.Connection, table: str) -> Tally:
    """The tally of one table as it is."""
    return tally_of(checksum for (checksum,) in connection.execute(f"SELECT checksum FROM {table}"))  # noqa: S608


class _Load:
    """One reading; ``damage`` grows as it goes on."""

    def __init__(self, execute: Callable[..., sqlite3.Cursor]) -> None:
        self._execute = execute
        self._damage: list[Damage] = []
        self._tallies: dict[str, Tally] = {}

    def run(self) -> Loaded:
        number, packed = self._execute("SELECT number, tallies FROM sequence").fetchone()
        self._tallies = decode_tallies(packed)
        records = self._records()
        measurements = list(self._rows("measurements"))
        for table in ("record_keys", "record_indexes"):
            for _ in self._rows(table):
                pass
        return Loaded(
            number=number,
            hash_key=self._execute("SELECT value FROM facts WHERE name = 'hash_key'").fetchone()[0],
            buckets=[record for record in records if record.kind == "bucket"],
            measurements=[
                MeasurementRow(id, from_key(bucket), from_key(name))
                for id, bucket, name, dropped in measurements
                if not dropped
            ],
            fields=[
                (id, start, from_key(field), type) for id, start, field, type in self._rows("fields") if type in _TYPES
            ],
            epochs=dict(map(tuple, self._rows("generations"))),
            series_ids=self._series_ids(),
            commits=self._commits(),
            segments=self._segments(),
            replaced=dict(map(tuple, self._rows("replaced"))),
            quarantined={segment: reason.decode(errors="replace") for segment, _, reason in self._rows("quarantine")},
            tombstones=self._tombstones(),
            dropped=[id for id, _, _, dropped in measurements if dropped],
            damage=self._damage,
        )

    def _rows(self, table: str) -> Iterator[Sequence[Any]]:
        """The whole rows of a table, without their checksums."""
        rows = self._execute(f"SELECT {COLUMNS[table]}, checksum FROM {table}").fetchall()  # noqa: S608
        is_damaged = False
        for *cells, checksum in rows:
            if _checksum_or_none(cells) == checksum:
                yield cells
            else:
                is_damaged = True
                self._tell(table, f"{_name(table, cells)} does not have its checksum")
        if not is_damaged:
            self._check_tally(table, (row[-1] for row in rows))

    def _check_tally(self, table: str, checksums: Iterable[Any]) -> None:
        """Say so when rows of a table are missing."""
        kept = self._tallies.get(table, (0, 0))
        found = tally_of(checksum for checksum in checksums if isinstance(checksum, int))
        if found != kept:
            self._tell(table, f"{kept[0]} rows were written, {found[0]} are found, or others than those")

    def _tell(self, table: str, reason: str) -> None:
        self._damage.append(Damage(table, reason))

    def _records(self) -> list[StoredRecord]:
        return [
            StoredRecord(from_key(kind), from_key(id), version, body)
            for kind, id, version, body in self._rows("records")
        ]

    def _series_ids(self) -> list[SeriesPiece]:
        found: list[SeriesPiece] = []
        rows = self._execute(
            "SELECT measurement, first, count, checksum, ids, rowid FROM dictionary ORDER BY measurement, first"
        ).fetchall()
        for generation, first, count, checksum, ids, rowid in rows:
            is_whole = row_checksum_or_none(ids, generation, first, count) == checksum
            if not is_whole:
                self._tell("dictionary", f"series {first} and on of dictionary {generation}: a wrong checksum")
                # The piece has them too, and a checksum of its own.
                (piece,) = self._execute("SELECT piece FROM dictionary WHERE rowid = ?", (rowid,)).fetchone()
                ids = _ids_of(piece)
            if all(isinstance(number, int) for number in (generation, first, count)):
                found.append(SeriesPiece(generation, first, count, ids, is_whole))
        self._check_tally("dictionary", (row[3] for row in rows))
        return found

    def _tombstones(self) -> list[tuple[int, Tombstone]]:
        found = []
        rows = self._execute(
            "SELECT measurement, number, start, stop, series, checksum FROM tombstones ORDER BY number"
        ).fetchall()
        for measurement, number, start_ns, stop_ns, series, checksum in rows:
            if row_checksum_or_none(series, measurement, number, start_ns, stop_ns) == checksum:
                found.append((measurement, Tombstone(number, start_ns, stop_ns, series)))
            else:
                self._tell("tombstones", f"delete {number} of measurement {measurement}: what it hid is back")
        self._check_tally("tombstones", (row[-1] for row in rows))
        return found

    def _commits(self) -> list[CommitRow]:
        rows = self._execute("SELECT number, size, checksum, directory FROM commits ORDER BY number").fetchall()
        self._check_tally("commits", (row[2] for row in rows))
        return [
            CommitRow(number, size, _decode_directory(directory) if is_whole else None)
            for number, size, checksum, directory in rows
            for is_whole in (row_checksum_or_none(directory, number) == checksum,)
        ]

    def _segments(self) -> list[SegmentRow]:
        rows = self._execute(
            "SELECT id, measurement, level, place, size, checksum, meta FROM segments ORDER BY id"
        ).fetchall()
        self._check_tally("segments", (row[5] for row in rows))
        return [
            SegmentRow(id, measurement, level, order, size, meta if is_whole else None)
            for id, measurement, level, order, size, checksum, meta in rows
            for is_whole in (row_checksum_or_none(meta, id, measurement, level, order) == checksum,)
        ]


def _ids_of(piece: Any) -> bytes:
    """The ids that stand in a piece of the dictionary; none when it is damaged."""
    try:
        return decode_dictionary_arrays(piece)[0].astype("<u8").tobytes()
    except (DamagedChunk, TypeError):
        return b""


def _decode_directory(directory: bytes) -> list[BlockRow]:
    return [BlockRow(*entry) for entry in msgpack.unpackb(directory)]


def _checksum_or_none(cells: Sequence[Any]) -> int | None:
    """The checksum of cells that damage may have given any type."""
    try:
        return cells_checksum(*cells)
    except (TypeError, ValueError, OverflowError):
        return None


def row_checksum_or_none(blob: Any, *numbers: Any) -> int | None:
    """``row_checksum`` of cells that damage may have given any type."""
    if isinstance(blob, bytes) and all(isinstance(number, int) for number in numbers):
        return row_checksum(blob, *numbers)
    return None


def _name(table: str, cells: Sequence[Any]) -> str:
    """Cells that tell which row it is, for a log; bodies, keys and values are not told."""
    shown = [from_key(cell) if isinstance(cell, bytes) else str(cell) for cell in cells[_NAMING[table]]]
    return " ".join(text[:64] for text in shown)
