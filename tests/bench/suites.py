"""What is measured: bodies of many lines, new series, single points, and what each form of credential costs them; each
in a database of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import load, workload
from tests.bench.logins import BASIC, COLD_BASIC, COLD_TOKEN, JWT, QUERY, TOKEN
from tests.bench.servers import MemoryWatch, Server

IDLE_SHARE = 0.05
SETTLE_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Suite:
    """One load.

    Attributes:
        connections: how many bodies are under way at one time.
        lines_a_body: 1 = single points.
        for_s: stop after that time, 0 = send everything once.
        credential: in which form the writer says who it is; a server that does not know the form sits out.
    """

    name: str
    title: str
    hosts: int
    steps: int
    connections: int
    lines_a_body: int
    for_s: float = 0
    credential: str = TOKEN

    @property
    def lines(self) -> int:
        return self.hosts * self.steps


@dataclass(frozen=True, slots=True)
class Measured:
    """One suite on one server in one round."""

    points_per_s: float
    median_ms: float
    p99_ms: float
    cpu_s: float  # of the server, from the first byte until it is idle again
    cpu_s_per_million_values: float
    cpu_ms_a_write: dict[str, float]  # by process
    peak_bytes: int
    sent: int
    stored: int
    refused: int
    first_refusal: str


def suites(quick: bool) -> list[Suite]:
    """All suites; *quick* ones send a fifth."""
    part = 5 if quick else 1
    seconds = 1.5 if quick else 5.0
    kept = Suite("", "", 1000, int(seconds * 50), 16, 1, seconds)
    many_tokens = replace(kept, steps=5 // part, for_s=0)
    many_passwords = replace(kept, hosts=100 // part, steps=1, for_s=0)
    return [
        Suite("load4", "4 connections x 10,000 lines", 1000, 400 // part, 4, 10_000),
        Suite("load1", "1 connection x 1,000 lines", 1000, 100 // part, 1, 1_000),
        Suite("series", "4 x 10,000 lines, every line a new series", 100_000 // part, 1, 4, 10_000),
        *(
            Suite(f"points{n}", f"1-point writes, {n} connections", 1000, int(seconds * 50), n, 1, seconds)
            for n in (1, 8, 16, 64)
        ),
        *(
            replace(size, name=f"login-{name}", title=f"{title}: 1-point writes, 16 connections", credential=credential)
            for name, title, size, credential in (
                ("token", "an API token, remembered", kept, TOKEN),
                ("basic", "Basic with a password, remembered", kept, BASIC),
                ("query", "u and p with a password, remembered", kept, QUERY),
                ("jwt", "a 1.x token (JWT), remembered", kept, JWT),
                ("cold-token", "an API token never seen before, each", many_tokens, COLD_TOKEN),
                ("cold-basic", "a password never seen before, each", many_passwords, COLD_BASIC),
            )
        ),
    ]


class Bodies:
    """The rendered bodies of a suite in a file, made once for all servers and rounds."""

    def __init__(self, suite: Suite, folder: Path) -> None:
        tags = workload.hosts(suite.hosts)
        made = workload.bodies(workload.lines(tags, suite.steps), suite.lines_a_body)
        self.sizes = [len(body) for body in made]
        self.counts = [suite.lines_a_body] * (len(made) - 1) + [suite.lines - suite.lines_a_body * (len(made) - 1)]
        self.bytes = sum(self.sizes)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=suite.name, delete=False) as file:
            file.writelines(made)
            self.path = file.name


def measure(server: Server, suite: Suite, bodies: Bodies) -> Measured:
    """Send *bodies* to a database of this suite's own, wait until the server is idle, count what is stored."""
    server.make_database(suite.name)
    login = server.login(suite.credential, suite.name, len(bodies.sizes))
    plan = load.Plan(
        host="127.0.0.1",
        port=server.port,
        target=server.target(suite.name) + login.query,
        headers={} if login.query else server.headers,
        authorizations=login.authorizations,
        file=bodies.path,
        sizes=bodies.sizes,
        connections=suite.connections,
        for_s=suite.for_s,
    )
    before = server.cpu_by_process()
    with MemoryWatch(server) as memory:
        figures = load.run(plan)
        _settle(server.cpu_s)
    spent = {name: cpu_s - before.get(name, 0) for name, cpu_s in server.cpu_by_process().items()}
    cpu_s = sum(spent.values())
    sent = sum(bodies.counts[: figures.bodies]) if not figures.refused else -1
    values = max(sent, 1) * len(workload.FIELDS)
    return Measured(
        points_per_s=sent / figures.seconds,
        median_ms=figures.median_ms,
        p99_ms=figures.p99_ms,
        cpu_s=cpu_s,
        cpu_s_per_million_values=cpu_s / values * 1e6,
        cpu_ms_a_write={name: one / max(figures.bodies, 1) * 1000 for name, one in spent.items()},
        peak_bytes=memory.peak_bytes,
        sent=sent,
        stored=server.count(suite.name),
        refused=figures.refused,
        first_refusal=figures.first_refusal,
    )


def _settle(cpu_s: Callable[[], float]) -> None:
    """Wait until the server does nothing any more: what it puts off is part of the cost."""
    deadline = time.monotonic() + SETTLE_WITHIN_S
    before = cpu_s()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = cpu_s()
        if (now - before) / 0.5 < IDLE_SHARE:
            return
        before = now
