"""Checksums of rows · pure.

A chunk has its checksum in its meta; these cover the metas, and the numbers beside them: a flipped bit in the number
of a commit would change which write is the last one.
"""

from __future__ import annotations

import struct
import zlib


def row_checksum(blob: bytes, *numbers: int) -> int:
    """CRC-32 of some int64 numbers, then a blob."""
    return zlib.crc32(blob, zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers)))
