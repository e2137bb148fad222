"""Blocks of columns: what a commit carries from ingest to storage and what a scan carries from storage to the engine.

Rows of a block are sorted by series id, then time, each (series, time) once. · pure

Names (measurements, tags, fields) are str decoded from UTF-8 with surrogate escapes, so that any bytes survive.

An encoded block is a small *meta* (a map that msgpack takes) and its *chunks* (docs/segment-format.md):

    chunk 0   ids     = *(high(8) low(8))        ; of the series that have rows, ascending; raw
    chunk 1   counts  = ints                     ; rows of each series
    chunk 2   times   = ints
    chunk 3…  column  = nulls values             ; a field; values of the rows that have one, by its type
    nulls     = %x00 / %x01 bytes                ; every row has one / a bit a row, lowest first, 1 = has one
    values    = floats / ints / strings / bools

``ints``, ``floats``, ``bools``, ``bytes`` and ``strings`` are those of ``common/codecs/``. A chunk's checksum stands
in the meta and is verified before the chunk is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from common.codecs.bools import decode_bools, encode_bools
from common.codecs.byte_runs import decode_bytes, encode_bytes
from common.codecs.floats import decode_floats, encode_floats
from common.codecs.ints import decode_ints, encode_ints, encode_times, find_bounds
from common.codecs.reader import MAX_VALUES, Buffer, Reader
from common.codecs.reader import DamagedChunk as DamagedChunk
from common.codecs.strings import MAX_TEXT_BYTES, decode_strings, encode_strings, gather_strings
from common.model import FieldType

# A series id is 128 bits as two uint64 (high, low); ids sort by high, then low.
SeriesIds = NDArray[np.uint64]  # shape (n, 2)


@dataclass(frozen=True, slots=True)
class StringArray:
    """String values as one buffer: value i is ``data[offsets[i]:offsets[i + 1]]`` (bytes, UTF-8 not assured)."""

    offsets: NDArray[np.int64]  # shape (n + 1,)
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Column:
    """One field's values over the rows of a block.

    Attributes:
        values: float64, int64, uint64 or bool array, or StringArray, by ``type``; one a row. Where ``valid`` is False
            the value is 0, false or empty.
        valid: bool a row; None = every row has a value.
    """

    name: str
    type: FieldType
    values: NDArray[np.float64] | NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.bool_] | StringArray
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one measurement within one shard of one bucket.

    Attributes:
        series: ids of the series that have rows, ascending, shape (s, 2).
        offsets: rows of series i are ``offsets[i]:offsets[i + 1]``, shape (s + 1,).
        times: ns since the epoch, shape (rows,), ascending within a series.
    """

    bucket_id: str
    measurement: str
    shard_start_ns: int
    shard_stop_ns: int
    series: SeriesIds
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]
    columns: tuple[Column, ...]

    @property
    def rows(self) -> int:
        return len(self.times)


# What ``meta["format"]`` says. A reader refuses what it does not know.
FORMAT = 1
IDS, COUNTS, TIMES, FIRST_COLUMN = range(4)
# Positions in an entry of ``meta["chunks"]``; the last five only of columns.
LENGTH, CHECKSUM, NAME, TYPE, COUNT, MIN, MAX = range(7)

# Of the arrays of all types but strings.
DTYPES: dict[FieldType, type[np.generic]] = {
    FieldType.FLOAT: np.float64,
    FieldType.INTEGER: np.int64,
    FieldType.UNSIGNED: np.uint64,
    FieldType.BOOLEAN: np.bool_,
}
# Up to here Python's own min and max are quicker than numpy's.
_FEW = 48
# The upper half of the ids that stand for lost ones.
NO_SERIES = np.uint64((1 << 64) - 1)
_NO_NULLS, _NULL_MASK = b"\x00", b"\x01"
_ID = struct.Struct(">QQ")
_DICTIONARY = struct.Struct("<BIQ")


# ------------------------------------------------------------------------------------------------------ encode


def encode_block(
    block: Block, level: int, columns: Iterable[Column] | None = None
) -> tuple[dict[str, Any], list[bytes]]:
    """A block as meta and chunks.

    Args:
        block: at least one row; each series has one.
        level: 0 for a commit (cheap), 1 and up for what compaction keeps (small).
        columns: in the place of the block's own; taken one at a time, so that they need not all be in memory.

    Returns:
        The meta: ``{"format": 1, "level", "bucket", "measurement", "shard": [start_ns, stop_ns], "rows", "series": how
        many, "ids": [first, last] (16 bytes each, big-endian, so that they sort as bytes), "time": [first_ns, last_ns],
        "chunks": [[length, crc32], …]}``; the entry of a column is ``[length, crc32, name, type, count, min, max]``:
        how many rows have a value, the least and greatest of them (None of strings and where there are none).
        The chunks, in the order of the entries.
    """
    encoder = BlockEncoder(block, level)
    for column in block.columns if columns is None else columns:
        encoder.add(column)
    return encoder.finish()


class BlockEncoder:
    """A block encoded column by column, so that several blocks can be encoded side by side.

    Args:
        block: at least one row; its columns do not matter.
    """

    def __init__(self, block: Block, level: int) -> None:
        if not block.rows:
            raise ValueError("a block without rows")
        self._block = block
        self._level = level
        self._bounds = find_bounds(block.times)
        self._ids = np.ascontiguousarray(block.series, "<u8")
        self._chunks = [
            self._ids.tobytes(),
            encode_ints(block.offsets[1:] - block.offsets[:-1], level),
            encode_times(block.times, level, self._bounds),
        ]
        self._entries: list[list[Any]] = [[len(chunk), crc32(chunk)] for chunk in self._chunks]

    def add(self, column: Column) -> None:
        """Encode one more column, of all rows of the block."""
        chunk, statistics = _encode_column(column, self._level)
        self._chunks.append(chunk)
        self._entries.append([len(chunk), crc32(chunk), column.name, int(column.type), *statistics])

    def finish(self) -> tuple[dict[str, Any], list[bytes]]:
        """Meta and chunks, as ``encode_block`` gives them."""
        block, ids = self._block, self._ids
        meta = {
            "format": FORMAT,
            "level": self._level,
            "bucket": block.bucket_id,
            "measurement": block.measurement,
            "shard": [block.shard_start_ns, block.shard_stop_ns],
            "rows": block.rows,
            "series": len(ids),
            "ids": [_ID.pack(*ids[0].tolist()), _ID.pack(*ids[-1].tolist())],
            "time": list(self._bounds),
            "chunks": self._entries,
        }
        return meta, self._chunks


def _encode_column(column: Column, level: int) -> tuple[bytes, tuple[int, Any, Any]]:
    """Chunk and statistics (count, min, max) of a column."""
    values, nulls = column.values, _NO_NULLS
    if column.valid is not None and not column.valid.all():
        mask = np.packbits(column.valid, bitorder="little")
        nulls = _NULL_MASK + encode_bytes(mask)
        if isinstance(values, StringArray):
            values = StringArray(*gather_strings(values.offsets, values.data, np.flatnonzero(column.valid)))
        else:
            values = values[column.valid]
    if isinstance(values, StringArray):
        return nulls + encode_strings(values.offsets, values.data, level), (len(values), None, None)
    count = len(values)
    if not count:
        return nulls + _encode_values(column.type, values, level, None), (0, None, None)
    if count < _FEW:
        few = values.tolist()
        bounds = min(few), max(few)
    else:
        bounds = values.min().item(), values.max().item()
    return nulls + _encode_values(column.type, values, level, bounds), (count, *bounds)


def _encode_values(kind: FieldType, values: Any, level: int, bounds: tuple[Any, Any] | None) -> bytes:
    if kind is FieldType.FLOAT:
        return encode_floats(values, level)
    if kind is FieldType.BOOLEAN:
        return encode_bools(values, level)
    return encode_ints(values, level, bounds)


# ------------------------------------------------------------------------------------------------------ decode


def decode_block(meta: dict[str, Any], chunks: Sequence[Buffer], names: Collection[str] | None = None) -> Block:
    """The block that meta and chunks hold.

    Args:
        chunks: one for each entry of ``meta["chunks"]``; those of columns that are not asked for may be empty.
        names: the columns to decode; None = all.

    Raises:
        DamagedChunk: a chunk is not what was encoded.
    """
    if len(chunks) != len(_entries(meta)):
        raise _damaged(meta, f"{len(chunks)} chunks of {len(_entries(meta))}")
    counts = decode_counts(meta, chunks[COUNTS])
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    indexes = [
        index for index in range(FIRST_COLUMN, len(chunks)) if names is None or _entries(meta)[index][NAME] in names
    ]
    shard_start_ns, shard_stop_ns = meta["shard"]
    return Block(
        bucket_id=meta["bucket"],
        measurement=meta["measurement"],
        shard_start_ns=shard_start_ns,
        shard_stop_ns=shard_stop_ns,
        series=decode_ids(meta, chunks[IDS]),
        offsets=offsets,
        times=decode_times(meta, chunks[TIMES]),
        columns=tuple(decode_column(meta, index, chunks[index]) for index in indexes),
    )


def decode_ids(meta: dict[str, Any], chunk: Buffer) -> SeriesIds:
    """Series ids of chunk 0, shape (series, 2); read-only."""
    reader = _verified(meta, IDS, chunk)
    ids = np.frombuffer(reader.take(16 * _bounded(meta, "series")), "<u8").reshape(-1, 2)
    reader.expect_end()
    return ids.astype(np.uint64, copy=False)


def decode_counts(meta: dict[str, Any], chunk: Buffer) -> NDArray[np.int64]:
    """Rows of each series, of chunk 1; at least one each, their sum is the rows of the block."""
    reader = _verified(meta, COUNTS, chunk)
    rows = _bounded(meta, "rows")
    counts = decode_ints(reader, _bounded(meta, "series")).view(np.int64)
    reader.expect_end()
    if not len(counts) or counts.min() < 1 or counts.max() > rows or counts.sum() != rows:
        raise reader.damaged("counts that do not add up")
    return counts


def decode_times(meta: dict[str, Any], chunk: Buffer) -> NDArray[np.int64]:
    """Times of all rows, of chunk 2."""
    reader = _verified(meta, TIMES, chunk)
    times = decode_ints(reader, _bounded(meta, "rows")).view(np.int64)
    reader.expect_end()
    return times


def decode_column(meta: dict[str, Any], index: int, chunk: Buffer) -> Column:
    """The column of chunk *index* (3 and up), all rows."""
    reader = _verified(meta, index, chunk)
    entry = _entries(meta)[index]
    try:
        name, kind = str(entry[NAME]), FieldType(entry[TYPE])
    except (IndexError, ValueError):
        raise reader.damaged("it is no column") from None
    valid = _decode_nulls(reader, _bounded(meta, "rows"))
    values = _decode_values(reader, kind, _bounded(meta, "rows"), valid)
    reader.expect_end()
    return Column(name, kind, values, valid)


def _decode_nulls(reader: Reader, rows: int) -> NDArray[np.bool_] | None:
    form = reader.u8()
    if form == _NO_NULLS[0]:
        return None
    if form != _NULL_MASK[0]:
        raise reader.damaged(f"unknown form {form} of nulls")
    mask = decode_bytes(reader, (rows + 7) // 8)
    return np.unpackbits(mask, count=rows, bitorder="little").view(np.bool_)


def _decode_values(reader: Reader, kind: FieldType, rows: int, valid: NDArray[np.bool_] | None) -> Any:
    count = rows if valid is None else int(np.count_nonzero(valid))
    if kind is FieldType.STRING:
        offsets, text = decode_strings(reader, count)
        if valid is not None:
            lengths = np.zeros(rows, np.int64)
            lengths[valid] = np.diff(offsets)
            offsets = np.zeros(rows + 1, np.int64)
            np.cumsum(lengths, out=offsets[1:])
        return StringArray(offsets, text)
    present: NDArray[Any]
    if kind is FieldType.FLOAT:
        present = decode_floats(reader, count)
    elif kind is FieldType.BOOLEAN:
        present = decode_bools(reader, count)
    else:
        present = decode_ints(reader, count).view(DTYPES[kind])
    if valid is None:
        return present
    values = np.zeros(rows, DTYPES[kind])
    values[valid] = present
    return values


def find_column(meta: dict[str, Any], name: str) -> int | None:
    """The chunk that holds the column *name*."""
    for index, entry in enumerate(_entries(meta)):
        if index >= FIRST_COLUMN and entry[NAME] == name:
            return index
    return None


def split_chunks(meta: dict[str, Any], joined: Buffer) -> list[memoryview]:
    """The chunks of a block that travelled as one buffer. Raises DamagedChunk when it has another size."""
    view, at, chunks = memoryview(joined), 0, []
    for entry in _entries(meta):
        chunks.append(view[at : at + entry[LENGTH]])
        at += entry[LENGTH]
    if at != len(view):
        raise _damaged(meta, f"{len(view)} bytes instead of {at}")
    return chunks


def _verified(meta: dict[str, Any], index: int, chunk: Buffer) -> Reader:
    """A reader of a chunk whose checksum is right."""
    if meta.get("format") != FORMAT:
        raise _damaged(meta, f"unknown format {meta.get('format')!r}")
    entries = _entries(meta)
    if not 0 <= index < len(entries):
        raise _damaged(meta, f"there is no chunk {index}")
    entry = entries[index]
    name = f"chunk {index} of measurement {meta.get('measurement')!r} in bucket {meta.get('bucket')}"
    reader = Reader(chunk, name)
    if len(chunk) != entry[LENGTH]:
        raise reader.damaged(f"{len(chunk)} bytes instead of {entry[LENGTH]}")
    if crc32(chunk) != entry[CHECKSUM]:
        raise reader.damaged("its checksum is wrong")
    return reader


def _entries(meta: dict[str, Any]) -> Sequence[Any]:
    entries = meta.get("chunks")
    if not isinstance(entries, list | tuple):
        raise _damaged(meta, "it has no chunks")
    return entries


def _bounded(meta: dict[str, Any], key: str) -> int:
    number = meta.get(key)
    if not isinstance(number, int) or not 0 < number <= MAX_VALUES:
        raise _damaged(meta, f"{number!r} {key}")
    return number


def _damaged(meta: dict[str, Any], why: str) -> DamagedChunk:
    return DamagedChunk(
        f"damaged meta of measurement {meta.get('measurement')!r} in bucket {meta.get('bucket')}: {why}"
    )


# -------------------------------------------------------------------------------------------------- dictionary

# dictionary = %x01 count(4) size(8) *id(16) *length(4) text crc32(4)   ; size of the text; crc32 of all before it


def encode_dictionary(ids: SeriesIds, keys: Iterable[bytes]) -> bytes:
    """Series ids, shape (n, 2), and their tag keys as one part."""
    texts = list(keys)
    lengths = np.fromiter(map(len, texts), np.uint32, len(texts))
    return _encode_dictionary(ids, lengths, b"".join(texts))


def encode_dictionary_arrays(ids: SeriesIds, keys: StringArray) -> bytes:
    """The same of keys that are an array."""
    text = keys.data[keys.offsets[0] : keys.offsets[-1]]
    return _encode_dictionary(ids, np.diff(keys.offsets), text.tobytes())


def _encode_dictionary(ids: SeriesIds, lengths: NDArray[Any], text: bytes) -> bytes:
    if len(ids) != len(lengths):
        raise ValueError(f"{len(ids)} ids and {len(lengths)} keys")
    words = np.ascontiguousarray(ids, "<u8").tobytes()
    body = _DICTIONARY.pack(1, len(lengths), len(text)) + words + lengths.astype("<u4").tobytes() + text
    return body + struct.pack("<I", crc32(body))


def decode_dictionary(part: Buffer) -> tuple[SeriesIds, list[bytes]]:
    """Ids and tag keys of a part. Raises DamagedChunk."""
    ids, keys = decode_dictionary_arrays(part)
    text, offsets = keys.data.tobytes(), keys.offsets.tolist()
    return ids, [text[start:stop] for start, stop in pairwise(offsets)]


def decode_dictionary_arrays(part: Buffer) -> tuple[SeriesIds, StringArray]:
    """The same with the keys as an array, without a Python object a key."""
    view = memoryview(part)
    reader = Reader(view, "series dictionary")
    version, count, size = _DICTIONARY.unpack(reader.take(_DICTIONARY.size))
    if version != 1 or count > MAX_VALUES or size > MAX_TEXT_BYTES:
        raise reader.damaged(f"format {version}, {count} series, {size} bytes of keys")
    ids = np.frombuffer(reader.take(16 * count), "<u8").reshape(-1, 2)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.frombuffer(reader.take(4 * count), "<u4"), out=offsets[1:])
    text = np.frombuffer(reader.take(size), np.uint8)
    checksum = reader.u32()
    reader.expect_end()
    if crc32(view[:-4]) != checksum:
        raise reader.damaged("its checksum is wrong")
    if int(offsets[-1]) != size:
        raise reader.damaged("lengths that do not add up")
    return ids.astype(np.uint64, copy=False), StringArray(offsets, text)
