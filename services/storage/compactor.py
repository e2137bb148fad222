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
from dataclasses import replace
from itertools import pairwise
from typing import Any, BinaryIO

from common import wire
from common.errors import InfluxError, InternalError
from common.merge import Merger, slice_column, slice_rows
from common.model import FieldType
from common.segment import (
    FIRST_COLUMN,
    LENGTH,
    NAME,
    TYPE,
    Column,
    decode_block,
    decode_column,
    encode_block,
    find_column,
)
from services.storage.levels import level_of

NICENESS = 10
_LENGTH = struct.Struct("<Q")
Encoded = tuple[dict[str, Any], Sequence[bytes]]


def merge_segments(sources: Sequence[Encoded], max_rows: int) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Merge encoded segments of one measurement and shard, last write wins.

    Args:
        sources: meta and chunks, ascending in who wins.
        max_rows: a result with more rows is cut in equal parts.

    Returns:
        Meta and chunks of the merged segments; no two hold the same row.

    Raises:
        DamagedChunk: a source is not what was encoded.
        InternalError: a field has two types.
    """
    merger = Merger([decode_block(meta, chunks, ()) for meta, chunks in sources])
    rows = merger.block.rows
    parts = -(-rows // max_rows)
    cuts = [rows * part // parts for part in range(parts + 1)]
    fields = _fields(sources)
    results = []
    for start, stop in pairwise(cuts):
        block = slice_rows(merger.block, start, stop)
        columns = (slice_column(column, start, stop) for column in _merged_columns(sources, fields, merger))
        results.append(encode_block(replace(block, columns=()), level_of(block.rows), columns))
    return results


def _fields(sources: Sequence[Encoded]) -> dict[str, FieldType]:
    fields: dict[str, FieldType] = {}
    for meta, _ in sources:
        for entry in meta["chunks"][FIRST_COLUMN:]:
            kind = FieldType(entry[TYPE])
            if fields.setdefault(entry[NAME], kind) is not kind:
                raise InternalError(f"field {entry[NAME]!r} of {meta['measurement']!r} has two types in one shard")
    return fields


def _merged_columns(sources: Sequence[Encoded], fields: dict[str, FieldType], merger: Merger) -> Iterator[Column]:
    for name, kind in fields.items():
        yield merger.merge_column(name, kind, [_decode_named(meta, chunks, name) for meta, chunks in sources])


def _decode_named(meta: dict[str, Any], chunks: Sequence[bytes], name: str) -> Column | None:
    index = find_column(meta, name)
    return None if index is None else decode_column(meta, index, chunks[index])


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
