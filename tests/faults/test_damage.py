"""What is on disk is not what was written: a torn log (R13), flipped bits in the file (R14) and in segments (R15)."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from common.errors import Gone, InfluxError
from common.segment import decode_block, encode_block
from services.storage.catalog.interface import UnusableCatalog
from services.storage.catalog.segment_store import commit_of
from services.storage.compaction.compaction import Compaction
from services.storage.reading.segments import NewSegment
from tests.faults.report import case, rounds
from tests.faults.shim import SYNC, Shim
from tests.faults.storage_process import Expected, integrity, storage_process
from tests.services.storage_parts import BUCKET, make_block, running, series_ids

LOG, FILE = "tidegate.db-wal", "tidegate.db"


async def never(_self: Compaction) -> bool:
    """In the place of ``Compaction.compact``: segments stay what they are."""
    return False


@pytest.mark.timeout(600)
async def test_a_log_torn_behind_the_last_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compaction, "compact", never)
    shim = Shim(tmp_path)
    first = tmp_path / "first"
    expected = Expected()
    async with storage_process(first, shim.environment) as storage:
        assert storage is not None
        await storage.calls.make_bucket()
        for at in range(5):
            assert await expected.append(storage.calls, at) is None
        synced = (first / LOG).stat().st_size
        # The next commit is written to the log, and dies in its sync.
        shim.fail(SYNC, 1, 0)
        assert await expected.append(storage.calls, 1000, 2000) is not None
        assert await storage.wait() == -signal.SIGKILL
    log = (first / LOG).read_bytes()
    assert len(log) > synced + 100_000
    draw = random.Random(13)
    count = rounds(200)
    started = lost = ghosts = unsound = 0
    for number in range(count):
        folder = tmp_path / "torn"
        shutil.copytree(first, folder, ignore=shutil.ignore_patterns("*-shm"))
        at = draw.randrange(synced, len(log))
        rest = log[at:]
        # Cut off, never written by the disk, or half of it: all that a power cut leaves.
        torn = {0: b"", 1: bytes(len(rest)), 2: draw.randbytes(len(rest))}[number % 3]
        (folder / LOG).write_bytes(log[:at] + torn)
        async with running(folder) as (calls, _):
            started += 1
            found = await calls.points()
            lost += expected.lost(found)
            ghosts += expected.ghosts(found)
        unsound += integrity(folder) != "ok"
        shutil.rmtree(folder)
    case(
        "R13",
        f"started={started}/{count} unsynced_bytes={len(log) - synced} lost={lost} ghosts={ghosts} unsound={unsound}",
        "all start, all 0",
        started == count and lost == ghosts == unsound == 0,
    )


MEASUREMENTS = [f"m{number}" for number in range(8)]


async def read_damaged(folder: Path, expected: dict[str, Expected]) -> tuple[str, int, int]:
    """What a start on a damaged file shows: an outcome, wrong values, and measurements that are whole."""
    try:
        async with running(folder) as (calls, storage):
            wrong = whole = 0
            silent = refused = False
            for name, points in expected.items():
                for _ in range(3):  # a damaged segment is Gone once, then planned without
                    try:
                        found = await calls.points(name)
                    except Gone:
                        continue
                    except InfluxError:
                        refused = True
                        break
                    wrong += points.ghosts(found)
                    missing = points.lost(found)
                    whole += not missing
                    silent |= bool(missing) and not (storage.state.quarantined or storage.state.damage)
                    break
                else:
                    refused = True
            if silent:
                return "silent", wrong, whole
            if refused:
                return "refused", wrong, whole
            noticed = "quarantine" if storage.state.quarantined else "named" if storage.state.damage else "unseen"
            return noticed, wrong, whole
    except UnusableCatalog:
        return "no start", 0, 0
    except Exception as error:
        print(f"\n  {type(error).__name__}: {error}")
        return "crash", 0, 0


def ruling_bytes(content: bytes, page_bytes: int = 16384) -> list[int]:
    """Places of the bytes other than 0 in pages that are mostly empty, as those of the small tables are."""
    places = []
    for start in range(0, len(content), page_bytes):
        page = content[start : start + page_bytes]
        if page.count(0) > page_bytes // 2:
            places += [start + at for at, byte in enumerate(page) if byte]
    return places


@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", ["anywhere", "tables"])
async def test_flipped_bits_in_the_file(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compaction, "compact", never)
    first = tmp_path / "first"
    expected = {name: Expected() for name in MEASUREMENTS}
    async with running(first) as (calls, _):
        await calls.make_bucket()
        for at in range(4):
            for number, name in enumerate(MEASUREMENTS):
                assert await expected[name].append(calls, number * 10_000 + at * 200, 120, name) is None
    content = (first / FILE).read_bytes()
    # What is small but rules the rest: tables of names, types, numbers.
    places = range(len(content)) if where == "anywhere" else ruling_bytes(content)
    draw = random.Random(14)
    count = rounds(200)
    outcomes: dict[str, int] = {}
    wrong = 0
    fewest = len(MEASUREMENTS)
    for _ in range(count):
        folder = tmp_path / "flipped"
        folder.mkdir()
        damaged = bytearray(content)
        at = draw.choice(places)
        damaged[at] ^= 1 << draw.randrange(8)
        (folder / FILE).write_bytes(damaged)
        outcome, wrong_here, whole = await read_damaged(folder, expected)
        if wrong_here or outcome in ("silent", "crash"):
            print(f"\n  byte {at} of {len(content)}, {content[at - 40 : at + 20]!r}: {outcome}, wrong={wrong_here}")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        wrong += wrong_here
        if outcome in ("quarantine", "named", "unseen"):
            fewest = min(fewest, whole)
        shutil.rmtree(folder)
    figure = f"flips={count} outcomes={outcomes} wrong={wrong} served_beside_a_damage>={fewest}/{len(MEASUREMENTS)}"
    ok = wrong == 0 and not {"silent", "crash"} & outcomes.keys()
    case(f"R14-{where}", figure, "wrong=0 silent=0 crash=0", ok)


@pytest.mark.timeout(600)
async def test_a_flipped_bit_in_every_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compaction, "compact", never)
    count = 2 * max(1, rounds(1000) // 2)
    ids = series_ids(5)
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        await calls.append(make_block(ids, [0]))
        for start in range(1, count, 50):
            block = [make_block(ids, [at]) for at in range(start, min(start + 50, count))]
            await asyncio.gather(*(calls.append(one, new=[]) for one in block))
        # Half of them in the form that compaction gives them.
        for old in list(storage.state.segments())[: count // 2]:
            meta, chunks = await storage.segments.read_segment(old.id)
            await storage.segments.replace([old.id], [NewSegment(*encode_block(decode_block(meta, chunks), 1))])
        stored = [(segment.id, segment.level, segment.offset, segment.size) for segment in storage.state.segments()]
    assert len(stored) == count
    assert {level for _, level, _, _ in stored} == {0, 1}
    draw = random.Random(15)
    connection = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    connection.execute("BEGIN")
    for id, level, offset, size in stored:
        if level == 0:
            table, column, row, at = "commits", "data", commit_of(id), offset + draw.randrange(size)
        else:
            chunk, length = draw.choice(
                connection.execute("SELECT rowid, length(bytes) FROM chunks WHERE segment = ?", (id,)).fetchall()
            )
            table, column, row, at = "chunks", "bytes", chunk, draw.randrange(length)
        with connection.blobopen(table, column, row) as blob:
            blob.seek(at)
            byte = blob.read(1)[0]
            blob.seek(at)
            blob.write(bytes([byte ^ 1 << draw.randrange(8)]))
    connection.execute("COMMIT")
    connection.close()
    detected = 0
    async with running(tmp_path) as (calls, storage):
        for segment, _, meta in (await calls.plan())["segments"]:
            try:
                await calls.fetch((segment, range(len(meta["chunks"]))))
            except Gone:
                detected += 1
        left = len(await calls.points())
        async with aiohttp.ClientSession() as session, session.get(f"{calls.url}/metrics") as response:
            lines = (await response.text()).splitlines()
    counted = next(float(line.split()[-1]) for line in lines if line.startswith("tidegate_storage_quarantined"))
    case(
        "R15",
        f"detected={detected}/{count} metric={counted:.0f} returned_rows={left} bucket={BUCKET}",
        "all detected and counted",
        detected == counted == count and left == 0,
    )
