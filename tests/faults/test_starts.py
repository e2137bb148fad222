"""Services started one by one in any order (R22), and without storage for a while (R23)."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.faults.report import case, rounds
from tests.stack import BUCKET, ROOT, Stack

SERVICES = ("storage", "auth", "ingest", "query", "gateway")
KEY = "a key of the starts that is long enough"


@contextmanager
def processes(stack: Stack) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Services that the test starts by itself; those that run at the end are ended."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        yield running
    finally:
        for name in ("gateway", "query", "ingest", "auth", "storage"):
            if name in running:
                running[name].terminate()
                running[name].wait(20)


def start(stack: Stack, running: dict[str, subprocess.Popen[bytes]], names: Sequence[str]) -> None:
    """Start these, one after the other."""
    for name in names:
        with stack.log_path.open("ab") as log:
            running[name] = subprocess.Popen(
                [sys.executable, "-m", f"services.{name}"],
                cwd=ROOT,
                env={**os.environ, **stack.settings()},
                stdout=log,
                stderr=log,
            )


def alone(folder: Path) -> Stack:
    """A stack without its supervisor."""
    stack = Stack(folder, {"TIDEGATE_INTERNAL_KEY": KEY})
    folder.mkdir(parents=True)
    return stack


@pytest.mark.timeout(900)
def test_any_order_of_starts(tmp_path: Path) -> None:
    orders = list(itertools.permutations(SERVICES))
    random.Random(22).shuffle(orders)
    chosen = orders[: rounds(12, 120)]
    worst_s, ended = 0.0, 0
    for number, order in enumerate(chosen):
        stack = alone(tmp_path / str(number))
        with processes(stack) as running:
            began = time.monotonic()
            start(stack, running, order)
            stack.wait_ready(60)
            worst_s = max(worst_s, time.monotonic() - began)
            ended += sum(process.poll() is not None for process in running.values())
            assert stack.write("m v=1 1", BUCKET).status_code == 204
            assert stack.rows("SELECT v FROM m", BUCKET)[0][1] == 1
    case(
        "R22",
        f"orders={len(chosen)} worst_ready_s={worst_s:.1f} ended={ended}",
        "15 s, none ends",
        worst_s <= 15 and not ended,
    )


@pytest.mark.timeout(300)
def test_storage_comes_late(tmp_path: Path) -> None:
    absent_s = 3 * rounds(2, 10)
    stack = alone(tmp_path / "late")
    with processes(stack) as running:
        start(stack, running, [name for name in SERVICES if name != "storage"])
        answers: set[tuple[int, int, bool]] = set()
        ends = time.monotonic() + absent_s
        # A busy machine may take longer until the gateway listens at all.
        while time.monotonic() < ends or (not answers and time.monotonic() < ends + 60):
            with contextlib.suppress(requests.ConnectionError):  # it does not listen yet
                health = requests.get(f"{stack.url}/health", timeout=5)
                ready = requests.get(f"{stack.url}/ready", timeout=5)
                answers.add((health.status_code, ready.status_code, "storage" in ready.text))
            time.sleep(0.2)
        start(stack, running, ["storage"])
        while True:  # until it listens; the limit is for what comes after
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{stack.storage_port}/ready", timeout=5).status_code == 200:
                    break
            time.sleep(0.02)
        began = time.monotonic()
        while requests.get(f"{stack.url}/ready", timeout=5).status_code != 200:
            assert time.monotonic() - began < 30, requests.get(f"{stack.url}/ready", timeout=5).text
            time.sleep(0.02)
        ready_s = time.monotonic() - began
        ended = sum(process.poll() is not None for process in running.values())
    case(
        "R23",
        f"absent_s={absent_s} health,ready,named={sorted(answers)} ready_after_s={ready_s:.1f} ended={ended}",
        "/health 200, /ready 503 with the reason, then 200 in 2 s",
        answers == {(200, 503, True)} and ready_s <= 2 and not ended,
    )
