"""The parts of a call or an answer, read from a body as it comes. Their form is ``wire.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence

from aiohttp import EMPTY_PAYLOAD, StreamReader

from common.errors import Invalid, TooLarge
from common.rpc.wire import Buffer, Closing

MAX_PART_BYTES = 64 << 20


class Pieces:
    """A body read in whatever pieces it comes: a part takes three reads, of which StreamReader's own cost 7 us each."""

    __slots__ = ("_at", "_content", "_piece")

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._piece = b""
        self._at = 0

    @classmethod
    def of(cls, body: bytes) -> Pieces:
        """A body that is all there."""
        pieces = cls(EMPTY_PAYLOAD)
        pieces._piece = body
        return pieces

    def at_hand(self) -> tuple[bytes, int] | None:
        """The body and how far it is read, where it is all there."""
        return (self._piece, self._at) if self._content is EMPTY_PAYLOAD else None

    async def take(self, size: int) -> bytes:
        """The next *size* bytes. Raises IncompleteReadError on a cut."""
        stop = self._at + size
        if stop <= len(self._piece):
            taken = self._piece[self._at : stop]
            self._at = stop
            return taken
        pieces = [self._piece[self._at :]]
        missing = size - len(pieces[0])
        while missing > 0:
            piece = await self._content.readany()
            if not piece:
                raise asyncio.IncompleteReadError(b"".join(pieces), size)
            pieces.append(piece)
            missing -= len(piece)
        self._piece = pieces[-1]
        self._at = len(self._piece) + missing
        pieces[-1] = self._piece[: self._at]
        return b"".join(pieces)

    async def take_some(self, most: int) -> memoryview:
        """The next bytes, at least one and at most *most* of them, as they lie. Raises IncompleteReadError on a cut."""
        if self._at == len(self._piece):
            piece = await self._content.readany()
            if not piece:
                raise asyncio.IncompleteReadError(b"", most)
            self._piece, self._at = piece, 0
        start = self._at
        self._at = min(start + most, len(self._piece))
        return memoryview(self._piece)[start : self._at]

    async def at_end(self) -> bool:
        return self._at == len(self._piece) and not await self._content.readany()


async def read_part(pieces: Pieces, max_bytes: int) -> bytes | Closing:
    """The next bin object, or the closing ext object. Raises Invalid on anything else, IncompleteReadError on a cut."""
    prefix = await read_prefix(pieces, max_bytes)
    return prefix if isinstance(prefix, Closing) else await pieces.take(prefix)


async def read_prefix(pieces: Pieces, max_bytes: int) -> int | Closing:
    """The size of the next bin object, whose bytes follow, or the closing ext object. Raises as ``read_part``."""
    first = (await pieces.take(1))[0]
    if first == 0xC4:
        size = (await pieces.take(1))[0]
    elif first == 0xC5:
        size = int.from_bytes(await pieces.take(2), "big")
    elif first == 0xC6:
        size = int.from_bytes(await pieces.take(4), "big")
    elif first == 0xC7:
        size, code = await pieces.take(2)
        return Closing(code, await pieces.take(size))
    else:
        raise Invalid("a part of a call is not a bin object")
    if size > max_bytes:
        raise TooLarge(f"a part of {size} bytes is over the limit of {max_bytes}")
    return size


async def iter_parts(parts: Sequence[Buffer] | AsyncIterable[Buffer]) -> AsyncGenerator[Buffer, None]:
    """Parts that are at hand, or come, one after the other; those that come are closed at the end, however that is."""
    if isinstance(parts, Sequence):
        for part in parts:
            yield part
        return
    try:
        async for part in parts:
            yield part
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
