"""How many queries run at a time: a bound, a queue before it with a bound of its own, and a limit on the wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.errors import Invalid, Unavailable
from services.query.control.queries import Running


class Slots:
    """Queries beyond *running* wait in turn; beyond *waiting* more of them are refused at once.

    Args:
        wait_s: longest wait for a turn.
    """

    def __init__(self, running: int, waiting: int, wait_s: float) -> None:
        self._slots = asyncio.Semaphore(running)
        self._max_waiting = waiting
        self._wait_s = wait_s
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def turn(self, running: Running | None = None) -> AsyncIterator[None]:
        """Hold a slot; none when *running* is killed while it waits: its first step will say so.

        Raises:
            Unavailable: the queue is full or the wait too long.
        """
        if not await self._acquire(running or Running()):
            yield
            return
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()

    async def _acquire(self, running: Running) -> bool:
        """Take a slot, by waiting for one if need be; False = *running* was killed meanwhile."""
        if not self._slots.locked():
            return await self._slots.acquire()
        if self.waiting >= self._max_waiting:
            raise Unavailable(f"too many queries are waiting: TIDEGATE_QUERY_QUEUE is {self._max_waiting}")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                with running.step():
                    return await self._slots.acquire()
        except Invalid:
            return False
        except TimeoutError:
            raise Unavailable(f"no query slot came free within {self._wait_s:g} s: TIDEGATE_QUERY_WAIT_S") from None
        finally:
            self.waiting -= 1
