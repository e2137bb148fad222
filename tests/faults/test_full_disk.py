"""The whole stack on a small disk (R11) and on one that becomes read-only (R12); both need root for real mounts.

A remount of a disk that files are open on for writing is refused by the kernel (EBUSY, printed by R12-kernel). What it
does by itself after an error of the disk it also does when asked to: ext4's mount option ``abort``.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import need
from tests.faults.report import case
from tests.faults.shim import ALWAYS, WRITE, Shim
from tests.stack import BUCKET, ROOT, Stack

KEY = "a-key-of-tests-that-is-long-enough-for-all"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of *size*."""
    mount = need("mount", "mount")
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir(parents=True)
    subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def ext4_disk(folder: Path, image: Path) -> Iterator[None]:
    """An ext4 of 64 MB in *image*, which is made if it is missing."""
    mount = need("mount", "mount")
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    if not image.exists():
        image.touch()
        os.truncate(image, 64 << 20)
        subprocess.run([need("mkfs.ext4", "e2fsprogs"), "-q", "-F", str(image)], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        [mount, "-o", "loop,errors=remount-ro", str(image), str(folder)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no ext4 over a loop device here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def start_alone(stack: Stack) -> subprocess.CompletedProcess[str]:
    """Storage by itself, on a disk on which it can't start."""
    return subprocess.run(
        [sys.executable, "-m", "services.storage"],
        cwd=ROOT,
        env={**os.environ, **stack.settings(), "LD_PRELOAD": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    return ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else ""


@pytest.mark.timeout(240)
def test_a_disk_of_16_mb_runs_full(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    draw = random.Random(11)
    with small_disk(folder / "data", "16m"):
        stack = Stack(folder, {"TIDEGATE_INTERNAL_KEY": KEY}).start()
        try:
            dropped = stack.make_bucket("dropped")
            assert stack.write("kept v=1i 1", BUCKET).status_code == 204
            acknowledged: dict[int, int] = {}
            refused: list[tuple[int, bool]] = []
            for batch in range(2000):
                points = {batch * 1000 + at: draw.randrange(1 << 62) for at in range(1000)}
                lines = "\n".join(f"m v={value}i {time}" for time, value in points.items())
                answer = stack.write(lines, "dropped")
                if answer.status_code == 204:
                    acknowledged |= points
                else:
                    refused.append((answer.status_code, answer.headers.get("Retry-After", "").isdigit()))
                    if len(refused) == 3:
                        break
            rows = stack.rows("SELECT v FROM m", "dropped", epoch="ns")
            stored = dict(rows)
            lost = sum(stored.get(time) != value for time, value in acknowledged.items())
            pids = stack.pids("storage")
            assert stack.request("DELETE", f"/api/v2/buckets/{dropped}").status_code == 204
            started = time.monotonic()
            while (status := stack.write("kept v=2i 2", BUCKET).status_code) != 204:
                assert time.monotonic() - started < 60, status
                time.sleep(0.1)
            small_s = time.monotonic() - started
            big = "\n".join(f"again v={draw.randrange(1 << 62)}i {at}" for at in range(100_000))
            while (status := stack.write(big, BUCKET).status_code) != 204:
                assert time.monotonic() - started < 60, status
                time.sleep(0.2)
            big_s = time.monotonic() - started
            kept = stack.rows("SELECT count(v) FROM kept", BUCKET)[0][1]
            again = stack.rows("SELECT count(v) FROM again", BUCKET)[0][1]
            same = stack.pids("storage") == pids
        finally:
            stack.stop()
    case(
        "R11",
        f"acknowledged={len(acknowledged)} refusals={refused} lost={lost} small_again_s={small_s:.1f} "
        f"800kB_again_s={big_s:.1f} kept={kept} again={again} no_restart={same}",
        "503 with Retry-After, 0 lost, writes again in 30 s without a restart",
        lost == 0 and set(refused) == {(503, True)} and big_s <= 30 and (kept, again) == (2, 100_000) and same
        and bool(acknowledged),
    )  # fmt: skip


@pytest.mark.timeout(240)
def test_the_disk_becomes_read_only(tmp_path: Path) -> None:
    """While it runs the shim refuses writes as the kernel does then, so that it can heal; the start is on a real
    read-only mount."""
    shim = Shim(tmp_path)
    folder = tmp_path / "stack"
    with small_disk(folder / "data", "64m") as data:
        stack = Stack(folder, {"TIDEGATE_INTERNAL_KEY": KEY, **shim.environment}).start()
        try:
            assert stack.write("m v=1i 1", BUCKET).status_code == 204
            pids = stack.pids("storage")
            shim.pretend_read_only()
            shim.fail(WRITE, 1, errno.EROFS, ALWAYS)
            writes = [stack.write(f"m v=1i {10 + at}", BUCKET) for at in range(5)]
            answers = {(answer.status_code, answer.headers.get("Retry-After", "").isdigit()) for answer in writes}
            time.sleep(2)  # what runs in the background meets it too
            rows = stack.rows("SELECT v FROM m", BUCKET)
            same = stack.pids("storage") == pids
            shim.heal()
            started = time.monotonic()
            while stack.write("m v=2i 2", BUCKET).status_code != 204:
                assert time.monotonic() - started < 30
                time.sleep(0.1)
            healed_s = time.monotonic() - started
        finally:
            stack.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(data)], check=True)
        began = time.monotonic()
        alone = start_alone(stack)
        start_s = time.monotonic() - began
    said = last_line(alone)
    case(
        "R12",
        f"running: writes={sorted(answers)} rows={len(rows)} no_restart={same} healed_s={healed_s:.1f}; "
        f"start: status={alone.returncode} after_s={start_s:.1f} said={said[:160]!r}",
        "503 with Retry-After and reads; a start says so, status 1, in 3 s",
        answers == {(503, True)} and len(rows) == 1 and same and alone.returncode == 1 and start_s <= 3
        and "ead-only" in said and "Traceback" not in alone.stderr,
    )  # fmt: skip


@pytest.mark.timeout(240)
def test_the_kernel_makes_the_disk_read_only(tmp_path: Path) -> None:
    """The real thing: after an error ext4 takes no more writes of anybody, whatever is open; only a new mount helps."""
    folder, image = tmp_path / "stack", tmp_path / "disk"
    data = folder / "data"
    stack = Stack(folder, {"TIDEGATE_INTERNAL_KEY": KEY})
    with ext4_disk(data, image):
        stack.start()
        try:
            acknowledged = [at for at in range(50) if stack.write(f"m v={at}i {at}", BUCKET).status_code == 204]
            pids = stack.pids("storage")
            busy = subprocess.run(
                ["mount", "-o", "remount,ro", str(data)], check=False, capture_output=True, text=True
            ).stderr.splitlines()
            subprocess.run(["mount", "-o", "remount,abort", str(data)], check=True)
            writes = [stack.write(f"m v=1i {1000 + at}", BUCKET) for at in range(5)]
            answers = {(answer.status_code, answer.headers.get("Retry-After", "").isdigit()) for answer in writes}
            said = sorted({answer.json()["error"] for answer in writes})
            time.sleep(2)  # what runs in the background meets it too
            rows = stack.rows("SELECT v FROM m", BUCKET)
            same = stack.pids("storage") == pids
        finally:
            stack.stop()
        alone = start_alone(stack)
    with ext4_disk(data, image):  # mounted anew its journal is played back
        stack.start()
        try:
            found = [time for time, _ in stack.rows("SELECT v FROM m", BUCKET, epoch="ns")]
            again = stack.write("m v=1i 2000", BUCKET).status_code
        finally:
            stack.stop()
    lost = len(set(acknowledged) - set(found))
    case(
        "R12-kernel",
        f"remount_while_open={busy[:1]} running: writes={sorted(answers)} said={said[:1]} rows={len(rows)} "
        f"no_restart={same}; start: status={alone.returncode} said={last_line(alone)[:120]!r}; "
        f"mounted anew: lost={lost} write={again}",
        "503 with Retry-After and reads; a start says so, status 1; 0 lost",
        answers == {(503, True)} and len(rows) == len(acknowledged) == 50 and same and alone.returncode == 1
        and "ead-only" in last_line(alone) and lost == 0 and again == 204,
    )  # fmt: skip
