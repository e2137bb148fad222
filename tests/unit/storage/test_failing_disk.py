"""What the catalog makes of errors of the disk: go on, refuse, or end the process."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import pytest

from common.errors import Unavailable
from services.storage.catalog import UnusableCatalog
from services.storage.sqlite.catalog import FILE_NAME, SqliteCatalog


class Ended(Exception):
    """In the place of the end of the process."""


def end(reason: str) -> NoReturn:
    raise Ended(reason)


class FailingConnection:
    """A connection whose every statement fails."""

    in_transaction = False

    def __init__(self, code: int) -> None:
        self._code = code

    def execute(self, _sql: str) -> NoReturn:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = self._code
        raise error


@pytest.fixture
def catalog(tmp_path: Path) -> SqliteCatalog:
    (tmp_path / FILE_NAME).touch()
    return SqliteCatalog(tmp_path, on_fatal=end)


def failing(code: int) -> Any:
    return FailingConnection(code)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE])
def test_a_failed_write_or_sync_ends_the_process_also_at_the_end(catalog: SqliteCatalog, code: int) -> None:
    for step in (catalog._checkpoint, catalog._checkpoint_all):
        with pytest.raises(Ended):
            step(failing(code))
    with pytest.raises(Ended):
        catalog._transact(failing(code), lambda _transaction: None)


def test_a_full_disk_at_the_end_leaves_the_log_to_the_next_start(catalog: SqliteCatalog) -> None:
    catalog._checkpoint_all(failing(sqlite3.SQLITE_FULL))


def test_a_file_system_that_became_read_only_refuses_writes_but_a_failed_sync_is_the_end(
    catalog: SqliteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_is_read_only", lambda: True)
    with pytest.raises(Unavailable, match="read-only"):
        catalog._transact(failing(sqlite3.SQLITE_IOERR_WRITE), lambda _transaction: None)
    catalog._checkpoint(failing(sqlite3.SQLITE_IOERR_WRITE))
    catalog._checkpoint_all(failing(sqlite3.SQLITE_IOERR_WRITE))
    with pytest.raises(Ended):
        catalog._transact(failing(sqlite3.SQLITE_IOERR_FSYNC), lambda _transaction: None)


async def test_a_damaged_schema_is_said_at_the_start(tmp_path: Path) -> None:
    catalog = SqliteCatalog(tmp_path, on_fatal=end)
    await catalog.open()
    await catalog.close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.executescript(
        "PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql = replace(sql, 'CREATE', CAST(x'43c5' AS TEXT))"
    )
    connection.close()
    catalog = SqliteCatalog(tmp_path, on_fatal=end)
    try:
        with pytest.raises(UnusableCatalog):
            await catalog.open()
            await catalog.load()
    finally:
        await catalog.close()
        await asyncio.sleep(0.05)  # the thread of a connection that could not be opened tells the loop that it ends
