"""Reading encoded bytes from front to back, within bounds · pure."""

from __future__ import annotations

import struct

from common.errors import InternalError

Buffer = bytes | bytearray | memoryview

# Bounds of what a decoder may allocate, whatever the bytes say.
MAX_VALUES = 1 << 24
MAX_DEPTH = 8

_LENGTH = struct.Struct("<I")
_WORD = struct.Struct("<Q")


class DamagedChunk(InternalError):
    """Stored bytes that are not what was stored; the message names them."""


class Reader:
    """Reads an encoded chunk from front to back and never past its end.

    Args:
        buffer: the bytes.
        name: what they are, for the message of a DamagedChunk.
    """

    __slots__ = ("_at", "_buffer", "name")

    def __init__(self, buffer: Buffer, name: str) -> None:
        self._buffer = memoryview(buffer)
        self._at = 0
        self.name = name

    def damaged(self, why: str) -> DamagedChunk:
        return DamagedChunk(f"damaged {self.name}: {why}")

    def take(self, size: int) -> memoryview:
        start, stop = self._at, self._at + size
        if stop > len(self._buffer):
            raise self.damaged("it is too short")
        self._at = stop
        return self._buffer[start:stop]

    def part(self, size: int) -> Reader:
        return Reader(self.take(size), self.name)

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        number: int = _LENGTH.unpack(self.take(4))[0]
        return number

    def u64(self) -> int:
        number: int = _WORD.unpack(self.take(8))[0]
        return number

    def expect_end(self) -> None:
        if self._at != len(self._buffer):
            raise self.damaged("it is too long")
