"""Instances that have stopped: whoever waits for one is told so, instead of waiting out the longest time of a call.

An instance whose lease has lapsed is asked whether it answers at all: one that ends in order, or whose storage has
just been started again, does, and what it has in hand is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from common.errors import Unavailable
from common.log import get_logger
from services.gateway.replicas import Replica, Replicas

log = get_logger("watch")
# So many questions in a row without an answer, and the instance counts as stopped.
QUESTIONS = 2
PAUSE_S = 0.5


class Stopped(Unavailable):
    """The instance that was called does not answer any more."""


class Watch:
    """Knows which calls wait for which instance.

    Args:
        answers: whether the instance at a URL answers within a short time.
    """

    def __init__(self, replicas: Replicas, answers: Callable[[str], Awaitable[bool]]) -> None:
        self._replicas = replicas
        self._answers = answers
        self._calls: dict[str, set[asyncio.Timeout]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        replicas.listeners.append(self._look)

    @asynccontextmanager
    async def over(self, replica: Replica) -> AsyncIterator[None]:
        """A block that waits for *replica*. Raises Stopped within it when that has stopped."""
        calls = self._calls.setdefault(replica.url, set())
        limit = asyncio.timeout(None)
        try:
            async with limit:
                calls.add(limit)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Stopped(f"the {replica.service} instance that was asked does not answer any more") from None
        finally:
            calls.discard(limit)
            if not calls and self._calls.get(replica.url) is calls:
                del self._calls[replica.url]

    async def close(self) -> None:
        for task in self._asking.values():
            task.cancel()

    def _look(self) -> None:
        """Ask the instances that calls wait for and that are listed no more."""
        for url in self._calls:
            if url not in self._asking and not self._is_listed(url):
                self._asking[url] = asyncio.create_task(self._ask(url))

    def _is_listed(self, url: str) -> bool:
        return any(replica.url == url for replica in self._replicas.everyone())

    async def _ask(self, url: str) -> None:
        try:
            silent = 0
            while url in self._calls and not self._is_listed(url):
                silent = 0 if await self._answers(url) else silent + 1
                if silent >= QUESTIONS:
                    log.warning("an instance has stopped", url=url, calls=len(self._calls.get(url, ())))
                    self._cut(url)
                    return
                await asyncio.sleep(PAUSE_S)
        finally:
            del self._asking[url]

    def _cut(self, url: str) -> None:
        now_s = asyncio.get_running_loop().time()
        for limit in self._calls.get(url, ()):
            if not limit.expired():
                limit.reschedule(now_s)
