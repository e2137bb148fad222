"""gzip bodies, read so that a cut or damaged one is never taken for a whole one · pure.

The container is read here, member by member; only the deflate stream is left to the library. Each member must end,
and its CRC and length must fit. Knows nothing of requests. Source: RFC 1952; reliability finding F1.

    body    = member+
    member  = header deflate-stream crc32 isize
    header  = 1f 8b 08 flags mtime(4) xfl os [xlen extra] [name 00] [comment 00] [hcrc(2)]
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from isal import isal_zlib
from isal.igzip_lib import IsalError

from common.errors import Invalid

# Inflated in pieces of this size, so that a bomb costs one piece of memory.
PIECE_BYTES = 1 << 20
# A body that inflates to more than this is measured first and kept in a second pass: a bomb of the largest allowed
# size would otherwise be held before it is refused.
MAX_GUESS_BYTES = 16 << 20
# The best that deflate can do is 1032 : 1.
MAX_RATIO = 1032
# Several members are legal; each costs some microseconds, however short it is.
MAX_MEMBERS = 100_000
_MIN_WINDOW_BYTES, _MAX_WINDOW_BYTES = 1 << 10, 1 << 16
_FIXED = struct.Struct("<4BIBB")
_TRAILER = struct.Struct("<II")
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


class TooLong(Exception):
    """The body inflates to more than it may."""


@dataclass(frozen=True, slots=True)
class Inflated:
    """Outcome of one pass: the length of the body, and the body itself when it fits into what was to be kept."""

    size: int
    body: bytes | None


def is_gzip(encoding: str) -> bool:
    """Whether a Content-Encoding asks for inflating; every other value is ignored, as in InfluxDB."""
    return encoding in ("gzip", "x-gzip")


def check_header(body: bytes) -> None:
    """Raise Invalid if *body* does not start with a whole gzip header."""
    _find_stream(body, 0)


def guess_size(body: bytes) -> int:
    """Bytes that *body* will probably inflate to: its last member's own word, within what is possible."""
    claimed = int.from_bytes(body[-4:], "little")
    return min(claimed, len(body) * MAX_RATIO, MAX_GUESS_BYTES)


def inflate(body: bytes, max_bytes: int, keep_bytes: int) -> Inflated:
    """Inflate *body* and check every member of it.

    Args:
        max_bytes: the most that it may inflate to.
        keep_bytes: the most that is kept; a longer body is only measured and checked, to be inflated once more with
            the size known.
    Raises:
        Invalid: not gzip, cut, damaged, or followed by something else.
        TooLong: more than *max_bytes*.
    """
    pieces: list[bytes] = []
    total = 0

    def keep(piece: bytes) -> None:
        nonlocal total
        total += len(piece)
        if total > max_bytes:
            raise TooLong
        if total <= keep_bytes:
            pieces.append(piece)
        else:
            pieces.clear()

    at = members = 0
    while at < len(body) or at == 0:
        members += 1
        if members > MAX_MEMBERS:
            raise Invalid(f"unable to read data: gzip: more than {MAX_MEMBERS} members")
        at = _inflate_member(body, at, keep)
    return Inflated(total, b"".join(pieces) if total <= keep_bytes else None)


def _inflate_member(body: bytes, at: int, keep: Callable[[bytes], None]) -> int:
    """Check the member at *at* and pass its content on; returns where it ends."""
    at = _find_stream(body, at)
    stream = isal_zlib.decompressobj(-15)
    crc = size = 0
    # The library copies what it leaves over, so it is given little at a time, and very little of a member that may
    # be a short one.
    window = _MIN_WINDOW_BYTES
    pending = b""
    while not stream.eof:
        if not pending:
            pending = body[at : at + window]
            at += len(pending)
            window = min(window * 4, _MAX_WINDOW_BYTES)
        at_end = not pending
        try:
            piece = stream.decompress(pending, PIECE_BYTES)
        except IsalError:  # type: ignore[misc]  # its stub does not say that it is an Exception
            raise Invalid("unable to read data: flate: corrupt input") from None
        pending = stream.unconsumed_tail
        if at_end and not piece and not stream.eof:
            raise _cut()
        crc = isal_zlib.crc32(piece, crc)
        size += len(piece)
        keep(piece)
    end = at - len(stream.unused_data)
    if end + _TRAILER.size > len(body):
        raise _cut()
    if _TRAILER.unpack_from(body, end) != (crc, size & 0xFFFFFFFF):
        raise Invalid("unable to read data: gzip: invalid checksum")
    return end + _TRAILER.size


def _find_stream(body: bytes, at: int) -> int:
    """Where the deflate stream of the member at *at* starts."""
    if at + _FIXED.size > len(body):
        raise _bad_header() if not b"\x1f\x8b\x08".startswith(body[at : at + 3][: len(body) - at]) else _cut()
    magic1, magic2, method, flags, _mtime, _xfl, _os = _FIXED.unpack_from(body, at)
    if (magic1, magic2, method) != (0x1F, 0x8B, 8) or flags & _RESERVED:
        raise _bad_header()
    start = at
    at += _FIXED.size
    if flags & _FEXTRA:
        if at + 2 > len(body):
            raise _cut()
        at += 2 + int.from_bytes(body[at : at + 2], "little")
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            end = body.find(b"\0", at)
            if end < 0:
                raise _cut()
            at = end + 1
    if flags & _FHCRC:
        if at + 2 > len(body):
            raise _cut()
        if int.from_bytes(body[at : at + 2], "little") != isal_zlib.crc32(body[start:at]) & 0xFFFF:
            raise _bad_header()
        at += 2
    if at > len(body):
        raise _cut()
    return at


def _cut() -> Invalid:
    return Invalid("unable to read data: unexpected EOF")


def _bad_header() -> Invalid:
    return Invalid("unable to read data: gzip: invalid header")
