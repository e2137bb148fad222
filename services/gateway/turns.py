"""Turns to send a large write: so many to each ingest at one time, organizations one after the other.

Knows no HTTP. A caller that goes away gives its turn on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.errors import Unavailable
from common.messages import INGEST
from services.gateway.fair import FairQueue
from services.gateway.replicas import Replica, Replicas

MAX_WAITING = 1000
RETRY_PAUSE_S = 0.05


class Turns:
    """Hands out replicas for large writes.

    Args:
        streams: how many large writes may be under way to one replica.
        clock_s: monotonic seconds.
    """

    def __init__(self, replicas: Replicas, streams: int, clock_s: Callable[[], float]) -> None:
        self._replicas = replicas
        self._streams = streams
        self._clock_s = clock_s
        self._queue: FairQueue[asyncio.Future[Replica]] = FairQueue()
        self._timer: asyncio.TimerHandle | None = None
        replicas.listeners.append(self._hand_out)

    @asynccontextmanager
    async def turn(self, org: str, deadline_s: float) -> AsyncIterator[Replica]:
        """A replica for one large write. Raises Unavailable when none is to be had before *deadline_s*."""
        replica = await self._wait(org, deadline_s)
        try:
            yield replica
        finally:
            self._end(replica)

    async def _wait(self, org: str, deadline_s: float) -> Replica:
        if len(self._queue) >= MAX_WAITING:
            raise Unavailable(f"more than {MAX_WAITING} large writes are waiting")
        place: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        self._queue.push(org, place)
        self._hand_out()
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock_s())):
                return await place
        except BaseException as error:
            # The turn may have come just as the time ran out or the client went.
            if not place.cancel() and not place.cancelled():
                self._end(place.result())
            if not isinstance(error, TimeoutError):
                raise
            running = bool(self._replicas.of(INGEST))
            raise Unavailable("no ingest took the write in time" if running else "no ingest is running") from None

    def _end(self, replica: Replica) -> None:
        replica.streams -= 1
        replica.in_flight -= 1
        self._replicas.tell()

    def _hand_out(self) -> None:
        self._queue.remove(lambda place: place.done())
        while self._queue:
            replica = self._replicas.find(INGEST, lambda one: one.streams < self._streams)
            if replica is None:
                break
            place = self._queue.take(1)[0]
            replica.streams += 1
            replica.in_flight += 1
            place.set_result(replica)
        if self._queue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETRY_PAUSE_S, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._hand_out()
