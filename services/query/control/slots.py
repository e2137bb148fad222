"""How many queries run at a time: a bound, a queue before it with a bound of its own, and a limit on the wait."""

from __future__ import annotations

import asyncio

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

    def turn(self, running: Running | None = None) -> Turn:
        """An async with block that holds a slot; none when *running* is killed while it waits: its first step will say
        so.

        Raises:
            Unavailable: the queue is full or the wait too long.
        """
        return Turn(self, running)

    def release(self) -> None:
        """Give back what ``acquire`` took."""
        self.running -= 1
        self._slots.release()

    async def acquire(self, running: Running) -> bool:
        """Take a slot, by waiting for one if need be; False = *running* was killed meanwhile. Raises as ``turn``."""
        if not self._slots.locked():
            await self._slots.acquire()
        elif not await self._wait(running):
            return False
        self.running += 1
        return True

    async def _wait(self, running: Running) -> bool:
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


class Turn:
    """See ``Slots.turn``."""

    __slots__ = ("_held", "_running", "_slots")

    def __init__(self, slots: Slots, running: Running | None) -> None:
        self._slots = slots
        self._running = running

    async def __aenter__(self) -> None:
        self._held = await self._slots.acquire(self._running or Running())

    async def __aexit__(self, *_: object) -> None:
        if self._held:
            self._slots.release()
