"""kill -9, SIGTERM and SIGSTOP of services under load (R01, R03–R08)."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import requests

from tests import writers as writing
from tests.faults.report import case, rounds
from tests.proxy import proxy_before
from tests.stack import Stack
from tests.system.test_crash import wait_for_restart
from tests.writers import Balance, Ledger, balance, writers

SERVICES = ("gateway", "auth", "ingest", "query", "storage")


def statuses_of(ledgers: list[Ledger]) -> dict[int, int]:
    total: dict[int, int] = {}
    for ledger in ledgers:
        for status, count in ledger.statuses.items():
            total[status] = total.get(status, 0) + count
    return dict(sorted(total.items()))


def is_right(result: Balance) -> bool:
    return result.acknowledged > 0 and result.lost == result.doubled == result.ghosts == 0


@pytest.mark.timeout(1800)
def test_storage_is_killed(own_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH", 400)
    draw = random.Random(1)
    own_stack.make_bucket("kills")
    worst_s = 0.0
    count = rounds(15, 100)
    gateway = own_stack.pids("gateway")
    with writers(own_stack, "kills", 8) as ledgers:
        for _ in range(count):
            time.sleep(draw.uniform(0.2, 1.0))
            victim = own_stack.pids("storage")[0]
            own_stack.kill(victim)
            worst_s = max(worst_s, wait_for_restart(own_stack, "storage", 1, victim))
    result, statuses = balance(own_stack, "kills", ledgers), statuses_of(ledgers)
    is_up = own_stack.pids("gateway") == gateway and not sum(ledger.failures for ledger in ledgers)
    case(
        "R01",
        f"rounds={count} {result} worst_recovery_s={worst_s:.1f} statuses={statuses} gateway_up={is_up}",
        "0 lost, ready in 5 s, gateway up",
        is_right(result) and worst_s <= 5 and is_up and statuses.keys() <= {204, 503},
    )


@pytest.mark.timeout(900)
def test_query_is_killed_in_mid_answer(own_stack: Stack) -> None:
    own_stack.make_bucket("kills")
    points = 40_000
    for start in range(0, points, 5000):
        lines = "\n".join(f"r v={time}i {time}" for time in range(start, start + 5000))
        assert own_stack.write(lines, "kills").status_code == 204
    draw = random.Random(3)
    count = rounds(15, 50)
    seen: dict[str, int] = {}
    with writers(own_stack, "kills", 1) as ledgers:
        for number in range(count):
            outcomes: list[str] = []
            stop = threading.Event()
            arguments = (own_stack, number, points, stop, outcomes)
            readers = [threading.Thread(target=_read_all, args=arguments) for _ in range(3)]
            for reader in readers:
                reader.start()
            time.sleep(draw.uniform(0.05, 0.6))
            victim = own_stack.pids("query")[0]
            own_stack.kill(victim)
            time.sleep(0.3)
            stop.set()
            for reader in readers:
                reader.join()
            wait_for_restart(own_stack, "query", 1, victim)
            for outcome in outcomes:
                seen[outcome] = seen.get(outcome, 0) + 1
    statuses = statuses_of(ledgers)
    result = balance(own_stack, "kills", ledgers)
    case(
        "R03",
        f"rounds={count} answers={seen} writes={statuses} {result}",
        "no short answer that looks whole; every write 204",
        not seen.keys() & {"short", "wrong"} and seen.get("error", 0) > 0 and statuses.keys() == {204}
        and is_right(result),
    )  # fmt: skip


def _read_all(stack: Stack, number: int, points: int, stop: threading.Event, outcomes: list[str]) -> None:
    """Read everything, again and again, whole and in chunks; what a client can see of each answer."""
    chunked = {"chunked": "true", "chunk_size": "1000"} if number % 2 else {}
    params = {"q": "SELECT v FROM r", "db": "kills", "epoch": "ns", **chunked}
    while not stop.is_set():
        try:
            answer = stack.request("GET", "/query", params=params)
            if answer.status_code != 200:
                outcomes.append("error" if answer.status_code in (502, 503) else "wrong")
                stop.wait(0.05)
                continue
            documents = [json.loads(line) for line in answer.text.splitlines() if line]
        except (requests.RequestException, ValueError) as error:
            # A cut stream is an error of the client's HTTP library; text that is no JSON would be one that looks whole.
            outcomes.append("wrong" if isinstance(error, json.JSONDecodeError) else "error")
            continue
        results = [result for document in documents for result in document["results"]]
        if any("error" in result for result in results):
            outcomes.append("error")
            continue
        rows = [row for result in results for series in result.get("series", []) for row in series["values"]]
        whole = len(rows) == points and all(time == value for time, value in rows)
        outcomes.append("whole" if whole else "short")


@dataclass
class Seen:
    """Statuses by kind of token."""

    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, status: int) -> None:
        with self.lock:
            of_kind = self.counts.setdefault(kind, {})
            of_kind[status] = of_kind.get(status, 0) + 1

    def of(self, kind: str) -> dict[int, int]:
        return dict(sorted(self.counts.get(kind, {}).items()))


@pytest.mark.timeout(900)
def test_auth_is_killed(own_stack: Stack) -> None:
    own_stack.make_bucket("kills")
    org = own_stack.org_id()
    count = rounds(12, 50)
    permissions = [{"action": action, "resource": {"type": "buckets", "orgID": org}} for action in ("read", "write")]
    body = {"orgID": org, "permissions": permissions}
    fresh = [own_stack.json("POST", "/api/v2/authorizations", body)["token"] for _ in range(2 * count)]
    seen = Seen()
    stop = threading.Event()

    def use(kind: str, token: str) -> int:
        answer = own_stack.request("POST", "/write", token, params={"db": "kills"}, data="t v=1i 1")
        seen.add(kind, answer.status_code)
        return answer.status_code

    def use_on() -> None:
        while not stop.is_set():
            use("known", own_stack.token)
            stop.wait(0.01)

    def use_bogus() -> None:
        while not stop.is_set():
            use("bogus", "no-such-token")
            stop.wait(0.02)

    threads = [threading.Thread(target=target) for target in (use_on, use_on, use_bogus)]
    for thread in threads:
        thread.start()
    at_once = 0
    try:
        for number in range(count):
            # Until the gateway follows the new auth too: then it forgets once more what it has been told before.
            settled = time.monotonic() + 1
            while use("known", own_stack.token) != 204 or time.monotonic() < settled:
                time.sleep(0.05)
            victim = own_stack.pids("auth")[0]
            own_stack.kill(victim)
            at_once += use("known", own_stack.token) == 204  # from the gateway's memory
            for token in fresh[2 * number : 2 * number + 2]:
                use("new", token)
            wait_for_restart(own_stack, "auth", 1, victim)
            time.sleep(0.2)
            for token in fresh[2 * number : 2 * number + 2]:
                assert use("later", token) == 204
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    known, new, bogus = seen.of("known"), seen.of("new"), seen.of("bogus")
    case(
        "R04",
        f"rounds={count} known={known} served_from_memory={at_once}/{count} new={new} bogus={bogus}",
        "valid tokens 204 or 503 and never 401; an unknown one 401 or 503",
        known.keys() <= {204, 503} and new.keys() <= {204, 503} and bogus.keys() <= {401, 503} and at_once == count,
    )


class Fronted(Stack):
    """The same stack through a proxy."""

    front = ""

    @property
    def url(self) -> str:
        return self.front or super().url


@pytest.mark.timeout(900)
def test_the_gateway_is_killed_behind_nginx(tmp_path: Path) -> None:
    stack = Fronted(tmp_path / "stack")
    stack.start()
    count = rounds(12, 50)
    try:
        stack.make_bucket("kills")
        with proxy_before(f"127.0.0.1:{stack.port}", tmp_path / "proxy") as url:
            stack.front = url
            with writers(stack, "kills", 4) as ledgers:
                for number in range(count):
                    time.sleep(0.2 + 0.05 * (number % 7))
                    victim = stack.pids("gateway")[0]
                    stack.kill(victim)
                    wait_for_restart(stack, "gateway", 1, victim)
            stack.front = ""
        result, statuses = balance(stack, "kills", ledgers), statuses_of(ledgers)
    finally:
        stack.stop()
    case(
        "R05",
        f"rounds={count} {result} statuses={statuses}",
        "0 lost, nothing but 204, 502, 503, 504",
        is_right(result) and statuses.keys() <= {204, 502, 503, 504},
    )


@pytest.mark.timeout(900)
def test_all_five_are_killed(own_stack: Stack) -> None:
    own_stack.make_bucket("kills")
    count = rounds(6, 30)
    worst_s = 0.0
    with writers(own_stack, "kills") as ledgers:
        for _ in range(count):
            time.sleep(0.7)
            for service in SERVICES:
                for pid in own_stack.pids(service):
                    own_stack.kill(pid)
            started = time.monotonic()
            own_stack.wait_ready(30)
            worst_s = max(worst_s, time.monotonic() - started)
    result = balance(own_stack, "kills", ledgers)
    case(
        "R06",
        f"rounds={count} {result} worst_ready_s={worst_s:.1f}",
        "0 lost, ready in 10 s",
        is_right(result) and worst_s <= 10,
    )


@dataclass
class Client:
    """Writes, a connection each, and keeps how requests ended that were under way at a moment."""

    stack: Stack
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: set[int] = field(default_factory=set)
    outcomes: dict[int, str] = field(default_factory=dict)
    next_id: int = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self.lock:
                self.next_id += 1
                id = self.next_id
            try:
                with requests.Session() as session:
                    outcome = self._send(session, id)
            except requests.ConnectionError as error:
                outcome = "refused" if "refused" in str(error) else f"broken: {error}"
            with self.lock:
                self.under_way.discard(id)
                self.outcomes[id] = outcome
            stop.wait(0.005)

    def _send(self, session: requests.Session, id: int) -> str:
        def body() -> Iterator[bytes]:
            # The connection stands when this is asked for: from here on the request is under way.
            with self.lock:
                self.under_way.add(id)
            yield b"t,w=w%d v=%di %d\n" % (id % 4, id, id)

        headers = {"Authorization": f"Token {self.stack.token}"}
        url = f"{self.stack.url}/write?db=kills"
        return str(session.post(url, data=body(), headers=headers, timeout=30).status_code)


@contextmanager
def clients(stack: Stack, count: int) -> Iterator[Client]:
    """Run *count* such writers for the length of a with block."""
    stop = threading.Event()
    client = Client(stack)
    threads = [threading.Thread(target=client.run, args=(stop,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield client
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_to_end(service: str, own_stack: Stack) -> None:
    own_stack.make_bucket("kills")
    count = rounds(3, 20)
    failed: list[str] = []
    hurt = 0
    worst_s = 0.0
    with clients(own_stack, 6) as client:
        for _ in range(count):
            time.sleep(0.7)
            victim = own_stack.pids(service)[0]
            process = psutil.Process(victim)
            with client.lock:
                under_way = set(client.under_way)
                os.kill(victim, signal.SIGTERM)
            started = time.monotonic()
            psutil.wait_procs([process], timeout=20)
            worst_s = max(worst_s, time.monotonic() - started)
            wait_for_restart(own_stack, service, 1, victim)
            time.sleep(0.3)
            with client.lock:
                hurt += len(under_way)
                failed += [client.outcomes.get(id, "none") for id in under_way if client.outcomes.get(id) != "204"]
    log = own_stack.log_path.read_text(errors="replace")
    ends = [line for line in log.splitlines() if "starting it again" in line and f'"{service}' in line]
    bad_ends = [line for line in ends if '"status": 0' not in line and '"status":0' not in line]
    outcomes = sorted(set(client.outcomes.values()))
    # 503 with Retry-After is an answer in good order of a request that needs the one that is gone.
    broken = [outcome for outcome in failed if outcome not in ("204", "503")]
    case(
        f"R07-{service}",
        f"rounds={count} under_way={hurt} broken={broken[:3]} refused_503={len(failed) - len(broken)} "
        f"worst_end_s={worst_s:.1f} ends_other_than_0={bad_ends[:1]} of {len(ends)} outcomes={outcomes[:6]}",
        "0 broken, end in 15 s with status 0",
        not broken and worst_s <= 15 and not bad_ends and len(ends) == count,
    )


@pytest.mark.timeout(300)
def test_storage_is_stopped_for_half_a_minute(own_stack: Stack) -> None:
    own_stack.make_bucket("kills")
    refusals: list[tuple[float, int, str]] = []
    with writers(own_stack, "kills", 4) as ledgers:
        time.sleep(1)
        victim = own_stack.pids("storage")[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            ends = time.monotonic() + 30
            while time.monotonic() < ends:
                started = time.monotonic()
                answer = own_stack.request("POST", "/write", params={"db": "kills"}, data="t v=1i 1", timeout=60)
                took_s = time.monotonic() - started
                refusals.append((took_s, answer.status_code, answer.headers.get("Retry-After", "")))
        finally:
            os.kill(victim, signal.SIGCONT)
        own_stack.wait_ready(30)
        time.sleep(1)
    result = balance(own_stack, "kills", ledgers)
    worst_s = max(took_s for took_s, _, _ in refusals)
    # The last one may have been answered after the other had come back.
    kinds = {(status, retry.isdigit()) for _, status, retry in refusals}
    case(
        "R08",
        f"{result} answers={len(refusals)} slowest_s={worst_s:.1f} kinds={sorted(kinds)} "
        f"statuses={statuses_of(ledgers)} cut={sum(ledger.failures for ledger in ledgers)}",
        "503 with Retry-After within 31 s, 0 lost, 0 doubled",
        is_right(result) and kinds <= {(503, True), (204, False)} and worst_s <= 31,
    )
