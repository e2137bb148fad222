"""What the catalog makes of errors of the disk: go on, refuse, or end the process."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import pytest

from common.errors import Unavailable
from services.storage.catalog.interface import UnusableCatalog
from services.storage.sqlite.catalog import FILE_NAME, SqliteCatalog
from services.storage.sqlite.failures import is_read_only


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


def test_a_file_system_that_became_read_only_refuses_writes(
    catalog: SqliteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_is_read_only", lambda: True)
    with pytest.raises(Unavailable, match="read-only"):
        catalog._transact(failing(sqlite3.SQLITE_IOERR_WRITE), lambda _transaction: None)
    catalog._checkpoint(failing(sqlite3.SQLITE_IOERR_WRITE))
    catalog._checkpoint_all(failing(sqlite3.SQLITE_IOERR_WRITE))


@pytest.mark.parametrize("step", ["_checkpoint", "_checkpoint_all", "_give_back_space"])
def test_after_a_failed_sync_on_a_read_only_file_system_nothing_is_written_by_this_process_any_more(
    catalog: SqliteCatalog, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(catalog, "_is_read_only", lambda: True)
    catalog._checkpoint(failing(sqlite3.SQLITE_IOERR_FSYNC))
    sound = sqlite3.connect(":memory:")
    with pytest.raises(Unavailable, match="read-only"):
        catalog._transact(sound, lambda _transaction: None)
    # Writable again, syncs that succeed say nothing: the log has to be read anew.
    monkeypatch.setattr(catalog, "_is_read_only", lambda: False)
    for work in (lambda: getattr(catalog, step)(sound), lambda: catalog._transact(sound, lambda _transaction: None)):
        with pytest.raises(Ended):
            work()
    sound.close()


def test_a_file_system_is_asked_by_writing_where_its_flag_says_nothing(
    catalog: SqliteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_read_only(catalog.path)

    def refuse(**_arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert is_read_only(catalog.path)


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
