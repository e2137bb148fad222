"""Answers of query back to the client, piece by piece, gzipped where asked for.

A failure in mid-stream breaks the connection: a cut answer never ends like a whole one.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import aiohttp
from aiohttp import hdrs, web
from isal import isal_zlib

from common.errors import InfluxError
from common.log import get_logger
from services.gateway.exchange import Exchange

log = get_logger("relay")
# InfluxDB compresses bodies from this length on.
MIN_GZIP_BYTES = 1400
GZIP_LEVEL = 1
# Shorter pieces are compressed at once: 32 KiB take about 0.1 ms, a thread as long to wake up.
INLINE_GZIP_BYTES = 32 << 10
_NOT_OURS = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "content-length", "content-encoding", "date", "server", "x-influxdb-build", "x-influxdb-version",
        "x-tidegate-version", "x-request-id",
    )
)  # fmt: skip


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header takes gzip (RFC 9110, section 12.5.3)."""
    star = False
    for choice in accept_encoding.lower().split(","):
        name, _, parameters = choice.partition(";")
        quality = re.search(r"q\s*=\s*([0-9.]+)", parameters)
        wanted = quality is None or quality[1].strip("0.") != ""
        if name.strip() in ("gzip", "x-gzip"):
            return wanted
        star = star or (name.strip() == "*" and wanted)
    return star


def passed_on(headers: list[tuple[str, str]]) -> dict[str, str]:
    """The headers of an inner answer that the client may see."""
    return {name: value for name, value in headers if name.lower() not in _NOT_OURS}


class Sink(Protocol):
    """Where an answer goes: whole, or begun, written piece by piece and ended.

    Attributes:
        without_body: the client wants the head only.
    """

    request_id: str
    without_body: bool

    def accepts_gzip(self) -> bool: ...

    def whole(self, status: int, headers: dict[str, str], body: bytes) -> None: ...

    async def begin(self, status: int, headers: dict[str, str]) -> None: ...

    async def write(self, piece: bytes) -> None:
        """Returns when there is room for more. Raises ConnectionError when the client is gone."""

    async def end(self) -> None: ...

    def transport(self) -> asyncio.Transport | None: ...


class ResponseSink:
    """A sink that aiohttp sends on; ``response`` is there once the answer has begun."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.request_id = exchange.request_id
        self.without_body = exchange.request.method == hdrs.METH_HEAD
        self.response: web.StreamResponse = web.StreamResponse()

    def accepts_gzip(self) -> bool:
        return accepts_gzip(self._exchange.request.headers.get(hdrs.ACCEPT_ENCODING, ""))

    def whole(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.response = self._exchange.answer(status, body, headers)

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        self.response = web.StreamResponse(status=status, headers=self._exchange.headers(headers))
        await self.response.prepare(self._exchange.request)

    async def write(self, piece: bytes) -> None:
        await self.response.write(piece)

    async def end(self) -> None:
        await self.response.write_eof()

    def transport(self) -> asyncio.Transport | None:
        return self._exchange.request.transport


async def relay(
    sink: Sink,
    status: int,
    headers: dict[str, str],
    parts: AsyncIterator[bytes],
    at_hand: Sequence[bytes] | None,
    *,
    flush_each: bool,
    send_timeout_s: float,
    on_bytes: Callable[[int], None],
) -> None:
    """Send an answer whose parts come one by one.

    Args:
        at_hand: all of them, where they have come already.
        flush_each: the client wants each part as soon as it is there (``chunked=true``).
        send_timeout_s: how long the client may take for a piece.
    """
    if at_hand is not None and not flush_each:
        sent = await _whole(sink, status, headers, b"".join(at_hand))
        on_bytes(sent)
        return
    first: list[bytes] = []
    size = 0
    async for part in parts:
        first.append(part)
        size += len(part)
        if flush_each or size >= MIN_GZIP_BYTES:
            break
    else:
        on_bytes(size)
        sink.whole(status, headers, b"".join(first))
        return

    gzip = not sink.without_body and sink.accepts_gzip()
    await sink.begin(status, {**headers, hdrs.CONTENT_ENCODING: "gzip"} if gzip else headers)
    if sink.without_body:
        return
    packer = isal_zlib.compressobj(GZIP_LEVEL, wbits=31) if gzip else None

    async def send(piece: bytes) -> None:
        if packer is not None:
            pack = _pack_and_flush if flush_each else _pack
            piece = (
                await asyncio.to_thread(pack, packer, piece) if len(piece) > INLINE_GZIP_BYTES else pack(packer, piece)
            )
        if piece:
            on_bytes(len(piece))
            async with asyncio.timeout(send_timeout_s):
                await sink.write(piece)

    try:
        await send(b"".join(first))
        async for part in parts:
            await send(part)
        if packer is not None:
            await sink.write(packer.flush())
        await sink.end()
    except asyncio.CancelledError:
        break_off(sink)
        raise
    except Exception as error:
        # Whatever it is, the answer has begun: no other one can take its place.
        break_off(sink)
        if isinstance(error, InfluxError | aiohttp.ClientError | EOFError):
            log.warning("an answer was cut", request_id=sink.request_id, reason=str(error))
        elif isinstance(error, TimeoutError):
            log.warning("a client did not take its answer", request_id=sink.request_id)
        elif not isinstance(error, ConnectionError):
            log.error("an answer was cut", request_id=sink.request_id, exc_info=error)
        raise Broken from error


async def _whole(sink: Sink, status: int, headers: dict[str, str], body: bytes) -> int:
    """Send an answer that is all there; gives the size of its body."""
    if len(body) >= MIN_GZIP_BYTES and not sink.without_body and sink.accepts_gzip():
        headers = {**headers, hdrs.CONTENT_ENCODING: "gzip"}
        body = await asyncio.to_thread(_gzip, body) if len(body) > INLINE_GZIP_BYTES else _gzip(body)
    sink.whole(status, headers, body)
    return len(body)


class Broken(Exception):
    """The connection was broken on purpose; there is nobody left to answer."""


def is_broken_off(sink: Sink) -> bool:
    """Whether nothing can be answered any more."""
    transport = sink.transport()
    return transport is None or transport.is_closing()


def break_off(sink: Sink) -> None:
    """End the connection with a reset, so that even a client that reads to its end sees that something is missing."""
    transport = sink.transport()
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _gzip(body: bytes) -> bytes:
    packer = isal_zlib.compressobj(GZIP_LEVEL, wbits=31)
    return packer.compress(body) + packer.flush()


def _pack(packer: isal_zlib.Compress, piece: bytes) -> bytes:
    return packer.compress(piece)


def _pack_and_flush(packer: isal_zlib.Compress, piece: bytes) -> bytes:
    return packer.compress(piece) + packer.flush(isal_zlib.Z_SYNC_FLUSH)
