"""``catalog.Catalog`` on one SQLite file: opening, transactions, checkpoints. The statements are in the modules beside.

A transaction ends in one of three ways: on disk; not written, to be tried again by the client (disk full or
read-only); or the process ends, because after a failed write or sync nobody can tell what is on disk, and a second
try may lie.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from common.errors import InfluxError, InternalError, Unavailable
from common.log import get_logger
from services.storage.catalog.fatal import end_process
from services.storage.catalog.interface import Transaction, UnusableCatalog
from services.storage.catalog.rows import Damage, Loaded, StoredRecord
from services.storage.catalog.segment_store import SegmentStore
from services.storage.sqlite import connection as connections
from services.storage.sqlite import load, reads
from services.storage.sqlite.connection import Connection, ReaderPool
from services.storage.sqlite.failures import Failure, failure_of, is_failed_sync, is_read_only, is_refused_write
from services.storage.sqlite.mend import mend_facts, mend_sequence
from services.storage.sqlite.migrate import migrate
from services.storage.sqlite.segment_store import SqliteSegmentStore
from services.storage.sqlite.transaction import SqliteTransaction

T = TypeVar("T")
# What reading a damaged file comes to: rows have other types than they were written with, texts are no UTF-8.
DAMAGE = (sqlite3.Error, ValueError, TypeError, AttributeError)
log = get_logger("storage.sqlite")
FILE_NAME = "tidegate.db"
# Free pages that stay in the file for what comes next, and bytes that are given back at a time.
KEEP_FREE_BYTES = 64 << 20
SLICE_BYTES = 4 << 20
# A log shorter than this is not worth writing back.
MIN_LOG_BYTES = 1 << 20


class SqliteCatalog:
    """One database file in *folder*.

    Args:
        log_limit_bytes: size of the write-ahead log at which it is written back; at most 1/16 of the file system.
        reserve_bytes: free space that appends leave for deleting; at most 1/16 of the file system.
        on_commit, on_checkpoint: told the seconds that each one took.
        on_fatal: ends the process; given by tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        page_bytes: int = 16384,
        durable: bool = True,
        readers: int = 3,
        log_limit_bytes: int = 32 << 20,
        reserve_bytes: int = 0,
        on_commit: Callable[[float], None] = lambda seconds: None,
        on_checkpoint: Callable[[float], None] = lambda seconds: None,
        on_fatal: Callable[[str], NoReturn] = end_process,
    ) -> None:
        self.path = folder / FILE_NAME
        # As text: these are asked about at each commit.
        self._log_path = str(folder / f"{FILE_NAME}-wal")
        self._page_bytes = page_bytes
        self._synchronous = "FULL" if durable else "NORMAL"
        self._log_limit_bytes = log_limit_bytes
        self._reserve_bytes = reserve_bytes
        self._on_commit = on_commit
        self._on_checkpoint = on_checkpoint
        self._on_fatal = on_fatal
        self._readers = ReaderPool(self.path, readers)
        self._store = SqliteSegmentStore(self._readers)
        self._writer: Connection | None = None
        self._mended: list[Damage] = []
        self._is_unsure = False

    @property
    def segments(self) -> SegmentStore:
        return self._store

    @property
    def writer(self) -> Connection:
        if self._writer is None:
            raise RuntimeError("the catalog is not open")
        return self._writer

    # ---- opening and closing

    async def open(self) -> None:
        try:
            self._writer = await connections.writer(self.path, self._page_bytes, self._synchronous)
            self._page_bytes, self._mended = await self._writer.run(_prepare)
            self._log_limit_bytes = max(MIN_LOG_BYTES, min(self._log_limit_bytes, self._share_of_disk()))
            # When the log starts over its file is cut to less than the limit: from there on its size is its length.
            cut = f"PRAGMA journal_size_limit={self._log_limit_bytes // 2}"
            await self._writer.run(lambda connection: connection.execute(cut).fetchall())
            await self._readers.open()
        except DAMAGE as error:
            raise UnusableCatalog(self._unreadable(error)) from error
        if not connections.is_fixed_version():
            log.warning(
                "this SQLite has the WAL-reset race; storage avoids it by writing and checkpointing on one connection",
                version=sqlite3.sqlite_version,
                fixed_in=".".join(map(str, connections.FIXED_VERSION)),
            )

    def _unreadable(self, error: Exception) -> str:
        """What a start says when SQLite itself gives up: nothing of ours can be looked at then."""
        return (
            f"SQLite can't read {self.path.name} ({error}): its header, its schema or an inner page is damaged, or it "
            "is no database. It was not touched: keep a copy of the folder, and restore one that was taken before"
        )

    async def close(self) -> None:
        """Write the log back and close. Nothing may be under way."""
        await self._readers.close()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                await writer.run(self._checkpoint_all)
            finally:
                await writer.close()

    def _checkpoint_all(self, connection: sqlite3.Connection) -> None:
        try:
            self._check_writable()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except Unavailable as error:
            log.warning("cannot write the log back at the end", reason=str(error))
        except sqlite3.Error as error:
            if self._failure_of(error) is Failure.FATAL:
                # Closing would try again, and delete the log: only a start that reads it can tell.
                self._on_fatal(f"checkpoint at the end: {error}")
            # Nothing is lost: the next start reads the log.
            log.warning("cannot write the log back at the end", reason=str(error))

    async def load(self) -> Loaded:
        try:
            loaded = await self._readers.run(load.load)
        except DAMAGE as error:
            raise UnusableCatalog(self._unreadable(error)) from error
        loaded.damage.extend(self._mended)
        return loaded

    # ---- writing

    async def transact(self, change: Callable[[Transaction], T]) -> T:
        return await self.writer.run(lambda connection: self._transact(connection, change))

    def _transact(self, connection: sqlite3.Connection, change: Callable[[Transaction], T]) -> T:
        self._check_writable()
        try:
            connection.execute("BEGIN IMMEDIATE")
            transaction = SqliteTransaction(connection, self._free_bytes)
            result = change(transaction)
            if transaction.finish():
                began = time.perf_counter()
                connection.execute("COMMIT")
                self._on_commit(time.perf_counter() - began)
            else:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._undo(connection)
            raise self._error_of(error) from error
        except BaseException:
            self._undo(connection)
            raise
        return result

    def _undo(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:  # SQLite itself undoes on some errors
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._on_fatal(f"cannot undo a transaction: {error}")

    def _error_of(self, error: sqlite3.Error) -> InfluxError:
        failure = self._failure_of(error)
        if failure is Failure.FATAL:
            self._on_fatal(f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}")
        if failure is Failure.FULL:
            return Unavailable("cannot store: the disk is full", retry_after_s=5)
        if failure is Failure.READ_ONLY:
            return Unavailable("cannot store: the disk is read-only", retry_after_s=5)
        log.error("a transaction failed", exc_info=error)
        return InternalError("cannot store: the database refuses")

    def is_log_long(self, *, idle: bool) -> bool:
        return self.log_bytes() >= (MIN_LOG_BYTES if idle else self._log_limit_bytes)

    async def write_log_back(self) -> None:
        await self.writer.run(self._checkpoint)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        began = time.perf_counter()
        try:
            self._check_writable()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._on_checkpoint(time.perf_counter() - began)
        except Unavailable as error:
            log.warning("cannot write the log back", reason=str(error))
        except sqlite3.Error as error:
            if self._failure_of(error) is Failure.FATAL:
                self._on_fatal(f"checkpoint: {error}")
            log.warning("cannot write the log back", reason=str(error))

    async def give_back_space(self) -> bool:
        return await self.writer.run(self._give_back_space)

    def _give_back_space(self, connection: sqlite3.Connection) -> bool:
        self._check_writable()
        share = self._share_of_disk()
        is_short = self._free_bytes() < 4 * share
        keep_bytes = 0 if is_short else KEEP_FREE_BYTES
        (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
        spare = int(free_pages) * self._page_bytes - keep_bytes
        if spare <= 0:
            return False
        pages = max(1, min(spare, SLICE_BYTES, share // 4) // self._page_bytes)
        try:
            # Each row is one page given back; the statement must be run to its end.
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        except sqlite3.Error as error:
            raise self._error_of(error) from error
        if is_short:
            self._checkpoint(connection)  # only then the file gets shorter
        return spare > pages * self._page_bytes

    def _free_bytes(self) -> int:
        """Bytes that appends may still take: free space of the disk, less the reserve."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize - min(self._reserve_bytes, _share_of(disk))

    def _failure_of(self, error: sqlite3.Error) -> Failure:
        if (is_refused_write(error) or is_failed_sync(error)) and self._is_read_only():
            self._is_unsure |= is_failed_sync(error)
            return Failure.READ_ONLY
        return failure_of(error)

    def _check_writable(self) -> None:
        """After a sync that failed on a read-only file system there is reading only: raises Unavailable. A writable one
        ends the process: what a sync says from then on may be wrong, only a start that reads the log can tell."""
        if self._is_unsure:
            if not self._is_read_only():
                self._on_fatal("the disk can be written to again, after a sync that failed")
            raise Unavailable("cannot store: the disk is read-only", retry_after_s=5)

    def _is_read_only(self) -> bool:
        return is_read_only(self.path)

    def _share_of_disk(self) -> int:
        return _share_of(os.statvfs(self.path))

    # ---- reading

    async def read_records(self, asked: Sequence[Sequence[Any]]) -> tuple[int, list[list[StoredRecord]]]:
        for read in asked:
            reads.check_read(read)
        return await self._readers.run(lambda connection: reads.read_records(connection, asked))

    async def find_results(self, ids: Sequence[bytes]) -> dict[bytes, bytes | None]:
        return await self._readers.run(lambda connection: reads.find_results(connection, ids))

    async def read_dictionary(self, generation: int, first: int, last: int) -> list[tuple[int, int, bytes]]:
        return await self._readers.run(lambda connection: reads.read_dictionary(connection, generation, first, last))

    async def check_pages(self) -> list[str]:
        """What SQLite's own check of the pages of the file says; empty = all is well."""
        return await self._readers.run(reads.check_pages)

    async def find_in_pieces(self, at_least: int) -> list[int]:
        return await self._readers.run(lambda connection: reads.find_in_pieces(connection, at_least))

    async def list_pieces(self, generation: int) -> list[tuple[int, int, int]]:
        return await self._readers.run(lambda connection: reads.list_pieces(connection, generation))

    def log_bytes(self) -> int:
        try:
            return os.stat(self._log_path).st_size
        except FileNotFoundError:
            return 0


def _share_of(disk: os.statvfs_result) -> int:
    return disk.f_blocks * disk.f_frsize // 16


def _prepare(connection: sqlite3.Connection) -> tuple[int, list[Damage]]:
    """Bring the file to the newest form and mend what rules the rest; returns its page size and what was mended."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise UnusableCatalog(f"the database can't be put into WAL mode (it is in {mode} mode)")
    migrate(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        mended = [*mend_facts(connection), *mend_sequence(connection)]
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int(page_bytes), mended


def engine_version() -> str:
    """Version of the SQLite library."""
    return sqlite3.sqlite_version
