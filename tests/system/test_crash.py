"""kill -9 under four writers: what was acknowledged is there, each point once (R01, R02, R06, R24)."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from tests.stack import ROOT, Stack
from tests.writers import Balance, balance, writers

STORAGE_ROUNDS, INGEST_ROUNDS = 20, 10


def wait_for_restart(stack: Stack, service: str, count: int, gone: int) -> float:
    """Wait until *service* runs again with *count* replicas and everything is ready; seconds that it took."""
    started = time.monotonic()
    while time.monotonic() - started < 30:
        pids = stack.pids(service)
        if gone not in pids and len(pids) == count:
            stack.wait_ready(30)
            return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError(f"{service} did not come back")


@pytest.mark.timeout(400)
def test_storage_is_killed_again_and_again(own_stack: Stack) -> None:
    draw = random.Random(1)
    own_stack.make_bucket("crash")
    worst_s = 0.0
    with writers(own_stack, "crash") as ledgers:
        for _ in range(STORAGE_ROUNDS):
            time.sleep(draw.uniform(0.3, 1.0))
            victim = own_stack.pids("storage")[0]
            own_stack.kill(victim)
            worst_s = max(worst_s, wait_for_restart(own_stack, "storage", 1, victim))
    result = balance(own_stack, "crash", ledgers)
    statuses = {status for ledger in ledgers for status in ledger.statuses}
    print(f"CASE R01 rounds={STORAGE_ROUNDS} {result} worst_recovery_s={worst_s:.1f} statuses={sorted(statuses)}")
    assert result == Balance(result.acknowledged, 0, 0, 0)
    assert result.acknowledged > 1000
    assert statuses <= {204, 503}
    # And once more from cold, after an end in good order.
    assert own_stack.stop() == 0
    own_stack.start()
    assert balance(own_stack, "crash", ledgers) == result


@pytest.mark.timeout(300)
def test_an_ingest_is_killed_again_and_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    stack = Stack(tmp_path_factory.mktemp("ingests"), {"INGEST": "3"}).start()
    stack.make_bucket("crash")
    try:
        with writers(stack, "crash") as ledgers:
            for number in range(INGEST_ROUNDS):
                time.sleep(0.5)
                victim = stack.pids("ingest")[number % 3]
                stack.kill(victim)
                wait_for_restart(stack, "ingest", 3, victim)
        result = balance(stack, "crash", ledgers)
        statuses = {status for ledger in ledgers for status in ledger.statuses}
        print(f"CASE R02 rounds={INGEST_ROUNDS} {result} statuses={sorted(statuses)}")
        assert result == Balance(result.acknowledged, 0, 0, 0)
        assert statuses <= {204, 503}
    finally:
        stack.stop()


def test_all_five_are_killed_at_once(own_stack: Stack) -> None:
    own_stack.make_bucket("crash")
    with writers(own_stack, "crash") as ledgers:
        time.sleep(1.5)
        for service in ("gateway", "auth", "ingest", "query", "storage"):
            for pid in own_stack.pids(service):
                own_stack.kill(pid)
        own_stack.wait_ready(30)
    result = balance(own_stack, "crash", ledgers)
    assert result == Balance(result.acknowledged, 0, 0, 0)


def test_sigterm_under_load_ends_in_time_and_loses_nothing(own_stack: Stack) -> None:
    own_stack.make_bucket("crash")
    with writers(own_stack, "crash") as ledgers:
        time.sleep(1.5)
        started = time.monotonic()
        assert own_stack.stop() == 0
        took_s = time.monotonic() - started
    assert took_s < 15
    own_stack.start()
    result = balance(own_stack, "crash", ledgers)
    assert result == Balance(result.acknowledged, 0, 0, 0)


def test_a_second_start_on_the_same_data_says_who_holds_it(own_stack: Stack) -> None:
    assert own_stack.process is not None
    environment = {**os.environ, **own_stack.settings()}
    second = subprocess.run(
        [sys.executable, "-m", "services"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert f"held by process {own_stack.process.pid}" in second.stderr
    alone = subprocess.run(
        [sys.executable, "-m", "services.storage"],
        cwd=ROOT, env={**environment, "TIDEGATE_STORAGE_PORT": "0"}, capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert alone.returncode == 1
    assert str(own_stack.pids("storage")[0]) in alone.stderr
    assert own_stack.request("GET", "/ready", None).status_code == 200
