"""The connections of an internal service: aiohttp's, but for small calls, which are read and answered here.

aiohttp takes 70 us to make of a call what it is; most calls are small and come in one piece. What is not, or is no
call at all, goes aiohttp's way. Source of the numbers: docs/decisions/0060-small-calls.md.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from common.log import get_logger
from common.passing import PassingHandler, PassingSite
from common.rpc import small
from common.rpc.server import RpcServer
from common.rpc.wire import Buffer

log = get_logger("rpc")
BACKLOG = 1024
KEEPALIVE_S = 75.0


class CallHandler(PassingHandler):
    """One connection."""

    __slots__ = ("_rpc",)

    def __init__(self, rpc: RpcServer, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manager, loop=loop, keepalive_timeout=KEEPALIVE_S, access_log=None, auto_decompress=False)
        self._rpc = rpc

    def data_received(self, data: bytes) -> None:
        if self.holds_back(data):
            return
        request = small.parse_request(data) if self.is_between_requests() else None
        if request is None:
            super().data_received(data)
        else:
            self.begin_aside(self._loop.create_task(self._answer(request)))

    async def _answer(self, request: small.SmallRequest) -> None:
        answer = b""
        try:
            answer = await self._rpc.answer_small(request, _StreamedSink(self, self._loop))
        except Exception as error:
            log.error("an answer failed on its way", method=request.method, exc_info=error)
        finally:
            self.end_aside(answer)


class _StreamedSink:
    """An answer of unknown length, in chunks."""

    def __init__(self, handler: CallHandler, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self._loop = loop
        self._writer: AbstractStreamWriter | None = None

    async def begin(self, headers: dict[str, str], head: bytes) -> None:
        self._writer = writer = StreamWriter(self._handler, self._loop)
        writer.enable_chunking()
        fields = CIMultiDict({**headers, "Transfer-Encoding": "chunked"})
        await writer.write_headers("HTTP/1.1 200 OK", fields)
        await writer.write(head)

    async def write(self, data: Buffer) -> None:
        assert self._writer is not None
        await self._writer.write(data)

    async def end(self, data: bytes) -> None:
        assert self._writer is not None
        await self._writer.write_eof(data)

    def abort(self) -> None:
        if self._handler.transport is not None:
            self._handler.transport.abort()


class CallSite(PassingSite):
    """A listening socket whose connections take small calls themselves."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, rpc: RpcServer) -> None:
        super().__init__(runner, listener, BACKLOG, lambda manager, loop: CallHandler(rpc, manager, loop))
