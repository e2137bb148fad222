"""The public connections: aiohttp's, with the deadlines and bounds that it lacks (F3 of the reliability findings).

aiohttp waits for ever for the head of a request and for the rest of a body. Here both have a deadline, connections
are counted, and what is no HTTP gets a short answer instead of a traceback in the log. A write that ``express.py``
knows is answered here, between two requests of aiohttp's. Rests on attributes of aiohttp's RequestHandler that are not
public (``_messages``, ``_request_count``, ``_reading_paused``, ``_buffer_paused``, and those of ``common/passing.py``);
tests/services/test_gateway_connections.py and test_gateway_express.py pin the behaviour.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from common.log import get_logger
from common.passing import PassingHandler, PassingSite
from services.gateway.exchange import STANDARD
from services.gateway.express import Express
from services.gateway.meter import Meter

log = get_logger("protocol")
MIN_BODY_BYTES = 1024
READ_BUFFER_BYTES = 256 << 10
# How long the rest of a body that nobody wants is read, so that the client sees the answer before the end.
LINGER_S = 5.0
MAX_HEADERS = 128
# A request of a method that nobody knows, as opposed to what is no HTTP.
_METHOD = re.compile(rb"[A-Za-z-]{1,24} /")
BACKLOG = 4096
# When stopping: how long clients are told to go elsewhere before idle connections are closed. A request that crosses
# such a close on its way is lost to its client.
DRAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of public connections."""

    max_connections: int
    max_header_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float


class Questions(Protocol):
    """What takes questions whose head is known: ``ShortQuestions``, which builds on the handlers behind this module."""

    def digest(self, data: bytes, peer: bytes) -> bytes | None: ...

    def begin(self, data: bytes, peer: bytes, connection: PassingHandler) -> asyncio.Task[None] | None: ...


class Guard:
    """Watches over the connections that are in the middle of sending something."""

    def __init__(
        self, limits: Limits, meter: Meter, express: Express | None = None, questions: Questions | None = None
    ) -> None:
        self.limits = limits
        self.meter = meter
        self.express = express
        self.questions = questions
        self.connections = 0
        # The service stops: each answer is the last one on its connection.
        self.draining = False
        self.watched: set[GuardedHandler] = set()

    async def watch(self, _app: web.Application) -> AsyncIterator[None]:
        """A cleanup context: looks at the watched connections again and again."""
        task = asyncio.create_task(self._look())
        yield
        task.cancel()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = min(1.0, self.limits.header_timeout_s / 4, self.limits.body_timeout_s / 4)
        while True:
            await asyncio.sleep(pause_s)
            now_s = loop.time()
            for handler in list(self.watched):
                handler.check(now_s)


class GuardedHandler(PassingHandler):
    """One connection."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_guard",
        "_last_bytes",
        "_peer",
        "_refused",
        "_since_s",
        "whole_head",
    )

    def __init__(self, guard: Guard, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        limits = guard.limits
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=limits.idle_timeout_s,
            access_log=None,
            max_line_size=limits.max_header_bytes,
            max_field_size=limits.max_header_bytes,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_S,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # aiohttp's own takes a cut body for a whole one
        )
        self._guard = guard
        self._refused = False
        # When the head (no body under way) or the present stretch of the body began; None = neither is under way.
        self._since_s: float | None = None
        self._body: StreamReader | None = None
        self._body_bytes = 0
        self._last_bytes = b""
        self._peer = b""
        # Digest of the head of the request under way, if that and its body came whole, in one piece and alone.
        self.whole_head: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        guard = self._guard
        if guard.connections >= guard.limits.max_connections:
            self._refused = True
            guard.meter.refused_connections.inc()
            assert isinstance(transport, asyncio.Transport)
            transport.write(_raw_answer(HTTPStatus.SERVICE_UNAVAILABLE, "Retry-After: 1\r\n"))
            transport.close()
            return
        guard.connections += 1
        guard.meter.connections.set(guard.connections)
        super().connection_made(transport)
        self._peer = str(transport.get_extra_info("peername", ("",))[0]).encode()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._refused:
            return
        self._guard.connections -= 1
        self._guard.meter.connections.set(self._guard.connections)
        self._guard.watched.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.holds_back(data):
            return
        is_between = self._since_s is None and self.is_between_requests()
        if is_between and self._begin_short(data):
            return
        count = self._request_count
        self._last_bytes = data[:32]
        super().data_received(data)
        if self._request_count != count:
            is_whole = is_between and self._request_count == count + 1 and self._messages[-1][1].is_eof()
            self.whole_head = self._digest(data) if is_whole else None
            if self._body is not None and not self._body.is_eof():
                # What followed was no HTTP. aiohttp leaves whoever reads that body waiting for ever.
                self._body.set_exception(web.RequestPayloadError("the body is broken"))
            # A head is whole; the body of the last one may be on its way.
            body = self._messages[-1][1]
            if body.is_eof():
                self._unwatch()
            else:
                self._watch(body)
        elif self._body is not None:
            self._body_bytes += len(data)
            if self._body.is_eof():
                self._unwatch()
        elif data and self._since_s is None:
            self._watch(None)

    def check(self, now_s: float) -> None:
        """Cut the connection if what is under way takes too long."""
        if self._since_s is None or self.transport is None:
            self._unwatch()
            return
        waited_s = now_s - self._since_s
        limits = self._guard.limits
        if self._body is None:
            if waited_s > limits.header_timeout_s:
                self.transport.write(_raw_answer(HTTPStatus.REQUEST_TIMEOUT))
                self._cut("header")
        elif self._body.is_eof():
            self._unwatch()
        elif self._reading_paused or self._buffer_paused:
            # It is us who do not read.
            self._since_s, self._body_bytes = now_s, 0
        elif waited_s > limits.body_timeout_s:
            if self._body_bytes < MIN_BODY_BYTES:
                self._cut("body")
            else:
                self._since_s, self._body_bytes = now_s, 0

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP: a short answer and the end of the connection. Our own faults never come this far."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status == HTTPStatus.BAD_REQUEST:
            self._guard.meter.bad_requests.inc()
            if isinstance(exc, BadHttpMethod) and _METHOD.match(self._last_bytes):
                status = HTTPStatus.METHOD_NOT_ALLOWED
            elif isinstance(exc, LineTooLong):
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        else:
            log.error("a request failed outside its handler", status=status, exc_info=exc)
        response = web.Response(
            status=status,
            text=f"{status} {HTTPStatus(status).phrase}\n",
            headers={**STANDARD, "X-Content-Type-Options": "nosniff"},
        )
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            self._guard.meter.bad_requests.inc()
            return
        log.error("a connection failed", reason=str(args[0]) if args else "", exc_info=kw.get("exc_info", True))

    # ------------------------------------------------------------ short ways

    def _digest(self, data: bytes) -> bytes | None:
        guard = self._guard
        found = None if guard.express is None else guard.express.digest(data, self._peer)
        if found is not None:
            return found[0]
        return None if guard.questions is None else guard.questions.digest(data, self._peer)

    def _begin_short(self, data: bytes) -> bool:
        guard = self._guard
        if guard.draining:
            return False
        work: asyncio.Future[None] | None = None
        if guard.express is not None:
            work = guard.express.begin(data, self._peer, self.end_aside)
        if work is None and guard.questions is not None:
            work = guard.questions.begin(data, self._peer, self)
        if work is None:
            return False
        self.begin_aside(work)
        return True

    def is_idle(self) -> bool:
        # A head of which a part has come is none of aiohttp's requests yet.
        return super().is_idle() and self._since_s is None

    def _watch(self, body: StreamReader | None) -> None:
        self._since_s = self._loop.time()
        self._body, self._body_bytes = body, 0
        self._guard.watched.add(self)

    def _unwatch(self) -> None:
        if self._since_s is not None:
            self._since_s = None
            self._body = None
            self._guard.watched.discard(self)

    def _cut(self, phase: str) -> None:
        self._guard.meter.cut_connections.labels(phase).inc()
        self._unwatch()
        self.force_close()


class GuardedSite(PassingSite):
    """A listening socket whose connections are guarded."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, guard: Guard) -> None:
        super().__init__(runner, listener, BACKLOG, lambda manager, loop: GuardedHandler(guard, manager, loop))
        self._guard = guard

    async def stop(self) -> None:
        await super().stop()
        self._guard.draining = True
        end_s = asyncio.get_running_loop().time() + DRAIN_S
        while self._guard.connections and asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(0.02)


def _raw_answer(status: HTTPStatus, more: str = "") -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in STANDARD.items())
    end = "Content-Length: 0\r\nConnection: close\r\n\r\n"
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}{more}{end}".encode()
