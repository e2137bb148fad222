"""Group commit on a real SQLite file: groups, culprits, full disks, disks that fail."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from common.errors import Conflict, InternalError, Unavailable
from services.storage.catalog.interface import Transaction, UnusableCatalog
from services.storage.commits.committer import Committer
from services.storage.commits.draft import Draft
from services.storage.commits.feed import Feed
from services.storage.sqlite.catalog import SqliteCatalog
from services.storage.sqlite.failures import Failure, failure_of
from services.storage.state.state import State


class Died(BaseException):
    """Stands for the end of the process."""


def die(reason: str) -> NoReturn:
    raise Died(reason)


class Do:
    """A job that is a function."""

    size = 1

    def __init__(self, run: Callable[[Transaction, Draft], Any]) -> None:
        self.run = run


def remember(id: int, then: Exception | None = None) -> Do:
    def run(transaction: Transaction, draft: Draft) -> int:
        draft.number = transaction.next_number()
        transaction.add_results([(id.to_bytes(16, "big"), None)])
        draft.tell({"number": draft.number, "tags": [str(id)]})
        if then is not None:
            raise then
        return draft.number

    return Do(run)


def refuse(_transaction: Transaction, _draft: Draft) -> None:
    raise Conflict("no")


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqliteCatalog]:
    catalog = SqliteCatalog(tmp_path, on_fatal=die)
    await catalog.open()
    yield catalog
    await catalog.close()


@pytest.fixture
async def committer(catalog: SqliteCatalog) -> AsyncIterator[Committer]:
    committer = Committer(catalog, State(), Feed(), on_fatal=die)
    committer.start()
    yield committer
    await committer.close()


async def stored(catalog: SqliteCatalog, count: int) -> set[int]:
    found = await catalog.find_results([id.to_bytes(16, "big") for id in range(count)])
    return {int.from_bytes(id, "big") for id in found}


async def test_what_arrives_together_is_one_transaction(catalog: SqliteCatalog) -> None:
    groups: list[int] = []
    state = State()
    committer = Committer(catalog, state, Feed(), on_group=lambda jobs, size: groups.append(jobs))
    jobs = [asyncio.ensure_future(committer.submit(remember(id))) for id in range(20)]
    await asyncio.sleep(0)
    committer.start()
    assert await asyncio.gather(*jobs) == list(range(1, 21))
    assert groups == [20]
    assert state.number == 20
    await committer.close()
    with pytest.raises(Unavailable):
        await committer.submit(remember(99))


async def test_a_refused_or_broken_job_does_not_touch_the_others(catalog: SqliteCatalog, committer: Committer) -> None:
    jobs = [
        remember(0),
        Do(refuse),
        remember(1, ZeroDivisionError()),
        remember(2),
        remember(3, Conflict("late")),
        remember(4),
    ]
    answers = await asyncio.gather(*(committer.submit(job) for job in jobs), return_exceptions=True)
    assert [answers[0], answers[3], answers[5]] == [1, 2, 3]
    assert isinstance(answers[1], Conflict)
    assert isinstance(answers[2], InternalError)
    assert isinstance(answers[4], InternalError)
    assert await stored(catalog, 5) == {0, 2, 4}


async def test_a_job_whose_caller_went_away_before_its_turn_is_left_out(catalog: SqliteCatalog) -> None:
    committer = Committer(catalog, State(), Feed())
    first, second = (asyncio.ensure_future(committer.submit(remember(id))) for id in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    committer.start()
    assert await second == 1
    assert await stored(catalog, 2) == {1}
    await committer.close()


async def test_a_full_disk_refuses_and_recovers(catalog: SqliteCatalog, committer: Committer) -> None:
    def fill(transaction: Transaction, _draft: Draft) -> None:
        transaction.add_series(1, 0, 1, b"", bytes(10 << 20))

    await committer.submit(remember(0))
    (limit,) = await catalog.writer.run(lambda c: c.execute("PRAGMA max_page_count").fetchone())
    await catalog.writer.run(lambda c: c.execute("PRAGMA max_page_count=1").fetchone())
    answers = await asyncio.gather(committer.submit(remember(1)), committer.submit(Do(fill)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) and answer.retry_after_s for answer in answers)
    assert await stored(catalog, 2) == {0}
    await catalog.writer.run(lambda c: c.execute(f"PRAGMA max_page_count={limit}").fetchone())
    assert await committer.submit(remember(1)) == 2
    assert await stored(catalog, 2) == {0, 1}


async def test_without_space_for_deleting_left_nothing_more_is_taken(tmp_path: Path) -> None:
    catalog = SqliteCatalog(tmp_path)
    await catalog.open()
    catalog._free_bytes = lambda: 1000  # type: ignore[method-assign]
    committer = Committer(catalog, State(), Feed())
    committer.start()
    take = Do(lambda transaction, draft: transaction.require_space(300))
    answers = await asyncio.gather(*(committer.submit(take) for _ in range(2)), return_exceptions=True)
    assert answers[0] is None
    assert isinstance(answers[1], Unavailable)
    assert await committer.submit(remember(1)) == 1
    await committer.close()
    await catalog.close()


class FailingCommit:
    """A connection whose COMMIT fails as a disk does."""

    def __init__(self, connection: sqlite3.Connection, code: int) -> None:
        self._connection = connection
        self._code = code

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT":
            raise sqlite_error(self._code)
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_DIR_FSYNC]
)
async def test_a_failed_sync_ends_the_process_and_is_not_tried_again(catalog: SqliteCatalog, code: int) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        broken: Any = FailingCommit(connection, code)
        with pytest.raises(Died):
            catalog._transact(broken, lambda transaction: transaction.add_results([(bytes(16), None)]))

    await catalog.writer.run(fail)
    assert await stored(catalog, 1) == set()


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (sqlite3.SQLITE_FULL, Failure.FULL),
        (sqlite3.SQLITE_IOERR_SHMSIZE, Failure.FULL),
        (sqlite3.SQLITE_READONLY_DBMOVED, Failure.READ_ONLY),
        (sqlite3.SQLITE_CORRUPT_VTAB, Failure.DAMAGED),
        (sqlite3.SQLITE_IOERR_READ, Failure.DAMAGED),
        (sqlite3.SQLITE_IOERR_FSYNC, Failure.FATAL),
        (sqlite3.SQLITE_IOERR, Failure.FATAL),
        (sqlite3.SQLITE_CONSTRAINT, Failure.OTHER),
    ],
)
def test_failures_are_told_apart(code: int, failure: Failure) -> None:
    assert failure_of(sqlite_error(code)) is failure


async def test_the_log_is_written_back_and_stays_bounded(tmp_path: Path) -> None:
    catalog = SqliteCatalog(tmp_path, log_limit_bytes=1 << 20)
    await catalog.open()
    committer = Committer(catalog, State(), Feed())
    committer.start()
    for first in range(60):
        await committer.submit(Do(lambda t, d, first=first: t.add_series(1, first, 1, b"", bytes(100_000))))
        assert catalog.log_bytes() < 2 << 20
    await committer.close()
    await catalog.close()


async def test_a_foreign_or_newer_file_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "tidegate.db") as foreign:
        foreign.execute("CREATE TABLE mine (a)")
    foreign.close()
    catalog = SqliteCatalog(tmp_path)
    with pytest.raises(UnusableCatalog, match="not Tidegate's"):
        await catalog.open()
    await catalog.close()
    (tmp_path / "tidegate.db").unlink()
    catalog = SqliteCatalog(tmp_path)
    await catalog.open()
    await catalog.writer.run(lambda connection: connection.execute("PRAGMA user_version=99"))
    with pytest.raises(UnusableCatalog, match="newer"):
        again = SqliteCatalog(tmp_path)
        try:
            await again.open()
        finally:
            await again.close()
    await catalog.close()


@pytest.mark.parametrize(("at", "size"), [(0, 16), (40, 16), (100, 64)], ids=["name", "header", "schema"])
async def test_a_file_that_sqlite_refuses_is_named_and_not_touched(tmp_path: Path, at: int, size: int) -> None:
    catalog = SqliteCatalog(tmp_path)
    await catalog.open()
    await catalog.close()
    path = tmp_path / "tidegate.db"
    damaged = bytearray(path.read_bytes())
    damaged[at : at + size] = b"\xff" * size
    path.write_bytes(damaged)
    catalog = SqliteCatalog(tmp_path)
    with pytest.raises(UnusableCatalog, match=r"SQLite can't read tidegate.db \(.*\): its header, its schema or"):
        await catalog.open()
    await catalog.close()
    assert path.read_bytes() == damaged
