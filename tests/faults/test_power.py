"""The power goes (R16): what was not synced is there, absent, torn or out of order, and storage starts all the same.

A recorded run of a real storage process is cut at random places; of each file all that was synced before is kept, and
of the rest any part.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.storage.compaction.compaction import Compaction
from tests.conftest import need
from tests.faults.report import case, rounds
from tests.faults.storage_process import Expected, integrity, storage_process
from tests.faults.test_damage import never
from tests.services.storage_parts import running

FILES = ("tidegate.db", "tidegate.db-wal")
WRITE, SYNC, TRUNCATE = range(3)
HEAD = struct.Struct("=4q")
SECTOR = 512
APPENDS, WIDTH = 80, 60
Points = dict[tuple[int, int], int]


@dataclass(frozen=True)
class Change:
    """A write or a truncation of one file."""

    offset: int
    data: bytes | None  # None: cut at the offset

    def apply(self, image: bytearray, size: int | None = None) -> None:
        """Make it, or only its first *size* bytes."""
        if self.data is None:
            del image[self.offset :]
            return
        data = self.data[:size]
        if len(image) < self.offset:
            image.extend(bytes(self.offset - len(image)))
        image[self.offset : self.offset + len(data)] = data


@dataclass
class File:
    """A file as it is known to be on the disk, and what has been written since."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            change.apply(self.synced)
        self.pending.clear()

    def after_power_cut(self, draw: random.Random) -> bytes:
        """What may be there: some of the pending changes, some of them torn, in any order."""
        image = bytearray(self.synced)
        share = draw.choice((0.0, 0.3, 0.7, 0.95, 1.0))
        kept = [change for change in self.pending if draw.random() < share]
        if draw.random() < 0.5:
            draw.shuffle(kept)
        for change in kept:
            is_torn = change.data is not None and draw.random() < 0.1
            change.apply(image, draw.randrange(len(change.data or b"") // SECTOR + 1) * SECTOR if is_torn else None)
        return bytes(image)


def replay(record: bytes, cuts: list[int]) -> Iterator[tuple[int, list[File]]]:
    """The files as of each of *cuts* (ascending places in the record)."""
    files = [File() for _ in FILES]
    at = 0
    for cut in cuts:
        while at + HEAD.size <= cut:
            kind, file, offset, size = HEAD.unpack_from(record, at)
            stop = at + HEAD.size + size
            if stop > cut:
                break
            if kind == SYNC:
                files[file].sync()
            else:
                files[file].pending.append(Change(offset, record[at + HEAD.size : stop] if kind == WRITE else None))
            at = stop
        yield cut, files


@dataclass
class Recording:
    """A run: its record, and what had been acknowledged when the record was so long."""

    record: bytes
    ready: int
    appends: list[tuple[int, Points]]
    expected: Expected


async def record_run(tmp_path: Path, durability: str) -> Recording:
    library, path = tmp_path / "recorder.so", tmp_path / "record"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run(
        [need("gcc", "gcc"), "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True
    )
    path.touch()
    environment = {
        "LD_PRELOAD": str(library),
        "FAULT_RECORD": str(path),
        "TIDEGATE_DURABILITY": durability,
        # The log is written back several times in the run.
        "TIDEGATE_STORAGE_WAL_BYTES": str(1 << 20),
    }
    expected = Expected()
    appends = []
    async with storage_process(tmp_path / "run", environment) as storage:
        assert storage is not None
        await storage.calls.make_bucket()
        ready = path.stat().st_size
        for number in range(APPENDS):
            before = set(expected.acknowledged)
            assert await expected.append(storage.calls, number * WIDTH, WIDTH) is None
            points = {key: value for key, value in expected.acknowledged.items() if key not in before}
            appends.append((path.stat().st_size, points))
    return Recording(path.read_bytes(), ready, appends, expected)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", ["durable", "process"])
async def test_the_power_goes(durability: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compaction, "compact", never)
    run = await record_run(tmp_path, durability)
    draw = random.Random(16)
    cuts = sorted(draw.randrange(run.ready, len(run.record)) for _ in range(rounds(250, 500)))
    lost = ghosts = unsound = gaps = dropped = 0
    for number, (cut, files) in enumerate(replay(run.record, cuts)):
        folder = tmp_path / f"cut{number}"
        folder.mkdir()
        for name, file in zip(FILES, files, strict=True):
            (folder / name).write_bytes(file.after_power_cut(draw))
            dropped += len(file.pending)
        async with running(folder) as (calls, _):
            found = await calls.points()
        there = [all(found.get(key) == value for key, value in points.items()) for _, points in run.appends]
        whole = sum(len(points) for (_, points), is_there in zip(run.appends, there, strict=True) if is_there)
        # Nothing of an append that is not there whole, and none behind one that is not there.
        gaps += whole != len(found) or there != sorted(there, reverse=True)
        ghosts += run.expected.ghosts(found)
        lost += sum(not is_there for (size, _), is_there in zip(run.appends, there, strict=True) if size <= cut)
        unsound += integrity(folder) != "ok"
        shutil.rmtree(folder)
    case(
        f"R16-{durability}",
        f"cuts={len(cuts)} unsynced_writes={dropped} lost_commits={lost} ghosts={ghosts} gaps={gaps} unsound={unsound}",
        "all 0" if durability == "durable" else "no ghosts, no gaps: what is lost is the end",
        ghosts == gaps == unsound == 0 and dropped > len(cuts) and (durability == "process" or not lost),
    )
