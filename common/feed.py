"""Following the change feed: one long-lived call that tells what changed (design, decision 11).

Works for ``storage.feed`` and for ``auth.feed``, which passes the same events on. Source: docs/rpc.md, "The feed".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from common.errors import InfluxError
from common.log import get_logger
from common.rpc import wire
from common.rpc.client import RpcClient

log = get_logger("feed")
# The sender speaks at least every second; silence for longer is a broken feed.
SILENCE_S = 3.0
# While nobody tells, caches may serve what is over (for 5 s at most): back on the feed soon after its sender is.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.2


class FeedFollower:
    """Follows one feed for ever, from a task.

    Args:
        on_start: called with the snapshot head ``{"number", "instances", ...}`` at each (re)connection: everything
            cached from before is to be dropped.
        on_event: called with each event, in order.
        on_down: called when the feed breaks.
    """

    def __init__(
        self,
        client: RpcClient,
        url: str,
        method: str,
        on_start: Callable[[dict[str, Any]], None],
        on_event: Callable[[dict[str, Any]], None],
        on_down: Callable[[], None],
    ) -> None:
        self._client = client
        self._url = url
        self._method = method
        self._on_start = on_start
        self._on_event = on_event
        self._on_down = on_down
        self.up = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self._client.stream(self._url, self._method, {}, timeout_s=SILENCE_S) as answer:
                    self._on_start(answer.head)
                    self.up.set()
                    pause_s = FIRST_PAUSE_S
                    async for part in answer.parts():
                        for event in wire.decode_head(part):
                            self._on_event(event)
            except InfluxError as error:
                if self.up.is_set():
                    log.warning("feed lost", method=self._method, reason=str(error))
            if self.up.is_set():
                self.up.clear()
                self._on_down()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
