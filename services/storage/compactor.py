"""The process that merges segments: ``python -m services.storage.compactor``, started and fed by ``compaction.py``.

It has no sockets and no files: packed requests come on standard input, answers go to standard output, and it ends
when the input does. Decoding, merging and encoding are heavy, so it runs niced, with one thread, one column of a
segment in memory at a time.

    message  = length(8, little-endian) msgpack
    request  = [[max_rows, [[meta, [chunk, …]], …]], …]     ; merges; the sources in the order in which they win
    answer   = [[[meta, [chunk, …]], …] | error text, …]    ; the merged segments of each
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
from common.segment import FIRST_COLUMN, NAME, TYPE, Column, decode_block, decode_column, encode_block, find_column
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


def answer(request: Any) -> list[Any]:
    """The merged segments of each merge of a request; the error's text where one fails."""
    answers: list[Any] = []
    for max_rows, sources in request:
        try:
            answers.append(merge_segments(sources, max_rows))
        except InfluxError as error:
            answers.append(str(error))
    return answers


def write_message(stream: BinaryIO, message: Any) -> None:
    """Write one message and flush it."""
    packed = wire.encode_head(message)
    stream.write(_LENGTH.pack(len(packed)))
    stream.write(packed)
    stream.flush()


def read_message(stream: BinaryIO) -> Any:
    """The next message. Raises EOFError when there is none, or it is cut."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(header)
    packed = stream.read(size)
    if len(packed) < size:
        raise EOFError
    return wire.decode_head(packed)


def main() -> None:
    os.nice(NICENESS)
    # Whatever prints must not print into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            write_message(answers, answer(read_message(sys.stdin.buffer)))


if __name__ == "__main__":
    main()
