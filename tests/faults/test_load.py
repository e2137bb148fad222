"""Rated load, a burst over it in little memory, and ingests that come and go under it (L04, L05, L06, L14, L15)."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import requests

from common.web import LAG_BUCKETS_S as BOUNDS_S
from tests.faults.report import case, rounds
from tests.stack import ROOT, Stack

HOSTS, TIMES, FIELDS = 1000, 5, 10
LINES = HOSTS * TIMES
SERVICES = ("gateway", "auth", "ingest", "query", "storage")
MEMORY_BYTES = 1536 << 20  # of all services together


def template(writer: int) -> bytes:
    """A body of 5,000 lines whose times stand as @0@ … @4@."""
    draw = random.Random(writer)
    return "\n".join(
        f"cpu,host=h{host},w=w{writer} {','.join(f'f{n}={draw.randrange(100)}i' for n in range(FIELDS))} @{at}@"
        for at in range(TIMES)
        for host in range(HOSTS)
    ).encode()


@dataclass
class Load:
    """What some writers sent and were told.

    Attributes:
        acknowledged: bodies by writer.
        strange: answers that no client should see.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: Counter[int] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    cut: int = 0


def write(stack: Stack, db: str, load: Load, writer: int, body: bytes) -> None:
    """Send the body again and again, each time with later times, until it is enough."""
    session = requests.Session()
    headers = {"Authorization": f"Token {stack.token}"}
    at = 1_700_000_000
    while not load.stop.is_set():
        text = body
        for place in range(TIMES):
            text = text.replace(b"@%d@" % place, b"%d" % (at + place))
        began = time.monotonic()
        try:
            answer = session.post(
                f"{stack.url}/write", params={"db": db, "precision": "s"}, data=text, headers=headers, timeout=60
            )
        except requests.RequestException:
            load.cut += 1
            continue
        load.seconds.append(time.monotonic() - began)
        load.statuses[answer.status_code] += 1
        if answer.status_code == 204:
            load.acknowledged[writer] += 1
            at += TIMES
        elif answer.status_code == 503 and answer.headers.get("Retry-After", "").isdigit():
            time.sleep(0.2)
        else:
            load.strange.append(f"{answer.status_code} {answer.text[:100]}")


@contextmanager
def loaded(stack: Stack, db: str, writers: int, distinct: int = 8) -> Iterator[Load]:
    """*writers* threads for the length of a with block; every *distinct*-th sends the same series."""
    load = Load()
    bodies = [template(number) for number in range(min(writers, distinct))]
    threads = [
        threading.Thread(target=write, args=(stack, db, load, number, bodies[number % len(bodies)]))
        for number in range(writers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()


def stored(stack: Stack, db: str, writers: int) -> dict[int, int]:
    """Points of each of the first *writers*."""
    return {
        writer: (stack.rows(f"SELECT count(f0) FROM cpu WHERE w = 'w{writer}'", db) or [[0, 0]])[0][1]
        for writer in range(writers)
    }


def missing(stack: Stack, db: str, load: Load, writers: int) -> int:
    """Acknowledged points that are not there; a writer whose body was cut may have more."""
    found = stored(stack, db, writers)
    return sum(max(0, load.acknowledged[writer] * LINES - found[writer]) for writer in range(writers))


def memory_bytes(stack: Stack) -> int:
    return sum(psutil.Process(pid).memory_info().rss for service in SERVICES for pid in stack.pids(service))


def delays_of(stack: Stack, service: str) -> dict[float, float]:
    """Upper bound in seconds → timers of the event loop that fired within it, of all replicas."""
    counts: dict[float, float] = {}
    for pid in stack.pids(service):
        ports = [one.laddr.port for one in psutil.Process(pid).net_connections("tcp") if one.status == "LISTEN"]
        for port in ports:
            text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            for line in text.splitlines():
                if line.startswith("tidegate_event_loop_delay_seconds_bucket"):
                    bound = float(line.partition('le="')[2].partition('"')[0])
                    counts[bound] = counts.get(bound, 0) + float(line.rsplit(" ", 1)[1])
    return counts


# A loop that has nothing to do: what it is late is the machine's doing.
IDLE_LOOP = """
import asyncio, sys, time
async def main():
    late, end = [], asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not end.done():
        before = time.monotonic()
        await asyncio.sleep(0.1)
        late.append(time.monotonic() - before - 0.1)
    print(sorted(late)[int(0.99 * len(late))])
asyncio.run(main())
"""


def p99_of(before: dict[float, float], after: dict[float, float]) -> float:
    """The bound under which 99 of 100 timers fired."""
    within = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = within[max(within)]
    return next(bound for bound, count in within.items() if count >= 0.99 * total)


@pytest.mark.timeout(500)
def test_rated_load(own_stack: Stack) -> None:
    seconds = min(300, 10 * rounds(4, 30))
    own_stack.make_bucket("load")
    largest = 0
    with loaded(own_stack, "load", 8) as load:
        time.sleep(3)  # the first series
        idle = subprocess.Popen(
            [sys.executable, "-c", IDLE_LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        before = {service: delays_of(own_stack, service) for service in SERVICES}
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            largest = max(largest, memory_bytes(own_stack))
            time.sleep(0.5)
        lag_s = {service: p99_of(before[service], delays_of(own_stack, service)) for service in SERVICES}
        idle_s = float(idle.communicate()[0])
    lost = missing(own_stack, "load", load, 8)
    answers = sorted(load.seconds)
    p99_s = answers[int(0.99 * len(answers))]
    case(
        "L04",
        f"writers=8 seconds={seconds} lines={sum(load.acknowledged.values()) * LINES} statuses={dict(load.statuses)} "
        f"p99_s={p99_s:.2f} largest_mb={largest >> 20} lost={lost}",
        "204 only, 0 lost, 1536 MB",
        set(load.statuses) == {204} and not lost and largest <= MEMORY_BYTES,
    )
    # A machine that is busy otherwise makes every loop late.
    bound_s = max(0.05, 4 * idle_s)
    case(
        "L14",
        f"p99_s<={lag_s} of_an_idle_loop_s={idle_s:.3f}",
        "0.05, or 4 times that of an idle loop beside",
        max(lag_s.values()) <= next(bound for bound in sorted(BOUNDS_S) if bound >= min(bound_s, 1)),
    )


@pytest.mark.timeout(500)
def test_ingests_come_and_go(own_stack: Stack) -> None:
    seconds = 5 * rounds(2)
    own_stack.make_bucket("scaled")
    rates = []
    more: list[subprocess.Popen[bytes]] = []
    statuses = []
    with loaded(own_stack, "scaled", 8) as load:

        def measure() -> None:
            before = sum(load.acknowledged.values())
            time.sleep(seconds)
            rates.append((sum(load.acknowledged.values()) - before) * LINES // seconds)

        measure()
        try:
            with own_stack.log_path.open("ab") as log:
                for _ in range(2):
                    environment = {**os.environ, **own_stack.settings()}
                    more.append(
                        subprocess.Popen(
                            [sys.executable, "-m", "services.ingest"], cwd=ROOT, env=environment, stdout=log, stderr=log
                        )
                    )
            time.sleep(3)
            measure()
        finally:
            for process in more:
                process.terminate()
            statuses += [process.wait(30) for process in more]
        measure()
    lost = missing(own_stack, "scaled", load, 8)
    case(
        "L15",
        f"ingests=1,3,1 lines_a_s={rates} statuses={dict(load.statuses)} strange={load.strange[:2]} lost={lost} "
        f"ends={statuses} cores={os.cpu_count()}",
        "0 lost, 204 or 503, status 0",
        not lost and not load.strange and not load.cut and set(load.statuses) <= {204, 503} and statuses == [0, 0],
    )


# What L05 gives each service for what is under way: a quarter of the writers find room at the gateway.
SMALL_BUDGET_BYTES = 16 << 20
# What L06 gives all of them together, programs included.
GROUP_BYTES = 1 << 30
GROUPS = Path("/sys/fs/cgroup/memory")


@dataclass
class Group:
    """A group of processes that the kernel kills when they take more than GROUP_BYTES; None = there is no such thing
    here."""

    folder: Path | None

    def read(self, name: str) -> str:
        return "" if self.folder is None else (self.folder / f"memory.{name}").read_text()

    @property
    def peak_bytes(self) -> int:
        return int(self.read("max_usage_in_bytes") or 0)

    @property
    def kills(self) -> int:
        words = self.read("oom_control").split()
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


@contextmanager
def memory_group() -> Iterator[Group]:
    """What is started within the block and by it is in the group, as long as it lives; root and cgroup v1."""
    if os.getuid() != 0 or not os.access(GROUPS / "cgroup.procs", os.W_OK):
        yield Group(None)
        return
    of_tests = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line)
    before = GROUPS / of_tests.split(":", 2)[2].lstrip("/")
    folder = GROUPS / f"tidegate-test-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(GROUP_BYTES))
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield Group(folder)
        finally:
            # Ours, and what may outlive a stack: a compiler that fills the cache for later.
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (before / "cgroup.procs").write_text(pid)
    finally:
        folder.rmdir()


@pytest.mark.timeout(500)
def test_a_burst(tmp_path: Path) -> None:
    """64 writers on services that may take little for what is under way (L05), in a group of little memory (L06)."""
    stack = Stack(tmp_path / "stack", {"TIDEGATE_MEMORY_BYTES": str(SMALL_BUDGET_BYTES)})
    bodies_s = min(60, 10 * rounds(2, 6))
    try:
        with memory_group() as group:
            stack.start()
            stack.make_bucket("burst")
            first = {service: stack.pids(service) for service in SERVICES}
            largest = 0
            with loaded(stack, "burst", 64, distinct=64) as load:
                ends = time.monotonic() + bodies_s
                while time.monotonic() < ends:
                    largest = max(largest, memory_bytes(stack))
                    time.sleep(0.3)
            began = time.monotonic()
            assert stack.write("after v=1 1", "burst").status_code == 204
            calm_s = time.monotonic() - began
            alive = first == {service: stack.pids(service) for service in SERVICES}
            stack.stop()
            killed, peak = group.kills, group.peak_bytes
        # Counted with the memory of everyday.
        stack.environment = {}
        stack.start()
        lost = missing(stack, "burst", load, 64)
        case(
            "L05",
            f"budget_mb={SMALL_BUDGET_BYTES >> 20} seconds={bodies_s} statuses={dict(load.statuses)} "
            f"strange={load.strange[:2]} cut={load.cut} lost={lost} calm_s={calm_s:.1f}",
            "204, or 503 with Retry-After, and both; 0 lost; calm in 10 s",
            set(load.statuses) == {204, 503} and not load.strange and not load.cut and not lost and calm_s <= 10,
        )
        case(
            "L06",
            f"group_mb={GROUP_BYTES >> 20 if group.folder else None} killed={killed} group_peak_mb={peak >> 20} "
            f"largest_mb={largest >> 20} all_alive={alive}",
            "no process dies, 1024 MB",
            alive and not killed and largest <= GROUP_BYTES,
        )
    finally:
        stack.stop()
