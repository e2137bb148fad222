"""The change feed of auth: what storage tells drops our caches, then goes on to the gateways.

Source: docs/rpc.md, "The feed"; design, decision 11.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from common.errors import Unavailable
from common.log import get_logger
from common.rpc import wire
from services.auth.access.caches import Caches

log = get_logger("hub")
# A listener speaks of a broken feed after 3 s of silence.
HEARTBEAT_S = 0.5
MAX_WAITING = 10_000
MAX_SUBSCRIBERS = 256
MAX_EVENTS_PER_PART = 1000


class _Subscriber:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.woken = asyncio.Event()
        self.open = True

    def add(self, event: dict[str, Any]) -> None:
        # One that does not keep up is cut off; it comes back and starts from a snapshot.
        if len(self.events) >= MAX_WAITING:
            self.open = False
            log.warning("a listener of the feed is too slow and is cut off")
        else:
            self.events.append(event)
        self.woken.set()

    def end(self) -> None:
        self.open = False
        self.woken.set()


class Hub:
    """Follows storage's feed by ``start``, ``event`` and ``down``, and serves our own."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._subscribers: set[_Subscriber] = set()
        self._instances: list[list[str]] = []
        self.number = 0
        self.up = False

    def start(self, head: dict[str, Any]) -> None:
        """Storage's feed begins, or begins anew after a gap."""
        self._end_all()
        self.number = head["number"]
        self._instances = head["instances"]
        self._caches.drop_all(self.number)
        self._caches.set_fed(True)
        self.up = True

    def event(self, event: dict[str, Any]) -> None:
        """One event of storage's feed."""
        if "tags" in event:
            self._caches.told(event["tags"], event["number"])
        self.number = max(self.number, event.get("number", 0))
        self._instances = event.get("instances", self._instances)
        for subscriber in list(self._subscribers):
            subscriber.add(event)
            if not subscriber.open:
                self._subscribers.discard(subscriber)

    def down(self) -> None:
        """Storage's feed broke: our listeners must know that nothing tells them."""
        self.up = False
        self._caches.set_fed(False)
        self._end_all()

    def _end_all(self) -> None:
        for subscriber in self._subscribers:
            subscriber.end()
        self._subscribers.clear()

    def close(self) -> None:
        """End all listeners: the service stops."""
        self.up = False
        self._end_all()

    def subscribe(self) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
        """The snapshot, and parts of events from then on. Raises Unavailable while storage's feed is down."""
        if not self.up:
            raise Unavailable("the change feed of storage is down")
        if len(self._subscribers) >= MAX_SUBSCRIBERS:
            raise Unavailable(f"more than {MAX_SUBSCRIBERS} listeners of the feed")
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        return {"number": self.number, "instances": self._instances}, self._parts(subscriber)

    async def _parts(self, subscriber: _Subscriber) -> AsyncIterator[bytes]:
        try:
            while subscriber.open:
                events, subscriber.events = subscriber.events, []
                for start in range(0, len(events) or 1, MAX_EVENTS_PER_PART):
                    yield wire.encode_head(events[start : start + MAX_EVENTS_PER_PART])
                await self._wait(subscriber)
        finally:
            self._subscribers.discard(subscriber)

    async def _wait(self, subscriber: _Subscriber) -> None:
        if subscriber.events or not subscriber.open:
            return
        subscriber.woken.clear()
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await subscriber.woken.wait()
        except TimeoutError:
            pass
