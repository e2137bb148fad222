"""Everything that reads, as SQL: functions of a connection, for readers and within transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from common.errors import Invalid
from common.log import get_logger
from common.segment import decode_dictionary_arrays
from common.tombstones import Tombstone
from services.storage.catalog import (
    BlockRow,
    CommitRow,
    Loaded,
    MeasurementRow,
    SegmentRow,
    StoredRecord,
    from_key,
    to_key,
)
from services.storage.sqlite.checksums import row_checksum

log = get_logger("storage.sqlite")
IDS_PER_STATEMENT = 500
MAX_LIST = 10_000


def find_results(connection: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """The remembered ones of *ids* with their packed results."""
    found: dict[bytes, bytes | None] = {}
    if len(ids) == 1:  # the usual commit; a statement that stays prepared
        found.update(connection.execute("SELECT id, result FROM results WHERE id = ?", ids).fetchall())
        return found
    for start in range(0, len(ids), IDS_PER_STATEMENT):
        some = ids[start : start + IDS_PER_STATEMENT]
        marks = ",".join("?" * len(some))
        found.update(connection.execute(f"SELECT id, result FROM results WHERE id IN ({marks})", some).fetchall())  # noqa: S608
    return found


def read_dictionary(
    connection: sqlite3.Connection, measurement: int, first: int, last: int
) -> list[tuple[int, int, bytes]]:
    """(first, count, piece) of the pieces with series *first* … *last* (sequence numbers), in order."""
    return connection.execute(
        "SELECT first, count, piece FROM dictionary WHERE measurement = ?1 AND first <= ?3 AND first >= "
        "(SELECT coalesce(max(first), 0) FROM dictionary WHERE measurement = ?1 AND first <= ?2) ORDER BY first",
        (measurement, first, last),
    ).fetchall()


# ---------------------------------------------------------------- records


def index_value(value: Any) -> bytes:
    """The value of an index as it is stored; equal values give equal bytes."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


def find_record(connection: sqlite3.Connection, kind: str, id: str) -> StoredRecord | None:
    row = connection.execute(
        "SELECT version, body FROM records WHERE kind = ? AND id = ?", (to_key(kind), to_key(id))
    ).fetchone()
    return None if row is None else StoredRecord(kind, id, row[0], row[1])


def read_records(
    connection: sqlite3.Connection, asked: Sequence[Sequence[Any]]
) -> tuple[int, list[list[StoredRecord]]]:
    """Answers to *asked*, all as of the number returned."""
    connection.execute("BEGIN")
    try:
        (number,) = connection.execute("SELECT number FROM sequence").fetchone()
        return number, [READS[read[0]](connection, *read[1:]) for read in asked]
    finally:
        connection.execute("COMMIT")


def _by_id(connection: sqlite3.Connection, kind: str, id: str) -> list[StoredRecord]:
    record = find_record(connection, kind, id)
    return [] if record is None else [record]


def _by_unique(connection: sqlite3.Connection, key: str) -> list[StoredRecord]:
    row = connection.execute(
        "SELECT kind, id, version, body FROM record_keys JOIN records USING (kind, id) WHERE key = ?", (to_key(key),)
    ).fetchone()
    return [] if row is None else [StoredRecord(from_key(row[0]), from_key(row[1]), row[2], row[3])]


def _listed(
    connection: sqlite3.Connection, kind: str, field: str | None, value: Any, after_id: str | None, limit: int
) -> list[StoredRecord]:
    after = b"" if after_id is None else to_key(after_id)
    limit = min(limit, MAX_LIST)
    if field is None:
        rows = connection.execute(
            "SELECT id, version, body FROM records WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
            (to_key(kind), after, limit),
        )
    else:
        rows = connection.execute(
            "SELECT r.id, r.version, r.body FROM record_indexes AS i JOIN records AS r USING (kind, id) "
            "WHERE i.kind = ? AND i.field = ? AND i.value = ? AND i.id > ? ORDER BY i.id LIMIT ?",
            (to_key(kind), to_key(field), index_value(value), after, limit),
        )
    return [StoredRecord(kind, from_key(id), version, body) for id, version, body in rows]


READS: dict[str, Callable[..., list[StoredRecord]]] = {"id": _by_id, "unique": _by_unique, "list": _listed}


def check_read(read: Any) -> None:
    """Raises Invalid unless *read* has one of the forms of docs/rpc.md."""
    match read:
        case ["id", str(), str()] | ["unique", str()]:
            return
        case ["list", str(), None | str(), value, None | str(), int(limit)] if limit >= 0:
            if value is None or isinstance(value, str | int | bytes):
                return
    raise Invalid("cannot read records: a read has no known form")


# ---------------------------------------------------------------- start


def load(connection: sqlite3.Connection) -> Loaded:
    """All metadata, as of one number."""
    connection.execute("BEGIN")
    try:
        return _load(connection.execute)
    finally:
        connection.execute("COMMIT")


def _load(execute: Callable[..., sqlite3.Cursor]) -> Loaded:
    measurements = execute("SELECT id, bucket, name FROM measurements WHERE dropped = 0")
    buckets = execute("SELECT id, version, body FROM records WHERE kind = ?", (b"bucket",))
    return Loaded(
        number=execute("SELECT number FROM sequence").fetchone()[0],
        hash_key=execute("SELECT value FROM facts WHERE name = 'hash_key'").fetchone()[0],
        buckets=[StoredRecord("bucket", from_key(id), version, body) for id, version, body in buckets],
        measurements=[MeasurementRow(id, from_key(bucket), from_key(name)) for id, bucket, name in measurements],
        fields=[(id, start, from_key(field), type) for id, start, field, type in execute("SELECT * FROM fields")],
        series_ids=_load_series_ids(execute),
        commits=_load_commits(execute),
        segments=_load_segments(execute),
        replaced=dict(execute("SELECT segment, at_ms FROM replaced")),
        quarantined=dict(execute("SELECT segment, reason FROM quarantine")),
        tombstones=_load_tombstones(execute),
        dropped=[id for (id,) in execute("SELECT id FROM measurements WHERE dropped = 1")],
    )


def _load_series_ids(execute: Callable[..., sqlite3.Cursor]) -> list[tuple[int, int, int, bytes]]:
    found: list[tuple[int, int, int, bytes]] = []
    rows = execute("SELECT measurement, first, count, checksum, ids, rowid FROM dictionary ORDER BY measurement, first")
    for measurement, first, count, checksum, ids, rowid in rows.fetchall():
        if row_checksum(ids, measurement, first, count) != checksum:
            # The piece has them too, and a checksum of its own.
            (piece,) = execute("SELECT piece FROM dictionary WHERE rowid = ?", (rowid,)).fetchone()
            ids = decode_dictionary_arrays(piece)[0].astype("<u8").tobytes()
        found.append((measurement, first, count, ids))
    return found


def _load_tombstones(execute: Callable[..., sqlite3.Cursor]) -> list[tuple[int, Tombstone]]:
    found = []
    rows = execute("SELECT measurement, number, start, stop, series, checksum FROM tombstones ORDER BY number")
    for measurement, number, start_ns, stop_ns, series, checksum in rows:
        if row_checksum(series, measurement, number, start_ns, stop_ns) == checksum:
            found.append((measurement, Tombstone(number, start_ns, stop_ns, series)))
        else:
            log.error("a delete is damaged: what it hid is back", measurement=measurement, number=number)
    return found


def _load_commits(execute: Callable[..., sqlite3.Cursor]) -> list[CommitRow]:
    rows = execute("SELECT number, size, checksum, directory FROM commits ORDER BY number")
    return [
        CommitRow(number, size, _decode_directory(directory) if is_whole else None)
        for number, size, checksum, directory in rows
        for is_whole in (row_checksum(directory, number) == checksum,)
    ]


def _decode_directory(directory: bytes) -> list[BlockRow]:
    return [BlockRow(*entry) for entry in msgpack.unpackb(directory)]


def _load_segments(execute: Callable[..., sqlite3.Cursor]) -> list[SegmentRow]:
    rows = execute("SELECT id, measurement, level, place, size, checksum, meta FROM segments ORDER BY id")
    return [
        SegmentRow(id, measurement, level, order, size, meta if is_whole else None)
        for id, measurement, level, order, size, checksum, meta in rows
        for is_whole in (row_checksum(meta, id, measurement, level, order) == checksum,)
    ]
