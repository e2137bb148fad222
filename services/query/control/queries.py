"""Queries under way in this process: who asks what, in which phase, at what cost; and how one is ended.

A query is ended at its next wait: an error of its statement while nothing of the answer is on its way, a broken
connection once it is sent. Source: spec/README.md, decision 15; InfluxDB 1.12, SHOW QUERIES and KILL QUERY.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property
from typing import Any

from common.errors import Invalid, NotFound
from common.identity import Identity
from services.query.influxql import tree
from services.query.influxql.format import format_statement

# An id is (number of the replica, count): both together stay exact in a JSON number of any client (2^53).
REPLICA_BITS, COUNT_BITS = 20, 32
# Longer texts are cut where they are listed or logged.
MAX_TEXT_CHARS = 2_000


class Phase(Enum):
    """What a query is doing."""

    WAITING = "waiting"
    PLANNING = "planning"
    READING = "reading"
    AGGREGATING = "aggregating"
    SENDING = "sending"

    # That of an Enum is written in Python, and costs a short question 10 us.
    __hash__ = object.__hash__


# How ``Cost.summary`` tells the milliseconds of each.
_PHASES = "".join(f";{phase.value}_ms=%.3f" for phase in Phase)


@dataclass(slots=True)
class Cost:
    """What a query has taken so far.

    Attributes:
        segments_read: whose rows it worked on; ``segments_skipped``: of the same measurements, outside its times.
        segments_told: that were not read, because their statistics tell what is asked.
        bytes_read: stored size of the column chunks that it works on, from the cache or not.
        rows_scanned: chosen by series and time; ``rows_told``: of the answer.
        seconds: by phase.
    """

    segments_read: int = 0
    segments_skipped: int = 0
    segments_told: int = 0
    bytes_read: int = 0
    series: int = 0
    rows_scanned: int = 0
    rows_told: int = 0
    seconds: dict[Phase, float] = field(default_factory=lambda: dict.fromkeys(Phase, 0.0))

    def go_back_to(self, before: Cost) -> None:
        """Count what was counted *before*; the time is spent."""
        for each in fields(self):
            if each.name != "seconds":
                setattr(self, each.name, getattr(before, each.name))

    def summary(self) -> str:
        """As ``X-Tidegate-Stats`` has it."""
        phases = _PHASES % tuple([seconds * 1e3 for seconds in self.seconds.values()])
        return (
            f"segments_read={self.segments_read};segments_skipped={self.segments_skipped}"
            f";segments_told={self.segments_told};bytes_read={self.bytes_read};series={self.series}"
            f";rows_scanned={self.rows_scanned};rows_told={self.rows_told}{phases}"
        )


class Running:
    """One request under way.

    Attributes:
        changes: what its statements have changed at auth: tags and number of each change.
        under_way: the step that it is in.
        reader: the task that waits until a piece of the answer is taken.
    """

    def __init__(
        self, statements: Sequence[tree.Statement] = (), database: str = "", identity: Identity | None = None
    ) -> None:
        self.id = 0
        self.database = database
        self.identity = identity
        self.cost = Cost()
        self.phase = Phase.PLANNING
        self.killed = False
        self.changes: list[Any] = []
        self._statements = statements
        self._started = self._entered = time.monotonic()
        self.under_way: Step | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False
        self.reader: asyncio.Task[object] | None = None

    @property
    def text(self) -> str:
        """The statements without passwords, cut."""
        text = "; ".join(map(format_statement, self._statements[:100]))
        return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def worked_s(self) -> float:
        """Seconds in which it has neither waited for its turn nor for its reader."""
        return sum(s for phase, s in self.cost.seconds.items() if phase not in (Phase.WAITING, Phase.SENDING))

    def enter(self, phase: Phase) -> None:
        """Go on to *phase*; the time since the last change is that of the phase which ends."""
        now = time.monotonic()
        self.cost.seconds[self.phase] += now - self._entered
        self.phase, self._entered = phase, now

    def step(self, deadline_s: float | None = None) -> Step:
        """A block that ends when the query is killed or the deadline (of the loop's clock) is past.

        Args:
            deadline_s: the same for all steps that have one.

        Raises:
            Invalid: ``query interrupted`` or ``query-timeout limit exceeded``.
        """
        if self._timer is None and deadline_s is not None:
            self._timer = self.loop.call_at(deadline_s, self._expire)
        return Step(self)

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which it runs; kept, as to ask for it takes a system call."""
        return asyncio.get_running_loop()

    def end(self) -> None:
        """Nothing of it runs any more."""
        if self._timer is not None:
            self._timer.cancel()

    def refusal(self) -> Invalid | None:
        """Why it may not go on."""
        if self.killed:
            return Invalid("query interrupted")
        return Invalid("query-timeout limit exceeded") if self._expired else None

    def _expire(self) -> None:
        self._expired = True
        if self.under_way is not None:
            self.under_way.interrupt()

    def sending(self) -> Sending:
        """A block in which a piece of the answer is on its way to a reader who may be slow."""
        return Sending(self)

    def kill(self) -> None:
        """End it, in whatever phase it is."""
        self.killed = True
        if self.under_way is not None:
            self.under_way.interrupt()
        elif self.reader is not None:
            self.reader.cancel("query interrupted")


class Step:
    """A with block that is interrupted when its query may not go on.

    As ``asyncio.timeout``, but that all steps of a query share one timer: a short question has two of them.
    """

    __slots__ = ("_cancelling", "_interrupted", "_running", "_task")

    def __init__(self, running: Running) -> None:
        self._running = running
        self._interrupted = False

    def __enter__(self) -> None:
        refusal = self._running.refusal()
        if refusal is not None:
            raise refusal
        task = asyncio.current_task(self._running.loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._running.under_way = self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._running.under_way = None
        if self._interrupted and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._running.refusal() or RuntimeError("a step is interrupted without a cause") from None

    def interrupt(self) -> None:
        """Cancel what is under way; the block then raises why."""
        if not self._interrupted:
            self._interrupted = True
            self._task.cancel()


class Sending:
    """See ``Running.sending``."""

    __slots__ = ("_before", "_running")

    def __init__(self, running: Running) -> None:
        self._running = running

    def __enter__(self) -> None:
        self._before = self._running.phase
        self._running.enter(Phase.SENDING)
        self._running.reader = asyncio.current_task(self._running.loop)

    def __exit__(self, *_: object) -> None:
        self._running.reader = None
        self._running.enter(self._before)


def replica_number(url: str) -> int:
    """What the ids of the replica at *url* begin with."""
    return zlib.crc32(url.encode()) & ((1 << REPLICA_BITS) - 1)


def replica_of(id: int) -> int:
    """The replica that a query's id names."""
    return id >> COUNT_BITS


def may_end(identity: Identity, running: Running) -> bool:
    """Whether *identity* may see and end a query: its user's own, or any of an organization that it may change."""
    owner = running.identity
    if owner is None or owner.org_id is None or owner.org_id != identity.org_id:
        return False
    return owner.user_id == identity.user_id or identity.may("write", "orgs", owner.org_id)


class Queries:
    """All requests under way in this process."""

    def __init__(self) -> None:
        self._running: dict[int, Running] = {}
        self._count = itertools.count(1)
        self.executed = 0
        self.finished = 0
        self.duration_s = 0.0
        self.started_s = time.time()

    def add(self, running: Running, replica: int) -> None:
        """List *running* until ``remove``."""
        running.id = replica << COUNT_BITS | next(self._count) & ((1 << COUNT_BITS) - 1)
        self._running[running.id] = running
        self.executed += 1

    def remove(self, running: Running) -> None:
        """It has ended."""
        del self._running[running.id]
        running.end()
        running.enter(running.phase)
        self.finished += 1
        self.duration_s += running.seconds

    def __len__(self) -> int:
        return len(self._running)

    def seen_by(self, identity: Identity) -> list[Running]:
        return [running for running in self._running.values() if may_end(identity, running)]

    def kill(self, id: int, identity: Identity) -> None:
        """End the query *id*. Raises NotFound: there is none that the caller may end, in InfluxDB's words."""
        running = self._running.get(id)
        if running is None or not may_end(identity, running):
            raise NotFound(f"no such query id: {id}")
        if running.killed:
            raise Invalid("already killed")
        running.kill()
