"""Whoever was told that a write is stored sees it in the next question, also while storage is killed and started."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.metrics_page import figure
from tests.stack import Stack

CLIENTS, KILLS = 4, 4
BETWEEN_KILLS_S = (0.5, 1.5)


@dataclass
class Seen:
    """What one client wrote, and where a question missed some of it."""

    acknowledged: int = 0
    asked: int = 0
    missed: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)


def write_and_ask(stack: Stack, number: int, stop: threading.Event, seen: Seen) -> None:
    """One point after the other into a measurement of its own and into one of all; after each both are counted."""
    session = requests.Session()
    session.headers["Authorization"] = f"Token {stack.token}"

    def send(method: str, path: str, **more: Any) -> requests.Response:
        """Until it is done: in between there is no storage."""
        while True:
            answer = session.request(method, f"{stack.url}{path}", timeout=60, **more)
            seen.statuses.add(answer.status_code)
            if answer.status_code != 503:
                assert answer.ok, answer.text
                return answer
            time.sleep(0.02)

    time_ns = number
    while not stop.is_set():
        time_ns += CLIENTS
        lines = f"own{number} v=1i {time_ns}\nshared,client=c{number} v=1i {time_ns}"
        send("POST", "/write", params={"db": "board"}, data=lines)
        seen.acknowledged += 1
        for text in (
            f"SELECT count(v) FROM own{number}",
            f"SELECT count(v) FROM shared WHERE client = 'c{number}'",
        ):
            result = send("GET", "/query", params={"db": "board", "q": text}).json()["results"][0]
            found = result["series"][0]["values"][0][1] if "series" in result else 0
            seen.asked += 1
            if found < seen.acknowledged:
                seen.missed.append(f"{text}: {found} of {seen.acknowledged}")


@contextmanager
def clients(stack: Stack) -> Iterator[list[Seen]]:
    """Clients at work during the block."""
    stop = threading.Event()
    seen = [Seen() for _ in range(CLIENTS)]
    threads = [
        threading.Thread(target=write_and_ask, args=(stack, number, stop, one)) for number, one in enumerate(seen)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def sees_changes(stack: Stack) -> bool:
    metrics = stack.request("GET", "/metrics").text
    return figure(metrics, "tidegate_query_board") == 1


@pytest.mark.timeout(300)
def test_what_is_acknowledged_is_seen_while_storage_is_killed(own_stack: Stack) -> None:
    draw = random.Random(5)
    own_stack.make_bucket("board")
    with clients(own_stack) as seen:
        for _ in range(KILLS):
            time.sleep(draw.uniform(*BETWEEN_KILLS_S))
            own_stack.kill(own_stack.pids("storage")[0])
            own_stack.wait_ready(30)
        time.sleep(1)
        assert sees_changes(own_stack)
    assert [miss for one in seen for miss in one.missed] == []
    assert set().union(*(one.statuses for one in seen)) <= {200, 204, 503}
    assert all(one.acknowledged > 20 for one in seen)


@pytest.mark.timeout(120)
def test_without_shared_memory_all_is_as_before(tmp_path_factory: pytest.TempPathFactory) -> None:
    stack = Stack(tmp_path_factory.mktemp("apart"), {"TIDEGATE_SHARED_MEMORY": ""}).start()
    try:
        stack.make_bucket("board")
        with clients(stack) as seen:
            time.sleep(1)
        assert not sees_changes(stack)
        assert [miss for one in seen for miss in one.missed] == []
    finally:
        stack.stop()


@pytest.mark.timeout(120)
def test_nothing_stays_in_memory_after_the_end(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    stack = Stack(tmp_path / "stack", {"TIDEGATE_SHARED_MEMORY": str(memory)}).start()
    try:
        stack.make_bucket("board")
        stack.write("m v=1i 1", "board")
        for _ in range(2):
            stack.query("SELECT v FROM m", "board")
        assert sees_changes(stack)
        assert len(list(memory.iterdir())) == 1
    finally:
        assert stack.stop() == 0
    assert list(memory.iterdir()) == []
