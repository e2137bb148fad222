"""Answers of query back to the client, piece by piece, gzipped where asked for.

A failure in mid-stream breaks the connection: a cut answer never ends like a whole one.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable

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


async def relay(
    exchange: Exchange,
    status: int,
    headers: dict[str, str],
    parts: AsyncIterator[bytes],
    *,
    flush_each: bool,
    send_timeout_s: float,
    on_bytes: Callable[[int], None],
) -> web.StreamResponse:
    """Send an answer whose parts come one by one.

    Args:
        flush_each: the client wants each part as soon as it is there (``chunked=true``).
        send_timeout_s: how long the client may take for a piece.
    """
    request = exchange.request
    first: list[bytes] = []
    size = 0
    async for part in parts:
        first.append(part)
        size += len(part)
        if flush_each or size >= MIN_GZIP_BYTES:
            break
    else:
        on_bytes(size)
        return exchange.answer(status, b"".join(first), headers)

    gzip = accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")) and request.method != hdrs.METH_HEAD
    response = web.StreamResponse(status=status, headers=exchange.headers(headers))
    if gzip:
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
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
                await response.write(piece)

    try:
        await send(b"".join(first))
        async for part in parts:
            await send(part)
        if packer is not None:
            await response.write(packer.flush())
        await response.write_eof()
    except asyncio.CancelledError:
        break_off(request)
        raise
    except Exception as error:
        # Whatever it is, the answer has begun: no other one can take its place.
        break_off(request)
        if isinstance(error, InfluxError | aiohttp.ClientError | EOFError):
            log.warning("an answer was cut", request_id=exchange.request_id, reason=str(error))
        elif isinstance(error, TimeoutError):
            log.warning("a client did not take its answer", request_id=exchange.request_id)
        elif not isinstance(error, ConnectionError):
            log.error("an answer was cut", request_id=exchange.request_id, exc_info=error)
        raise Broken from error
    return response


class Broken(Exception):
    """The connection was broken on purpose; there is nobody left to answer."""


def is_broken_off(request: web.BaseRequest) -> bool:
    """Whether nothing can be answered to *request* any more."""
    return request.transport is None or request.transport.is_closing()


def break_off(request: web.BaseRequest) -> None:
    """End the connection with a reset, so that even a client that reads to its end sees that something is missing."""
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _pack(packer: isal_zlib.Compress, piece: bytes) -> bytes:
    return packer.compress(piece)


def _pack_and_flush(packer: isal_zlib.Compress, piece: bytes) -> bytes:
    return packer.compress(piece) + packer.flush(isal_zlib.Z_SYNC_FLUSH)
