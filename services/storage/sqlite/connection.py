"""Connections to the database file: the one that writes, and those that only read.

Exactly one connection does every write and every checkpoint: SQLite before 3.51.3 can lose committed data when one
connection checkpoints while another commits (spec of reliability, F4).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import aiosqlite

T = TypeVar("T")
FIXED_VERSION = (3, 51, 3)
# Names and values are bound as BLOB or INTEGER; the statements are few, so all stay prepared.
CACHED_STATEMENTS = 256
READ_CACHE_KIB = 8 << 10
WRITE_CACHE_KIB = 64 << 10


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that runs whole functions in its thread: one hop for a transaction, not one a
    statement (64 one-point commits in one group would need over a hundred)."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run *function* in the connection's thread, after what was asked before. It is not cut short when the
        caller is cancelled: the result is dropped then."""
        result: T = await self._execute(function, self._conn)  # type: ignore[no-untyped-call]
        return result


async def writer(path: Path, page_bytes: int, synchronous: str) -> Connection:
    """The connection that writes. A new file gets the page size and the vacuum mode before its first table."""

    def connect() -> sqlite3.Connection:
        # Made here, so that it never has another mode; SQLite gives -wal and -shm the mode of the main file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS, timeout=5
        )
        if path.stat().st_size == 0:  # setting the mode of an old file writes to it, which a full disk refuses
            connection.execute(f"PRAGMA page_size={page_bytes}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA secure_delete=0")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA cache_size=-{WRITE_CACHE_KIB}")
        return connection

    return await _open(connect)


async def reader(path: Path) -> Connection:
    """A connection that can't write."""

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS, timeout=5
        )
        connection.execute(f"PRAGMA cache_size=-{READ_CACHE_KIB}")
        connection.execute("PRAGMA query_only=1")
        return connection

    return await _open(connect)


async def _open(connect: Callable[[], sqlite3.Connection]) -> Connection:
    connection = Connection(connect, iter_chunk_size=64)
    try:
        await connection
    except BaseException:
        # Its thread has yet to tell the loop that it stops.
        await asyncio.to_thread(connection._thread.join)
        raise
    return connection


class ReaderPool:
    """A few reading connections, each lent to one read at a time."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._all: list[Connection] = []
        self._free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()

    async def open(self) -> None:
        for _ in range(self._size):
            connection = await reader(self._path)
            self._all.append(connection)
            self._free.put_nowait(connection)

    async def close(self) -> None:
        for connection in self._all:
            await connection.close()
        self._all.clear()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Connection]:
        connection = await self._free.get()
        try:
            yield connection
        finally:
            self._free.put_nowait(connection)

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run *function* on a free connection, in its thread; waits while all are lent."""
        async with self.lent() as connection:
            return await connection.run(function)


def is_fixed_version() -> bool:
    """Whether this SQLite is free of the race between a checkpoint and a commit of two connections."""
    return sqlite3.sqlite_version_info >= FIXED_VERSION
