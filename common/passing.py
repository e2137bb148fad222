"""aiohttp's connections, where a request may be answered without aiohttp: between two requests of its own.

aiohttp makes a request, a response and two tasks for each request. A subclass that knows a request by its bytes hands
it to somebody else (``begin_aside``) and gives the answer back (``end_aside``); what comes meanwhile waits, so that
answers keep their order. Rests on attributes of aiohttp's RequestHandler that are not public (``_messages``,
``_waiter``, ``_request_in_progress``, ``_handler_waiter``, ``_keepalive``, ``_process_keepalive``,
``_next_keepalive_close_time``, ``_reading_paused``, ``_buffer_paused``); tests/services/test_gateway_express.py and
tests/unit/common/rpc/test_calls.py pin the behaviour.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web

MakeHandler = Callable[[web.Server, asyncio.AbstractEventLoop], "PassingHandler"]


class PassingHandler(web.RequestHandler):
    """One connection."""

    __slots__ = ("_aside", "_behind")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        # What is answered aside, and what has come behind it.
        self._aside: asyncio.Future[None] | None = None
        self._behind: list[bytes] = []

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._aside is not None:
            self._aside.cancel()
        super().connection_lost(exc)

    def is_between_requests(self) -> bool:
        """Whether aiohttp waits for the next request, as on a connection that it keeps."""
        waits = self._waiter is not None and not self._waiter.done() and not self._messages
        return waits and self._keepalive and not (self._close or self._force_close or self._paused)

    def begin_aside(self, work: asyncio.Future[None]) -> None:
        """Somebody else answers a request; *work* is cancelled when the connection is lost."""
        self._aside = work
        self._request_in_progress = True  # shutdown() waits for it then

    def end_aside(self, answer: bytes) -> None:
        """The request is answered: by *answer*, or b"" if that has been sent."""
        self._aside = None
        if self.transport is not None:
            if answer:
                self.transport.write(answer)
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self._behind and self.transport is not None and not self.transport.is_closing():
            data = b"".join(self._behind)
            self._behind.clear()
            self.data_received(data)
            if not self._reading_paused and not self._buffer_paused:
                self.transport.resume_reading()

    async def drain(self) -> None:
        """Wait until there is room for more of an answer. Raises ConnectionError when the connection is lost."""
        if self.writing_paused or self.transport is None:
            await self._drain_helper()

    def holds_back(self, data: bytes) -> bool:
        """Whether *data* waits for an answer that is under way: no more is read until then."""
        if self._aside is None:
            return False
        self._behind.append(data)
        if self.transport is not None:
            self.transport.pause_reading()
        return True

    def is_idle(self) -> bool:
        """Whether nothing is under way that aiohttp does not know of."""
        return self._aside is None

    def _process_keepalive(self) -> None:
        if not self.is_idle():
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()


class PassingSite(web.SockSite):
    """A listening socket whose connections are made by *make_handler*."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, backlog: int, make_handler: MakeHandler) -> None:
        super().__init__(runner, listener, backlog=backlog)
        self._make_handler = make_handler

    async def start(self) -> None:
        # Not SockSite's: its server makes plain handlers.
        await web.BaseSite.start(self)
        manager = self._runner.server
        assert manager is not None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._make_handler(manager, loop), sock=self._sock, backlog=self._backlog
        )
