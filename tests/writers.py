"""Writers that note what was acknowledged, for tests that break things under them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

from tests.stack import Stack

BATCH = 50


@dataclass
class Ledger:
    """What one writer sent: every point has its own time, so a point stored twice is seen as a wrong sum.

    The value of a point is drawn once; ``acknowledged`` holds time → value of what was answered with 204,
    ``uncertain`` of everything else, which may or may not have arrived.
    """

    number: int
    acknowledged: dict[int, int] = field(default_factory=dict)
    uncertain: dict[int, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    failures: int = 0


def _write(stack: Stack, db: str, ledger: Ledger, stop: threading.Event) -> None:
    draw = random.Random(ledger.number)
    session = requests.Session()
    clock = 0
    headers = {"Authorization": f"Token {stack.token}"}
    while not stop.is_set():
        points = {clock + n + 1: draw.randrange(1 << 40) for n in range(BATCH)}
        clock += BATCH
        lines = "\n".join(f"m,w=w{ledger.number},s=s{time % 7} v={value}i {time}" for time, value in points.items())
        try:
            answer = session.post(f"{stack.url}/write", params={"db": db}, data=lines, headers=headers, timeout=30)
        except requests.RequestException:
            ledger.failures += 1
            ledger.uncertain |= points
            continue
        ledger.statuses[answer.status_code] = ledger.statuses.get(answer.status_code, 0) + 1
        if answer.status_code == 204:
            ledger.acknowledged |= points
        else:
            ledger.uncertain |= points
            stop.wait(0.05)


@contextmanager
def writers(stack: Stack, db: str, count: int = 4) -> Iterator[list[Ledger]]:
    """Run *count* writers for the length of a with block."""
    stop = threading.Event()
    ledgers = [Ledger(number) for number in range(count)]
    threads = [threading.Thread(target=_write, args=(stack, db, ledger, stop)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    try:
        yield ledgers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Balance:
    """What reading everything back shows."""

    acknowledged: int
    lost: int
    doubled: int
    ghosts: int


def balance(stack: Stack, db: str, ledgers: list[Ledger]) -> Balance:
    """Read every point back and compare it with what was sent."""
    lost = doubled = ghosts = acknowledged = 0
    for ledger in ledgers:
        rows = stack.rows(f"SELECT v FROM m WHERE w = 'w{ledger.number}'", db, epoch="ns")
        stored: dict[int, int] = {}
        for time, value in rows:
            doubled += time in stored
            stored[time] = value
        acknowledged += len(ledger.acknowledged)
        lost += sum(stored.get(time) != value for time, value in ledger.acknowledged.items())
        known = ledger.acknowledged | ledger.uncertain
        ghosts += sum(known.get(time) != value for time, value in stored.items())
        count = stack.rows(f"SELECT count(v) FROM m WHERE w = 'w{ledger.number}'", db)
        doubled += (count[0][1] if count else 0) - len(rows)
    return Balance(acknowledged, lost, doubled, ghosts)
