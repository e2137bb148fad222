"""Group commit: what arrives while a transaction is under way goes together into the next one (design, decision 5).

There is no timer: the wait of a group is the group before it. Every change of what is stored goes through here, one
group at a time, so a job sees a state that nobody else changes, and numbers follow the order of the groups.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, Protocol

from common.errors import InfluxError, InternalError, Unavailable
from common.log import get_logger
from services.storage.catalog.fatal import end_process
from services.storage.catalog.interface import Catalog, Transaction
from services.storage.commits.draft import Draft
from services.storage.commits.feed import Feed
from services.storage.state.state import State

log = get_logger("storage.commits")
MAX_GROUP_JOBS = 512
MAX_GROUP_BYTES = 32 << 20
MAX_QUEUED_JOBS = 4096
# An idle moment in which the log is written back, so that the next busy one starts with a short log.
IDLE_S = 0.2


class Job(Protocol):
    """One change. ``run`` raises an InfluxError, if at all, before it changes anything."""

    size: int

    def run(self, transaction: Transaction, draft: Draft) -> Any:
        """Check and change, in the database's thread; returns the answer, given when it is on disk."""


@dataclass(slots=True)
class _Queued:
    job: Job
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Culprit(Exception):
    """A job failed in a way that spoils its group."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(str(error))
        self.index = index
        self.error = error


class Committer:
    """The one writer.

    Args:
        on_group: told the number of jobs and bytes of each group.
    """

    def __init__(
        self,
        catalog: Catalog,
        state: State,
        feed: Feed,
        *,
        on_group: Callable[[int, int], None] = lambda jobs, size: None,
        on_fatal: Callable[[str], NoReturn] = end_process,
    ) -> None:
        self._catalog = catalog
        self._state = state
        self._feed = feed
        self._on_group = on_group
        self._on_fatal = on_fatal
        self._queue: deque[_Queued] = deque()
        self._work = asyncio.Event()
        self._idle = False
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._check_end)

    def _check_end(self, task: asyncio.Task[None]) -> None:
        """The writer must not die alone: memory and disk may differ then, and every change would wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the writer failed", exc_info=error)
            self._on_fatal(f"the writer failed: {error}")

    async def close(self) -> None:
        """Finish what is queued, then stop; later jobs are refused."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task

    async def submit(self, job: Job) -> Any:
        """Run *job* in the next group; returns its answer when the group is on disk.

        Raises what the job raises, and Unavailable when the queue is full or the disk is.
        """
        if self._closing:
            raise Unavailable("storage is stopping", retry_after_s=1)
        if len(self._queue) >= MAX_QUEUED_JOBS:
            raise Unavailable(f"cannot store: {MAX_QUEUED_JOBS} changes are waiting", retry_after_s=1)
        queued = _Queued(job)
        self._queue.append(queued)
        self._work.set()
        return await queued.answer

    # ---- the writer's task

    async def _run(self) -> None:
        while True:
            group = self._take()
            if group:
                await self._commit(group)
                if self._catalog.is_log_long(idle=False):
                    await self._catalog.write_log_back()
            elif self._closing:
                return
            else:
                await self._rest()

    async def _rest(self) -> None:
        self._work.clear()
        # A timer of its own, not wait_for: that makes a task, between any two single points.
        timer = asyncio.get_running_loop().call_later(IDLE_S, self._note_idle)
        await self._work.wait()
        timer.cancel()
        if self._idle:
            self._idle = False
            if not self._queue and self._catalog.is_log_long(idle=True):
                await self._catalog.write_log_back()
            if not self._queue and not self._closing:
                self._work.clear()
                await self._work.wait()

    def _note_idle(self) -> None:
        self._idle = True
        self._work.set()

    def _take(self) -> list[_Queued]:
        """The next group: as many as there are, up to the bounds."""
        group: list[_Queued] = []
        size = 0
        while self._queue and len(group) < MAX_GROUP_JOBS and (not group or size < MAX_GROUP_BYTES):
            queued = self._queue.popleft()
            if not queued.answer.done():  # its caller may have gone away
                group.append(queued)
                size += queued.job.size
        return group

    async def _commit(self, group: list[_Queued]) -> None:
        """Commit *group*; a job that spoils it is taken out, and the others are run again."""
        may_make_room = True
        while group:
            jobs = [queued.job for queued in group]
            draft = Draft(self._state)
            try:
                outcomes = await self._catalog.transact(partial(_run_jobs, draft=draft, jobs=jobs))
            except _Culprit as culprit:
                log.error("a change failed", job=type(jobs[culprit.index]).__name__, exc_info=culprit.error)
                _settle(group.pop(culprit.index), InternalError("an internal error has occurred"))
                continue
            except InfluxError as error:
                if may_make_room and isinstance(error, Unavailable):
                    # A full disk: what stands in the log twice may be all that is missing.
                    may_make_room = False
                    await self._catalog.write_log_back()
                    continue
                for queued in group:
                    _settle(queued, error)
                return
            for event in draft.publish(self._state):
                self._feed.publish(event)
            self._on_group(len(jobs), sum(job.size for job in jobs))
            for queued, outcome in zip(group, outcomes, strict=True):
                _settle(queued, outcome)
            return


def _run_jobs(transaction: Transaction, draft: Draft, jobs: Sequence[Job]) -> list[Any]:
    """Outcomes of all jobs, in order: answers, and errors of those that were refused before they changed anything."""
    outcomes: list[Any] = []
    for index, job in enumerate(jobs):
        before = transaction.changes
        try:
            outcomes.append(job.run(transaction, draft))
        except InfluxError as error:
            if transaction.changes != before:
                raise _Culprit(index, error) from error
            outcomes.append(error)
        except transaction.engine_error:
            raise
        except Exception as error:
            raise _Culprit(index, error) from error
    return outcomes


def _settle(queued: _Queued, outcome: Any) -> None:
    if queued.answer.done():
        return
    if isinstance(outcome, InfluxError):
        queued.answer.set_exception(outcome)
    else:
        queued.answer.set_result(outcome)
