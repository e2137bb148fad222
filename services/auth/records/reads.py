"""Reads of single records that are wanted at the same time, in one call to storage.

Each credential that is new to us costs two of them; together they cost little more than one. As with small writes in
the gateway there is no timer: the wait is the calls under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from common.errors import InfluxError, InternalError, Unavailable
from common.log import get_logger

log = get_logger("records")
CALLS = 3
READS_PER_CALL = 64
MAX_WAITING = 10_000

Read = Sequence[Any]
# The number as of which, and the records of each read.
Answers = tuple[int, list[list[Any]]]
Ask = Callable[[Sequence[Read]], Awaitable[Answers]]


class JoinedReads:
    """Joins reads. *ask* carries many to storage, as of one number."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: deque[tuple[Read, asyncio.Future[tuple[int, list[Any]]]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._woken = False

    async def one(self, read: Read) -> tuple[int, list[Any]]:
        """The number as of which *read* was done, and the records that it found. Raises what *ask* raises."""
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable(f"more than {MAX_WAITING} reads of records are waiting")
        found: asyncio.Future[tuple[int, list[Any]]] = asyncio.get_running_loop().create_future()
        self._waiting.append((read, found))
        self._wake()
        return await found

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            # Not at once: what is asked in the same round of the event loop goes along.
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._woken = False
        while self._waiting and len(self._calls) < CALLS:
            taken = [self._waiting.popleft() for _ in range(min(READS_PER_CALL, len(self._waiting)))]
            # Whoever wanted the others is gone.
            wanted = [(read, found) for read, found in taken if not found.done()]
            if wanted:
                call = asyncio.create_task(self._carry(wanted))
                self._calls.add(call)
                call.add_done_callback(self._end)

    def _end(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if self._waiting:
            self._wake()

    async def _carry(self, wanted: Sequence[tuple[Read, asyncio.Future[tuple[int, list[Any]]]]]) -> None:
        try:
            number, answers = await self._ask([read for read, _ in wanted])
        except Exception as error:
            if not isinstance(error, InfluxError):
                log.error("cannot read records", exc_info=error)
                error = InternalError()
            for _, found in wanted:
                if not found.done():
                    found.set_exception(error)
        else:
            for (_, found), records in zip(wanted, answers, strict=True):
                if not found.done():
                    found.set_result((number, records))
