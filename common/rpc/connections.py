"""Kept connections for internal calls whose body is small: HTTP/1.1 without the layers of a general client.

aiohttp's ClientSession makes a request object, a task, timers, a response object and their headers for each call; of
all that a small call needs a write and a read. aiohttp's own protocol reads the answers (its C parser, flow control,
time-outs); this is the pool around it. Source of the numbers: docs/decisions/0056-internal-calls.md.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler

from common.rpc import small
from common.rpc.wire import Buffer

CONNECT_TIMEOUT_S = 3.0
# A connection that nobody has used for so long is closed: its far end may have forgotten it.
IDLE_S = 60.0
READ_BUFFER_BYTES = 64 << 10
# A body of up to so many bytes leaves joined to the head of its request.
JOINED_BYTES = 64 << 10


class NotConnected(ConnectionError):
    """No connection came about: nothing of the call was seen by anybody."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service listens; ``host_header`` as HTTP names it."""

    host: str
    port: int
    host_header: str


@lru_cache(maxsize=1024)
def find_place(url: str) -> Place | None:
    """The place of ``http://host:port``; None when *url* has more or something else in it."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return None
    plain = parts.scheme == "http" and parts.path in ("", "/") and not (parts.query or parts.username or parts.password)
    if not plain or not parts.hostname or not parts.netloc.isascii():
        return None
    return Place(parts.hostname, port, parts.netloc)


@dataclass(frozen=True, slots=True)
class Answered:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Mapping[str, str]
    content: StreamReader


class Connection(ResponseHandler):
    """One connection, for one call at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        super().__init__(loop)
        self.place = place
        self.idle_since_s = 0.0
        self._asked = False
        # Waits for the first bytes of an answer: the whole of a small one, None = they are aiohttp's.
        self._first: asyncio.Future[small.SmallAnswer | None] | None = None

    async def ask(
        self, head: bytes, body: Sequence[Buffer] | AsyncGenerator[Buffer, None], timeout_s: float | None
    ) -> small.SmallAnswer | Answered:
        """Send a request and wait for the answer, if it is small and comes in one piece, or for its head.

        An answer may come before all is sent.

        Args:
            body: as long as *head* says; what comes in pieces is sent as fast as the far end takes it.
            timeout_s: bounds the wait for each piece of the answer and for each time that the far end takes nothing;
                None = no bound.

        Raises:
            aiohttp.ClientError, HttpProcessingError, TimeoutError: no answer, or none that is HTTP.
        """
        self._asked = True
        self._read_timeout = timeout_s
        if not isinstance(body, Sequence):
            self._open_parser()
            self._write(head)
            whole = await self._send(body, timeout_s)
            self.start_timeout()
            message, content = await self.read()
            self._asked = not whole
            return Answered(message.code, message.headers, content)
        self._first = self._loop.create_future()
        if sum(map(len, body)) <= JOINED_BYTES:
            self._write(b"".join((head, *body)))
        elif self.transport is not None:
            self.transport.writelines((head, *body))
        if self.transport is None:
            self._give(None)
        self.start_timeout()
        answer = await self._first
        if answer is None:
            message, content = await self.read()
            self._asked = False
            return Answered(message.code, message.headers, content)
        self._asked = False
        return answer

    def data_received(self, data: bytes) -> None:
        if self._first is not None and data:
            answer = small.parse_answer(data)
            if answer is not None:
                self._drop_timeout()
                self._give(answer)
                return
            self._open_parser()
            self._give(None)
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        self._give(None)

    def _give(self, answer: small.SmallAnswer | None) -> None:
        first, self._first = self._first, None
        if first is not None and not first.done():
            first.set_result(answer)

    def _open_parser(self) -> None:
        self.set_response_params(auto_decompress=False, read_timeout=self._read_timeout, read_bufsize=READ_BUFFER_BYTES)

    async def _send(self, body: AsyncGenerator[Buffer, None], timeout_s: float | None) -> bool:
        """Send *body* until it ends (True) or the far end has said something (False) or has gone (False)."""
        async with aclosing(body):
            async for piece in body:
                if self._buffer or self.transport is None:
                    return False
                self.transport.write(piece)
                if self.writing_paused:
                    async with asyncio.timeout(timeout_s):
                        await self._drain_helper()
        return True

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    @property
    def is_reusable(self) -> bool:
        """Whether the last answer has been read to its end and the far end keeps the connection."""
        return not self._asked and not self.should_close and self.is_connected()


class Connections:
    """A pool of connections to any places, at most *limit* in use at the same time; further callers wait."""

    def __init__(self, limit: int) -> None:
        self._room = asyncio.Semaphore(limit)
        self._idle: dict[Place, deque[Connection]] = {}
        self._is_open = True

    async def acquire(self, place: Place) -> Connection:
        """A connection that is the caller's until ``release``. Raises NotConnected."""
        await self._room.acquire()
        try:
            idle = self._idle.get(place)
            while idle:
                connection = idle.pop()
                if connection.is_reusable:
                    return connection
                connection.close()
            return await _connect(place)
        except BaseException:
            self._room.release()
            raise

    def release(self, connection: Connection) -> None:
        """Keep the connection for the next call if it can carry one, else close it."""
        self._room.release()
        if not connection.is_reusable or not self._is_open:
            connection.close()
            return
        connection.idle_since_s = now_s = time.monotonic()
        idle = self._idle.setdefault(connection.place, deque())
        idle.append(connection)
        # The one used last is taken first, so those too many are at the front.
        while idle[0].idle_since_s < now_s - IDLE_S:
            idle.popleft().close()

    def close(self) -> None:
        """Close the idle connections, and each one in use when it is released."""
        self._is_open = False
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


async def _connect(place: Place) -> Connection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(lambda: Connection(loop, place), place.host, place.port)
    except (OSError, TimeoutError) as error:
        raise NotConnected(f"no connection to {place.host_header}") from error
    return connection
