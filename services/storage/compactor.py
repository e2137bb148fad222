"""The process that merges segments: ``python -m services.storage.compactor``, started and fed by ``compaction.py``.

It has no sockets and no files: packed requests come on standard input, answers go to standard output, and it ends
when the input does. Decoding, merging and encoding are heavy, so it runs niced, with one thread, one column of a
segment in memory at a time.

    request  = message *block     ; message: [[max_rows, sources], …] a merge; then its blocks, in the order in which
                                  ; they win
    answer   = message *block     ; message: [results | error text, …] a merge; then the blocks that came out
    block    = message *chunk     ; message: the meta, which tells the lengths of the chunks
    message  = length(8, little-endian) msgpack
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from common import wire
from common.errors import InfluxError, InternalError
from common.merge import Merger, filter_rows, slice_column, slice_rows, take_column
from common.model import FieldType
from common.segment import (
    FIRST_COLUMN,
    LENGTH,
    NAME,
    TYPE,
    Block,
    Column,
    decode_block,
    decode_column,
    encode_block,
    find_column,
)
from common.tombstones import hidden_rows
from services.storage.levels import level_of

NICENESS = 10
_LENGTH = struct.Struct("<Q")
Encoded = tuple[dict[str, Any], Sequence[bytes]]


def merge_segments(sources: Sequence[Encoded], max_rows: int) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Merge encoded segments of one measurement and shard, last write wins.

    Args:
        sources: meta and chunks, ascending in who wins. ``meta["hidden"]``, where it is there, is what deletes hide:
            ``[[start_ns, stop_ns, None | a bit a series of the block], …]``.
        max_rows: a result with more rows is cut in equal parts.

    Returns:
        Meta and chunks of the merged segments; no two hold the same row. None at all when no row is left.

    Raises:
        DamagedChunk: a source is not what was encoded.
        InternalError: a field has two types.
    """
    kept = [found for meta, chunks in sources if (found := _Kept.of(meta, chunks)) is not None]
    if not kept:
        return []
    merger = Merger([each.block for each in kept])
    rows = merger.block.rows
    parts = -(-rows // max_rows)
    cuts = [rows * part // parts for part in range(parts + 1)]
    fields = _fields(kept)
    results = []
    for start, stop in pairwise(cuts):
        block = slice_rows(merger.block, start, stop)
        columns = (slice_column(column, start, stop) for column in _merged_columns(kept, fields, merger))
        results.append(encode_block(replace(block, columns=()), level_of(block.rows), columns))
    return results


@dataclass(frozen=True, slots=True)
class _Kept:
    """A source with the rows that deletes leave.

    Attributes:
        block: their structure.
        rows: their positions; None = all rows of the source.
    """

    meta: dict[str, Any]
    chunks: Sequence[bytes]
    block: Block
    rows: NDArray[np.int64] | None

    @classmethod
    def of(cls, meta: dict[str, Any], chunks: Sequence[bytes]) -> _Kept | None:
        """None when no row is left."""
        block = decode_block(meta, chunks, ())
        hidden = meta.get("hidden")
        if not hidden:
            return cls(meta, chunks, block, None)
        gone = hidden_rows(block, [(start, stop, _mask(bits, len(block.series))) for start, stop, bits in hidden])
        left = filter_rows(block, ~gone)
        return None if left is None else cls(meta, chunks, left, np.flatnonzero(~gone))

    def column(self, name: str) -> Column | None:
        index = find_column(self.meta, name)
        if index is None:
            return None
        column = decode_column(self.meta, index, self.chunks[index])
        return column if self.rows is None else take_column(column, self.rows)


def _mask(bits: bytes | None, count: int) -> NDArray[np.bool_] | None:
    if bits is None:
        return None
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count, bitorder="little").view(np.bool_)


def _fields(sources: Sequence[_Kept]) -> dict[str, FieldType]:
    fields: dict[str, FieldType] = {}
    for source in sources:
        for entry in source.meta["chunks"][FIRST_COLUMN:]:
            kind = FieldType(entry[TYPE])
            if fields.setdefault(entry[NAME], kind) is not kind:
                measurement = source.meta["measurement"]
                raise InternalError(f"field {entry[NAME]!r} of {measurement!r} has two types in one shard")
    return fields


def _merged_columns(sources: Sequence[_Kept], fields: dict[str, FieldType], merger: Merger) -> Iterator[Column]:
    for name, kind in fields.items():
        yield merger.merge_column(name, kind, [source.column(name) for source in sources])


def answer(stream: BinaryIO, answers: BinaryIO) -> None:
    """Read one request and write its answer. Raises EOFError when there is none any more."""
    asked = read_message(stream)
    merges = [[read_block(stream) for _ in range(sources)] for _, sources in asked]
    outcomes: list[int | str] = []
    results: list[Encoded] = []
    for (max_rows, _), sources in zip(asked, merges, strict=True):
        try:
            found = merge_segments(sources, max_rows)
        except InfluxError as error:
            outcomes.append(str(error))
        else:
            outcomes.append(len(found))
            results += found
    write_message(answers, wire.encode_head(outcomes))
    for meta, chunks in results:
        write_block(answers, wire.encode_head(meta), chunks)
    answers.flush()


def write_message(stream: BinaryIO, packed: bytes) -> None:
    """Write one packed message."""
    stream.write(_LENGTH.pack(len(packed)))
    stream.write(packed)


def read_message(stream: BinaryIO) -> Any:
    """The next message. Raises EOFError when there is none, or it is cut."""
    (size,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    return wire.decode_head(_read(stream, size))


def write_block(stream: BinaryIO, meta: bytes, chunks: Sequence[bytes]) -> None:
    """Write a block: its packed meta, then its chunks, which are not copied into one."""
    write_message(stream, meta)
    for chunk in chunks:
        stream.write(chunk)


def read_block(stream: BinaryIO) -> Encoded:
    """The next block. Raises EOFError."""
    meta = read_message(stream)
    return meta, [_read(stream, entry[LENGTH]) for entry in meta["chunks"]]


def _read(stream: BinaryIO, size: int) -> bytes:
    read = stream.read(size)
    if len(read) < size:
        raise EOFError
    return read


def main() -> None:
    os.nice(NICENESS)
    # Whatever prints must not print into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            answer(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
