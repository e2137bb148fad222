"""Calls that fail below storage: the n-th write, sync or cut of a file (R09), and no space for it (R10)."""

from __future__ import annotations

import errno
import shutil
import signal
from pathlib import Path

import pytest

from common.errors import Unavailable
from services.storage.catalog.fatal import EXIT_FATAL
from tests.faults.report import case, rounds
from tests.faults.shim import ALWAYS, KINDS, SYNC, WRITE, Shim
from tests.faults.storage_process import Expected, integrity, storage_process
from tests.services.storage_parts import Calls, running

APPENDS, WIDTH = 6, 600  # six of 190 kB: the log is written back after each two megabytes or so
SMALL_LOG = {"TIDEGATE_STORAGE_WAL_BYTES": str(1 << 20)}


async def write_all(calls: Calls, expected: Expected) -> bool:
    """The work of one round; whether storage went on to its end."""
    for number in range(APPENDS):
        error = await expected.append(calls, 10_000 + number * WIDTH, WIDTH)
        if error is not None and "cannot reach" in str(error):
            return False
    return True


async def prepare(folder: Path) -> Expected:
    """A folder with a bucket and some points."""
    expected = Expected()
    async with running(folder) as (calls, _):
        await calls.make_bucket()
        for at in range(3):
            assert await expected.append(calls, at) is None
    return expected


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_nth_call_fails(kind: str, tmp_path: Path) -> None:
    shim = Shim(tmp_path)
    first = await prepare(tmp_path / "first")
    # How many such calls a start, the work and a stop make.
    shutil.copytree(tmp_path / "first", tmp_path / "count")
    async with storage_process(tmp_path / "count", shim.environment | SMALL_LOG) as storage:
        assert storage is not None
        await write_all(storage.calls, Expected(dict(first.acknowledged), dict(first.sent)))
        assert await storage.end(signal.SIGTERM) == 0
    total = shim.count(KINDS[kind])
    assert total
    wanted = min(rounds(24), total)
    chosen = sorted({1 + number * (total - 1) // max(1, wanted - 1) for number in range(wanted)})
    lost = ghosts = unsound = went_on = hit = 0
    for nth in chosen:
        folder = tmp_path / f"{kind}-{nth}"
        shutil.copytree(tmp_path / "first", folder)
        expected = Expected(dict(first.acknowledged), dict(first.sent))
        shim.reset()
        shim.fail(KINDS[kind], nth, errno.EIO)
        async with storage_process(folder, shim.environment | SMALL_LOG) as storage:
            if storage is not None:
                if await write_all(storage.calls, expected):
                    status = await storage.end(signal.SIGTERM)
                else:
                    status = await storage.wait()
                went_on += KINDS[kind] == SYNC and shim.hits > 0 and status == 0
                assert status in (0, EXIT_FATAL), status
        hit += shim.hits > 0
        async with running(folder) as (calls, _):
            found = await calls.points()
        lost += expected.lost(found)
        ghosts += expected.ghosts(found)
        unsound += integrity(folder) != "ok"
        shutil.rmtree(folder)
    case(
        f"R09-{kind}",
        f"calls={total} failed={hit}/{len(chosen)} lost={lost} ghosts={ghosts} unsound={unsound} went_on={went_on}",
        "lost=0 ghosts=0 unsound=0 went_on=0",
        lost == ghosts == unsound == went_on == 0 and hit > 0,
    )


@pytest.mark.timeout(600)
async def test_no_space_for_the_nth_write(tmp_path: Path) -> None:
    shim = Shim(tmp_path)
    folder = tmp_path / "data"
    expected = await prepare(folder)
    lost = unread = unrecovered = wrong = refused = 0
    count = rounds(40)
    async with storage_process(folder, shim.environment | SMALL_LOG) as storage:
        assert storage is not None
        calls = storage.calls
        for number in range(count):
            # One append makes about 30 writes; from the n-th one on there is no space.
            shim.fail(WRITE, 1 + number % 30, errno.ENOSPC, ALWAYS)
            at = 10_000 + number * 10_000
            for step in range(3):
                error = await expected.append(calls, at + step * WIDTH, WIDTH)
                if error is not None:
                    refused += 1
                    wrong += not isinstance(error, Unavailable) or "full" not in str(error) or not error.retry_after_s
            if number % 10 == 0:
                unread += len(await calls.points()) < len(expected.acknowledged)
            shim.heal()
            unrecovered += await expected.append(calls, at + 9_000) is not None
        found = await calls.points()
        lost += expected.lost(found)
        await storage.end(signal.SIGKILL)
    async with running(folder) as (calls, _):
        found = await calls.points()
    lost += expected.lost(found)
    ghosts = expected.ghosts(found)
    sound = integrity(folder) == "ok"
    case(
        "R10",
        f"rounds={count} refused={refused} wrong_error={wrong} unread={unread} unrecovered={unrecovered} "
        f"lost={lost} ghosts={ghosts} integrity={'ok' if sound else 'damaged'}",
        "all 0, integrity ok",
        wrong == unread == unrecovered == lost == ghosts == 0 and sound and refused > count // 2,
    )
