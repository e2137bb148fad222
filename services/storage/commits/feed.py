"""The change feed: tells every subscriber what changed, in order (design, decision 11)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from weakref import WeakSet

from common.log import get_logger
from common.rpc import wire
from services.storage.commits.draft import Event

log = get_logger("storage.feed")
MAX_QUEUED_EVENTS = 4096
MAX_EVENTS_PER_PART = 256
# A part at least every second is promised; sent earlier, so that a busy moment does not break the promise.
HEARTBEAT_S = 0.5


class Subscription:
    """Events for one subscriber, bounded: one that does not keep up is cut off, and comes back for a snapshot."""

    def __init__(self, cut_off: Callable[[], object]) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue(MAX_QUEUED_EVENTS)
        self._cut_off = cut_off
        self.is_over = False

    def put(self, event: Event) -> None:
        if self.is_over:
            return
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("a subscriber of the feed does not keep up and is cut off")
            self.is_over = True
            self._cut_off()

    async def parts(self) -> AsyncIterator[bytes]:
        """Lists of events, packed, as they come; an empty one when nothing happens for a while."""
        while not self.is_over:
            events: list[Event] = []
            with contextlib.suppress(TimeoutError):
                events.append(await asyncio.wait_for(self._events.get(), HEARTBEAT_S))
            while not self._events.empty() and len(events) < MAX_EVENTS_PER_PART:
                events.append(self._events.get_nowait())
            yield wire.encode_head(events)


class Feed:
    """All subscriptions. A subscription that nobody holds any more goes away by itself."""

    def __init__(self) -> None:
        self._subscriptions: WeakSet[Subscription] = WeakSet()

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, cut_off: Callable[[], object]) -> Subscription:
        """From now on every event goes to the subscription.

        Args:
            cut_off: ends the call that serves it, at once, even while it waits for a slow connection.
        """
        subscription = Subscription(cut_off)
        self._subscriptions.add(subscription)
        return subscription

    def publish(self, event: Event) -> None:
        for subscription in list(self._subscriptions):
            subscription.put(event)

    def close(self) -> None:
        """End all calls that serve subscriptions."""
        for subscription in list(self._subscriptions):
            subscription.is_over = True
