"""Checksums of rows, and tallies of tables · pure.

A chunk has its checksum in its meta; these cover the metas and all other rows: a flipped bit in the number of a commit
would change which write is the last one. A checksum can't tell that a row is missing; the tally of its table does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import msgpack

Cell = int | bytes | None
# Rows of a table, and the exclusive or of their checksums.
Tally = tuple[int, int]
EMPTY: Tally = (0, 0)


def row_checksum(blob: bytes, *numbers: int) -> int:
    """CRC-32 of some int64 numbers, then a blob."""
    return zlib.crc32(blob, zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers)))


def cells_checksum(*cells: Cell) -> int:
    """CRC-32 of the cells of a row, packed one after the other."""
    return zlib.crc32(msgpack.packb(cells))


def add_row(tally: Tally, checksum: int) -> Tally:
    """*tally* with one more row."""
    return tally[0] + 1, tally[1] ^ checksum


def take_row(tally: Tally, checksum: int) -> Tally:
    """*tally* without a row that it counts."""
    return tally[0] - 1, tally[1] ^ checksum


def tally_of(checksums: Iterable[int]) -> Tally:
    """The tally of all rows of a table."""
    tally = EMPTY
    for checksum in checksums:
        tally = add_row(tally, checksum)
    return tally


def encode_tallies(tallies: dict[str, Tally]) -> bytes:
    packed: bytes = msgpack.packb(tallies)
    return packed


def decode_tallies(packed: bytes) -> dict[str, Tally]:
    return {table: (rows, mixed) for table, (rows, mixed) in msgpack.unpackb(packed).items()}
