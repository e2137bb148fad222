"""Storage on disks that are full or fail: a real process, on a real file system."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from common.errors import InfluxError, Unavailable
from services.storage.catalog.fatal import EXIT_FATAL
from tests.services.storage_parts import BUCKET, Calls, Process, make_block, running, series_ids

IDS = series_ids(10_000)
OTHER = "00000000000000b2"
KEY = "a key of tests that is long enough"


async def fill(calls: Calls, bucket: str = BUCKET) -> tuple[int, InfluxError]:
    """Append 80 kB at a time until that fails; how many were acknowledged, and the error."""
    for at in range(1000):
        values = np.random.default_rng(at).integers(0, 1 << 62, len(IDS))
        try:
            answer = await calls.append(make_block(IDS, [at], values, bucket=bucket), new=[] if at else None)
        except InfluxError as error:
            return at, error
        assert "number" in answer
    raise AssertionError("the disk was never full")


async def test_a_failed_write_ends_the_process_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    process = Process(tmp_path, "ulimit -f 4000")  # 2 MB: past it the kernel refuses with another error than "full"
    try:
        url = await asyncio.to_thread(process.url)
        async with process.calls(url) as calls:
            await calls.make_bucket()
            acknowledged, error = await fill(calls)
        assert isinstance(error, Unavailable)
        assert await asyncio.to_thread(process.end) == EXIT_FATAL
    finally:
        process.child.kill()
    assert acknowledged
    async with running(tmp_path) as (calls, _):
        assert len(await calls.points()) in (acknowledged * len(IDS), (acknowledged + 1) * len(IDS))


def can_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="mounting a file system of 16 MB needs root")
async def test_a_full_disk_refuses_writes_serves_reads_and_recovers_when_a_bucket_goes(tmp_path: Path) -> None:
    process = Process(
        tmp_path, 'mount -t tmpfs -o size=16m none "$TIDEGATE_DATA"', ["unshare", "-m"], TIDEGATE_INTERNAL_KEY=KEY
    )
    try:
        url = await asyncio.to_thread(process.url)
        async with process.calls(url) as calls:
            for bucket in (BUCKET, OTHER):
                await calls.make_bucket(bucket)
            await calls.append(make_block(IDS[:10], bucket=OTHER))
            acknowledged, error = await fill(calls)
            assert isinstance(error, Unavailable)
            assert "the disk is full" in str(error)
            assert error.retry_after_s
            assert len(await calls.points()) == acknowledged * len(IDS)
            await calls.change(deletes=[["bucket", BUCKET]], drop_buckets=[BUCKET])
            async with asyncio.timeout(30):
                while True:
                    try:
                        answer = await calls.append(make_block(IDS, bucket=OTHER))
                        break
                    except Unavailable:
                        await asyncio.sleep(0.1)
            assert "number" in answer
            assert len(await calls.points(bucket=OTHER)) == len(IDS)
        assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0
    finally:
        process.child.kill()
