"""The catalog on SQLite in memory, which outlives the process: its thread is played by the loop.

A transaction is whole or absent; the process may die right before it, or after it and before anybody hears of it.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast
from unittest import mock

from services.storage.catalog.interface import Transaction
from services.storage.catalog.rows import BlockRow
from services.storage.sqlite.catalog import SqliteCatalog, _prepare
from services.storage.sqlite.connection import Connection, ReaderPool
from services.storage.sqlite.segment_store import SqliteSegmentStore
from tests.simulation.network import Node

T = TypeVar("T")
FREE_BYTES = 1 << 50
Commit = tuple[int, Sequence[BlockRow], bytes]


class Disk:
    """What is left when the process is gone.

    Attributes:
        commits: every commit of blocks that has been made, in order.
        is_full: nothing more is taken.
        commit_s: how long at most a transaction takes.
        deaths: shares of transactions before and after which the process dies.
    """

    def __init__(self, seed: str) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
        self.database.deserialize(_empty())
        self.draw = random.Random(f"{seed} disk")
        self.commits: list[Commit] = []
        self.is_full = False
        self.commit_s = 0.004
        self.deaths = (0.0, 0.0)


@cache
def _empty() -> bytes:
    """A database as storage makes it, with a hash key that is always the same."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("secrets.token_bytes", bytes):
        file = sqlite3.connect(Path(folder) / "tidegate.db", isolation_level=None)
        file.execute("PRAGMA journal_mode=WAL")
        _prepare(file)
        file.execute("PRAGMA journal_mode=DELETE")
        memory = sqlite3.connect(":memory:")
        file.backup(memory)
        file.close()
    image = memory.serialize()
    memory.close()
    return image


class _Thread:
    """A connection's thread: one thing after the other."""

    def __init__(self, disk: Disk, die: Callable[[], None]) -> None:
        self._disk = disk
        self._die = die
        self._turn = asyncio.Lock()

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        async with self._turn:
            await asyncio.sleep(self._disk.draw.uniform(0, self._disk.commit_s))
            await self._survive(0)
            result = function(self._disk.database)
            await self._survive(1)
        return result

    async def close(self) -> None: ...

    async def _survive(self, moment: int) -> None:
        if self._disk.draw.random() < self._disk.deaths[moment]:
            self._die()
            await asyncio.Event().wait()


class _Readers:
    """The reading connections."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        await asyncio.sleep(self._disk.draw.uniform(0, self._disk.commit_s / 4))
        return function(self._disk.database)

    async def close(self) -> None: ...


class MemoryCatalog(SqliteCatalog):
    """``SqliteCatalog`` on a ``Disk``.

    Args:
        node: the process that opens it.
        die: kills the process, soon.
    """

    def __init__(self, disk: Disk, node: Node, die: Callable[[], None]) -> None:
        super().__init__(Path("memory"))
        self._disk = disk
        self._node = node
        self._die = die
        self._readers = cast(ReaderPool, _Readers(disk))
        self._store = SqliteSegmentStore(self._readers)

    async def open(self) -> None:
        self._writer = cast(Connection, _Thread(self._disk, self._die))

    async def close(self) -> None: ...

    def _transact(self, connection: sqlite3.Connection, change: Callable[[Transaction], T]) -> T:
        noted: list[Commit] = []

        def noting(transaction: Transaction) -> T:
            noted.clear()
            add_commit = transaction.add_commit

            def add(number: int, blocks: Sequence[BlockRow], data: bytes) -> None:
                add_commit(number, blocks, data)
                noted.append((number, blocks, data))

            cast(Any, transaction).add_commit = add
            return change(transaction)

        result = super()._transact(connection, noting)
        self._disk.commits += noted
        return result

    def log_bytes(self) -> int:
        return 0

    def _free_bytes(self) -> int:
        return 0 if self._disk.is_full else FREE_BYTES

    def _share_of_disk(self) -> int:
        return FREE_BYTES // 16
