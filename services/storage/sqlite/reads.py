"""Everything that reads but a start (``load.py``), as SQL: functions of a connection, for readers and transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from common.errors import InternalError, Invalid
from common.log import get_logger
from services.storage.catalog.rows import StoredRecord, from_key, to_key
from services.storage.sqlite.checksums import cells_checksum

log = get_logger("storage.sqlite")
IDS_PER_STATEMENT = 500
MAX_LIST = 10_000


def find_results(connection: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """The remembered ones of *ids* with their packed results; of a damaged one it is known that it was stored."""
    if len(ids) == 1:  # the usual commit; a statement that stays prepared
        rows = connection.execute("SELECT id, result, checksum FROM results WHERE id = ?", ids).fetchall()
    else:
        rows = []
        for start in range(0, len(ids), IDS_PER_STATEMENT):
            some = ids[start : start + IDS_PER_STATEMENT]
            marks = ",".join("?" * len(some))
            rows += connection.execute(
                f"SELECT id, result, checksum FROM results WHERE id IN ({marks})",  # noqa: S608
                some,
            ).fetchall()
    return {id: result if cells_checksum(id, result) == checksum else None for id, result, checksum in rows}


def read_dictionary(
    connection: sqlite3.Connection, generation: int, first: int, last: int
) -> list[tuple[int, int, bytes]]:
    """(first, count, piece) of the pieces with series *first* … *last* (sequence numbers), in order."""
    return connection.execute(
        "SELECT first, count, piece FROM dictionary WHERE measurement = ?1 AND first <= ?3 AND first >= "
        "(SELECT coalesce(max(first), 0) FROM dictionary WHERE measurement = ?1 AND first <= ?2) ORDER BY first",
        (generation, first, last),
    ).fetchall()


def check_pages(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the pages of the file, the first hundred things."""
    try:
        found = [str(text) for (text,) in connection.execute("PRAGMA quick_check(100)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def find_in_pieces(connection: sqlite3.Connection, at_least: int) -> list[int]:
    """Generations with so many pieces; reads the index only."""
    rows = connection.execute(
        "SELECT measurement FROM dictionary GROUP BY measurement HAVING count(*) >= ?", (at_least,)
    )
    return [id for (id,) in rows]


def list_pieces(connection: sqlite3.Connection, generation: int) -> list[tuple[int, int, int]]:
    """(first, count, bytes) of the pieces of a dictionary, in order."""
    return connection.execute(
        "SELECT first, count, length(piece) FROM dictionary WHERE measurement = ? ORDER BY first", (generation,)
    ).fetchall()


# ---------------------------------------------------------------- records


def index_value(value: Any) -> bytes:
    """The value of an index as it is stored; equal values give equal bytes."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


def find_record(connection: sqlite3.Connection, kind: str, id: str) -> StoredRecord | None:
    """Raises InternalError when it is damaged."""
    row = connection.execute(
        "SELECT version, body, checksum FROM records WHERE kind = ? AND id = ?", (to_key(kind), to_key(id))
    ).fetchone()
    return None if row is None else _record(to_key(kind), to_key(id), *row)


def _record(kind: bytes, id: bytes, version: int, body: bytes, checksum: int) -> StoredRecord:
    if cells_checksum(kind, id, version, body) != checksum:
        raise InternalError(f"the record of {from_key(kind)} {from_key(id)} is damaged")
    return StoredRecord(from_key(kind), from_key(id), version, body)


def find_by_unique(connection: sqlite3.Connection, key: str) -> tuple[bytes, bytes] | None:
    """(kind, id) of the record that holds a unique key. Raises InternalError when its row is damaged."""
    row = connection.execute("SELECT kind, id, checksum FROM record_keys WHERE key = ?", (to_key(key),)).fetchone()
    if row is None:
        return None
    kind, id, checksum = row
    if cells_checksum(to_key(key), kind, id) != checksum:
        raise InternalError("a unique key of a record is damaged")
    return kind, id


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
    holder = find_by_unique(connection, key)
    if holder is None:
        return []
    record = find_record(connection, *map(from_key, holder))
    return [] if record is None else [record]


def _listed(
    connection: sqlite3.Connection, kind: str, field: str | None, value: Any, after_id: str | None, limit: int
) -> list[StoredRecord]:
    after = b"" if after_id is None else to_key(after_id)
    limit = min(limit, MAX_LIST)
    if field is None:
        rows = connection.execute(
            "SELECT id, version, body, checksum FROM records WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
            (to_key(kind), after, limit),
        )
    else:
        rows = connection.execute(
            "SELECT r.id, r.version, r.body, r.checksum FROM record_indexes AS i JOIN records AS r USING (kind, id) "
            "WHERE i.kind = ? AND i.field = ? AND i.value = ? AND i.id > ? ORDER BY i.id LIMIT ?",
            (to_key(kind), to_key(field), index_value(value), after, limit),
        )
    return [record for row in rows if (record := _record_or_none(to_key(kind), *row)) is not None]


def _record_or_none(kind: bytes, id: bytes, version: int, body: bytes, checksum: int) -> StoredRecord | None:
    """One of a list: a damaged one does not hide the others."""
    try:
        return _record(kind, id, version, body, checksum)
    except InternalError as error:
        log.error("a record is left out of a list", reason=str(error))
        return None


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
