"""Arrays of byte strings as offsets and one buffer, and their codec · pure.

Value i is ``text[offsets[i]:offsets[i + 1]]``.

    strings  = %x00 sized bytes                      ; lengths as ints, then the text of all values
             / %x01 count(4) length(4) strings ints  ; distinct values, then which one it is

``sized`` and ``ints``: ``ints.py``; ``bytes``: ``byte_runs.py``.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from common.codecs.byte_runs import BYTES_RAW, decode_bytes, encode_bytes
from common.codecs.ints import check_positions, decode_ints, decode_sized, encode_ints, sized
from common.codecs.reader import MAX_DEPTH, Reader

Strings = tuple[NDArray[np.int64], NDArray[np.uint8]]  # offsets (n + 1,), text

PLAIN, DISTINCT = range(2)
# The most that a decoder allocates for the text of one array.
MAX_TEXT_BYTES = 1 << 30

# Longer values are not looked at for being few.
_MAX_DISTINCT_LENGTH = 256
_FEW = 64
# A commit compresses text from this size on.
_CHEAP_ZSTD_BYTES = 1 << 12
_DISTINCT = struct.Struct("<BII")
# Masks of the first n bytes of a word.
_FIRST_BYTES: NDArray[np.uint64] = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)


def gather_strings(offsets: NDArray[np.int64], text: NDArray[np.uint8], index: NDArray[np.int64]) -> Strings:
    """The values at *index*, in that order, as an array of their own."""
    starts = offsets[index]
    lengths = offsets[index + 1] - starts
    gathered = np.zeros(len(index) + 1, np.int64)
    np.cumsum(lengths, out=gathered[1:])
    source = np.arange(gathered[-1]) + np.repeat(starts - gathered[:-1], lengths)
    return gathered, text[source]


def concat_strings(arrays: list[Strings]) -> Strings:
    """The values of all *arrays*, one after the other."""
    offsets = [np.zeros(1, np.int64)]
    end = 0
    for each, _ in arrays:
        offsets.append(each[1:] - each[0] + end)
        end += int(each[-1] - each[0])
    return np.concatenate(offsets), np.concatenate([text[each[0] : each[-1]] for each, text in arrays] or [_no_text()])


def encode_strings(offsets: NDArray[np.int64], text: NDArray[np.uint8], level: int) -> bytes:
    """Byte strings as bytes; *level* as in ``encode_ints``."""
    count = len(offsets) - 1
    if count >= _FEW and level > 0:
        distinct = _find_distinct(offsets, text)
        if distinct is not None:
            values, codes = distinct
            inner = _encode_plain(*values, level)
            return _DISTINCT.pack(DISTINCT, len(values[0]) - 1, len(inner)) + inner + encode_ints(codes, level)
    return _encode_plain(offsets, text, level)


def _encode_plain(offsets: NDArray[np.int64], text: NDArray[np.uint8], level: int) -> bytes:
    used = text[offsets[0] : offsets[-1]]
    lengths = sized(encode_ints(offsets[1:] - offsets[:-1], level))
    compress = level > 0 or len(used) >= _CHEAP_ZSTD_BYTES
    packed = encode_bytes(np.ascontiguousarray(used)) if compress else bytes((BYTES_RAW,)) + used.tobytes()
    return bytes((PLAIN,)) + lengths + packed


def decode_strings(reader: Reader, count: int, depth: int = 0) -> Strings:
    """*count* byte strings from *reader*. Raises DamagedChunk."""
    form = reader.u8()
    if form == PLAIN:
        lengths = decode_sized(reader, count)
        if len(lengths) and int(lengths.max()) > MAX_TEXT_BYTES:
            raise reader.damaged("a value is too long")
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(lengths.view(np.int64), out=offsets[1:])
        size = int(offsets[-1])
        if size > MAX_TEXT_BYTES:
            raise reader.damaged("the values are too long")
        return offsets, decode_bytes(reader, size)
    if form != DISTINCT or depth >= MAX_DEPTH:
        raise reader.damaged(f"unknown form {form} of strings")
    distinct = reader.u32()
    if distinct > count:
        raise reader.damaged(f"{distinct} distinct of {count} values")
    inner = reader.part(reader.u32())
    values, text = decode_strings(inner, distinct, depth + 1)
    inner.expect_end()
    codes = decode_ints(reader, count).view(np.int64)
    check_positions(reader, codes, distinct)
    if int(np.diff(values)[codes].sum()) > MAX_TEXT_BYTES:
        raise reader.damaged("the values are too long")
    return gather_strings(values, text, codes)


def _find_distinct(offsets: NDArray[np.int64], text: NDArray[np.uint8]) -> tuple[Strings, NDArray[np.int64]] | None:
    """The values that occur and which of them each is; None where they are long or many."""
    lengths = offsets[1:] - offsets[:-1]
    if int(lengths.max()) > _MAX_DISTINCT_LENGTH:
        return None
    few = range(0, len(lengths), max(1, len(lengths) // 512))
    if len({text[offsets[i] : offsets[i + 1]].tobytes() for i in few}) * 2 > len(few):
        return None
    hashes = lengths.view(np.uint64).copy()
    words = _Words(offsets, text)
    for word in range(words.count):
        hashes ^= words.at(word)
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    _, first, codes = np.unique(hashes, return_index=True, return_inverse=True)
    if len(first) * 4 > len(lengths):
        return None
    same = first[codes]
    if not np.array_equal(lengths, lengths[same]):
        return None  # two values of one hash: never mind
    for word in range(words.count):
        values = words.at(word)
        if not np.array_equal(values, values[same]):
            return None
    return gather_strings(offsets, text, first), codes.astype(np.int64, copy=False)


class _Words:
    """The values as words of 8 bytes, zeros behind the end."""

    def __init__(self, offsets: NDArray[np.int64], text: NDArray[np.uint8]) -> None:
        padded = np.zeros(len(text) + 8, np.uint8)
        padded[: len(text)] = text
        self._windows = np.lib.stride_tricks.sliding_window_view(padded, 8)
        self._starts = offsets[:-1]
        self._lengths = offsets[1:] - offsets[:-1]
        self.count = (int(self._lengths.max()) + 7) // 8

    def at(self, word: int) -> NDArray[np.uint64]:
        """Word number *word* of each value."""
        here = np.minimum(self._starts + 8 * word, len(self._windows) - 1)
        words: NDArray[np.uint64] = np.ascontiguousarray(self._windows[here]).view("<u8").reshape(-1)
        mask: NDArray[np.uint64] = _FIRST_BYTES[np.clip(self._lengths - 8 * word, 0, 8)]
        return np.bitwise_and(words, mask, out=words)


def _no_text() -> NDArray[np.uint8]:
    return np.zeros(0, np.uint8)
