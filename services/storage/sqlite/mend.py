"""The two rows that rule all others, looked at before anything is read: the sequence and the key of the series hash."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator

from services.storage.catalog.interface import UnusableCatalog
from services.storage.catalog.rows import Damage
from services.storage.catalog.segment_store import commit_of
from services.storage.sqlite.checksums import cells_checksum
from services.storage.sqlite.load import count_tallies
from services.storage.sqlite.transaction import write_sequence

# Of the key of the series hash; either one will do.
KEY_NAMES = ("hash_key", "hash_key_copy")
# A lost number is taken to be this much greater than all that are found.
SKIPPED_NUMBERS = 1 << 20


def mend_facts(connection: sqlite3.Connection) -> Iterator[Damage]:
    """Give a new file its key; write a damaged copy of it anew. Raises UnusableCatalog when both are damaged."""
    rows = connection.execute("SELECT name, value, checksum FROM facts").fetchall()
    whole = {name: value for name, value, checksum in rows if cells_checksum(value) == checksum}
    known = [whole[name] for name in KEY_NAMES if name in whole]
    if not known and connection.execute("SELECT 1 FROM dictionary LIMIT 1").fetchone():
        raise UnusableCatalog("the key of the series hash is damaged, both copies of it")
    key = known[0] if known else secrets.token_bytes(16)
    for name in KEY_NAMES:
        if whole.get(name) != key:
            connection.execute("REPLACE INTO facts VALUES (?, ?, ?)", (name, key, cells_checksum(key)))
            if known:
                yield Damage("facts", f"{name} is damaged; the copy is used")


def mend_sequence(connection: sqlite3.Connection) -> Iterator[Damage]:
    """Write a damaged row of the sequence anew; count the tallies where they never were."""
    row = connection.execute("SELECT number, tallies, checksum FROM sequence").fetchone()
    is_whole = row is not None and cells_checksum(*row[:2]) == row[2]
    if is_whole and row[1]:
        return
    if is_whole:
        write_sequence(connection, row[0], count_tallies(connection))
        return
    number = _greatest_number(connection) + SKIPPED_NUMBERS
    connection.execute("DELETE FROM sequence")
    connection.execute("INSERT INTO sequence (one, number) VALUES (1, ?)", (number,))
    write_sequence(connection, number, count_tallies(connection))
    yield Damage("sequence", f"it is damaged; numbers go on from {number}")


def _greatest_number(connection: sqlite3.Connection) -> int:
    columns = (("commits", "number"), ("records", "version"), ("tombstones", "number"))
    numbers: list[int] = [
        connection.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]  # noqa: S608
        for table, column in columns
    ]
    (segment,) = connection.execute("SELECT coalesce(max(id), 0) FROM segments").fetchone()
    return max(*numbers, commit_of(segment))
