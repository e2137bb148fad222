"""Reading a request's body, bounded: whole for small ones, piece by piece for writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import HttpVersion11, hdrs, web

from common.budget import Budget
from common.errors import Invalid, TooLarge

# aiohttp raises these for a body that ends early or is not chunked as it says.
_CUT = (web.RequestPayloadError, ConnectionError)


def check_length(request: web.BaseRequest, max_bytes: int, setting: str) -> int | None:
    """The Content-Length, None when there is none. Raises TooLarge past *max_bytes*."""
    length = request.content_length
    if length is not None and length > max_bytes:
        raise too_large(max_bytes, setting)
    return length


def too_large(max_bytes: int, setting: str) -> TooLarge:
    """As InfluxDB 1.x says it, and which setting that is."""
    return TooLarge(f"Request Entity Too Large: the body is over {max_bytes} bytes ({setting})")


async def invite(request: web.BaseRequest) -> None:
    """Ask a client that waits for it (``Expect: 100-continue``) to send its body."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun


async def read_up_to(request: web.BaseRequest, wanted: int) -> tuple[bytes, bool]:
    """The first bytes of the body, at least *wanted* of them if there are so many; and whether that was all."""
    content = request.content
    pieces: list[bytes] = []
    size = 0
    try:
        while not content.at_eof():
            piece = await content.readany()
            if piece:
                pieces.append(piece)
                size += len(piece)
                if size > wanted:
                    return b"".join(pieces), content.at_eof()
    except _CUT as error:
        raise cut_body(error) from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), True


@asynccontextmanager
async def whole_body(request: web.BaseRequest, max_bytes: int, setting: str, budget: Budget) -> AsyncIterator[bytes]:
    """The whole body, counted against *budget* for the length of the with block.

    Raises TooLarge past *max_bytes*, Unavailable when the budget has no room for it.
    """
    length = check_length(request, max_bytes, setting)
    if length == 0 or not request.body_exists:
        yield b""
        return
    held = length if length is not None else max_bytes
    budget.take(held)
    try:
        await invite(request)
        body, whole = await read_up_to(request, max_bytes)
        if not whole or len(body) > max_bytes:
            raise too_large(max_bytes, setting)
        budget.give(held - len(body))
        held = len(body)
        yield body
    finally:
        budget.give(held)


async def iter_pieces(request: web.BaseRequest, first: bytes, max_bytes: int, setting: str) -> AsyncIterator[bytes]:
    """The body in pieces as they come, *first* at their head. Raises TooLarge past *max_bytes*."""
    size = len(first)
    if size > max_bytes:
        raise too_large(max_bytes, setting)
    if first:
        yield first
    content = request.content
    try:
        while not content.at_eof():
            piece = await content.readany()
            size += len(piece)
            if size > max_bytes:
                raise too_large(max_bytes, setting)
            if piece:
                yield piece
    except _CUT as error:
        raise cut_body(error) from error


def cut_body(error: BaseException) -> Invalid:
    """A body that is broken as HTTP."""
    return Invalid(f"unable to read data: {type(error).__name__}")
