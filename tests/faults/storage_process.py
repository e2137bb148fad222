"""A storage process that a test may break, and the points that it has acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import InfluxError
from services.storage.config import StorageSettings
from tests.services.storage_parts import Calls, calls_of, keys_of, make_block, series_ids
from tests.stack import ROOT

SERIES = series_ids(40)
START_WITHIN_S = 30.0


@dataclass
class Expected:
    """(upper half of the id, time) → value: what was acknowledged, and what was sent and may be there."""

    acknowledged: dict[tuple[int, int], int] = field(default_factory=dict)
    sent: dict[tuple[int, int], int] = field(default_factory=dict)

    async def append(self, calls: Calls, at: int, width: int = 1, measurement: str = "cpu") -> InfluxError | None:
        """One append of 40 series and *width* times from *at* on; the error with which it was refused, if any."""
        values: list[int] = np.random.default_rng(at).integers(0, 1 << 62, len(SERIES) * width).tolist()
        times = range(at, at + width)
        points = dict(zip(((int(high), time) for high in SERIES[:, 0] for time in times), values, strict=True))
        self.sent |= points
        block = make_block(SERIES, list(times), values, measurement=measurement)
        try:
            answer = await calls.append(block, new=[(block, SERIES, keys_of(SERIES))])
        except InfluxError as error:
            return error
        assert "number" in answer, answer
        self.acknowledged |= points
        return None

    def lost(self, found: Mapping[tuple[int, int], int]) -> int:
        return sum(found.get(key) != value for key, value in self.acknowledged.items())

    def ghosts(self, found: Mapping[tuple[int, int], int]) -> int:
        return sum(self.sent.get(key) != value for key, value in found.items())


@dataclass
class Running:
    """A storage that has started."""

    child: subprocess.Popen[str]
    calls: Calls

    async def wait(self) -> int:
        """Its exit status."""
        return await asyncio.to_thread(self.child.wait, START_WITHIN_S)

    async def end(self, number: int) -> int:
        """Its exit status after a signal."""
        self.child.send_signal(number)
        return await self.wait()


def start(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A storage process on *folder*, on any free port; its log goes to the pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "services.storage"],
        cwd=ROOT,
        env={**os.environ, "TIDEGATE_DATA": str(folder), "TIDEGATE_STORAGE_PORT": "0", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@asynccontextmanager
async def storage_process(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Running | None]:
    """Run storage; None when it ended before it listened. It is killed at the end, if it still runs."""
    child = start(folder, environment)
    reading: asyncio.Task[None] | None = None
    try:
        url = await asyncio.to_thread(_listening, child)
        if url is None:
            await asyncio.to_thread(child.wait, START_WITHIN_S)
            yield None
            return
        reading = asyncio.create_task(asyncio.to_thread(_drain, child))
        async with calls_of(url, StorageSettings(data=folder)) as calls:
            yield Running(child, calls)
    finally:
        child.kill()
        await asyncio.to_thread(child.wait)
        if reading is not None:
            await reading
        assert child.stderr is not None
        child.stderr.close()


def _listening(child: subprocess.Popen[str]) -> str | None:
    assert child.stderr is not None
    for line in child.stderr:
        if '"listening"' in line:
            return str(json.loads(line)["url"])
    return None


def _drain(child: subprocess.Popen[str]) -> None:
    assert child.stderr is not None
    for _ in child.stderr:
        pass


def integrity(folder: Path) -> str:
    """What SQLite's own check says: ``ok``. Nobody else may have the file open."""
    connection = sqlite3.connect(folder / "tidegate.db")
    try:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return found
    finally:
        connection.close()
