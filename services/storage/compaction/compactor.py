"""The process that merges segments: ``python -m services.storage.compaction.compactor``, fed by ``compaction.py``.

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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from common.errors import InfluxError, InternalError
from common.merge import Merger, filter_rows, take_column
from common.model import FieldType
from common.rpc import wire
from common.segment import (
    FIRST_COLUMN,
    LENGTH,
    NAME,
    TYPE,
    Block,
    BlockEncoder,
    Column,
    decode_block,
    decode_column,
    find_column,
)
from common.tombstones import hidden_rows
from services.storage.compaction.levels import level_of

NICENESS = 10
_LENGTH = struct.Struct("<Q")
Encoded = tuple[dict[str, Any], Sequence[bytes]]


def merge_segments(sources: Sequence[Encoded], max_rows: int) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Merge encoded segments of one measurement and shard, last write wins.

    Args:
        sources: meta and chunks, ascending in who wins. ``meta["hidden"]``, where it is there, is what deletes hide:
            ``[[start_ns, stop_ns, None | a bit a series of the block], …]``.
        max_rows: a result with more rows is cut by time.

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
    cuts = cut_by_time(merger.block, max_rows)
    encoders = [BlockEncoder(part, level_of(part.rows)) for _, part in cuts]
    for name, kind in _fields(kept).items():
        column = merger.merge_column(name, kind, [source.column(name) for source in kept])
        for (rows, _), encoder in zip(cuts, encoders, strict=True):
            encoder.add(column if rows is None else take_column(column, rows))
    return [encoder.finish() for encoder in encoders]


def cut_by_time(block: Block, max_rows: int) -> list[tuple[NDArray[np.int64] | None, Block]]:
    """*block*, which has no columns, in parts of at most *max_rows* rows.

    The shard is halved, and each half again, until the rows of one are few enough; so parts of different merges have
    the same bounds. Rows of one and the same time are cut by series.

    Returns:
        Positions of the rows of each part (None = all), and their structure; ascending in time.
    """
    if block.rows <= max_rows:
        return [(None, block)]
    found: list[NDArray[np.int64]] = []
    waiting = [(block.shard_start_ns, block.shard_stop_ns, np.arange(block.rows))]
    while waiting:
        start_ns, stop_ns, rows = waiting.pop()
        if len(rows) <= max_rows:
            # What is little goes with what is before it.
            if found and len(found[-1]) + len(rows) <= max_rows // 2:
                found[-1] = np.union1d(found[-1], rows)
            else:
                found.append(rows)
        elif stop_ns - start_ns <= 1:
            found += np.array_split(rows, -(-len(rows) // max_rows))
        else:
            middle_ns = start_ns + (stop_ns - start_ns) // 2
            is_late = block.times[rows] >= middle_ns
            halves = ((middle_ns, stop_ns, rows[is_late]), (start_ns, middle_ns, rows[~is_late]))
            waiting += [half for half in halves if len(half[2])]
    return [(rows, _rows_of(block, rows)) for rows in found]


def _rows_of(block: Block, rows: NDArray[np.int64]) -> Block:
    mask = np.zeros(block.rows, np.bool_)
    mask[rows] = True
    part = filter_rows(block, mask)
    assert part is not None
    return part


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
