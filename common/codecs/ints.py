"""Integers of 64 bits ↔ bytes · pure.

    ints     = %x00 base(8)                          ; constant: every value is base
             / %x01 base(8) width(1) raw             ; narrow: value - base in width (1, 2, 4, 8) bytes
             / %x02 base(8) width(1) 1*8bytes        ; planes: byte 0 of every value - base, then byte 1, …
             / %x03 first(8) ints                    ; delta: the first value, then n - 1 differences
             / %x04 base(8) factor(8) ints           ; scaled: value = base + factor * inner
             / %x05 count(4) sized sized ints        ; patched: inner with the values (2nd) at the positions (1st)
             / %x06 count(4) sized ints              ; distinct: the values that occur, then which one it is
    sized    = length(4) ints                        ; ints of length bytes

``bytes``: ``byte_runs.py``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.codecs.byte_runs import FEW, decode_bytes, encode_bytes
from common.codecs.reader import MAX_DEPTH, Reader

Words = NDArray[np.uint64]

CONSTANT, NARROW, PLANES, DELTA, SCALED, PATCHED, DISTINCT = range(7)

# An encoder tries its choices on this many values, in a few stretches.
_SAMPLE, _STRETCHES = 1 << 15, 4
_DISTINCT_SAMPLE, _MAX_DISTINCT = 1 << 14, 1 << 16
_MASK = (1 << 64) - 1

_BASE = struct.Struct("<BQ")
_BASE_WIDTH = struct.Struct("<BQB")
_BASE_FACTOR = struct.Struct("<BQQ")
_COUNT = struct.Struct("<BI")
_LENGTH = struct.Struct("<I")


def encode_ints(values: NDArray[Any], level: int, bounds: tuple[int, int] | None = None) -> bytes:
    """Integers as bytes.

    Args:
        values: int64 or uint64, shape (n,).
        level: 0 = cheap, 1 and up = small.
        bounds: least and greatest value, where the caller knows them (n > 0).
    """
    count = len(values)
    if not count:
        return _BASE.pack(CONSTANT, 0)
    low, high = bounds or find_bounds(values)
    if low == high:
        return _BASE.pack(CONSTANT, low & _MASK)
    if level <= 0:
        return _encode_narrow(values, low, high)
    return _encode_scaled(values, low, high)


def encode_times(times: NDArray[np.int64], level: int, bounds: tuple[int, int] | None = None) -> bytes:
    """Timestamps as bytes: ``encode_ints``, and at level 0 too a look for whole microseconds to seconds."""
    if level > 0 or len(times) < FEW:
        return encode_ints(times, level, bounds)
    low, high = bounds or find_bounds(times)
    if low == high:
        return _BASE.pack(CONSTANT, low & _MASK)
    factor = _common_factor((times[: FEW // 2] - low).tolist(), high - low)
    if factor > 1:
        residues = times.view(np.uint64) - np.uint64(low & _MASK)
        quotients = residues // np.uint64(factor)
        if np.array_equal(quotients * np.uint64(factor), residues):
            inner = _encode_narrow(quotients, 0, (high - low) // factor)
            return _BASE_FACTOR.pack(SCALED, low & _MASK, factor) + inner
    return _encode_narrow(times, low, high)


def encode_wide(values: NDArray[Any]) -> bytes:
    """Values of 8 bytes as they are, without a look at them: as ``ints``, whatever their type."""
    return _BASE_WIDTH.pack(NARROW, 0, 8) + values.tobytes()


def find_bounds(values: NDArray[Any]) -> tuple[int, int]:
    """Least and greatest of at least one integer."""
    if len(values) < FEW:
        few = values.tolist()
        return min(few), max(few)
    return int(values.min()), int(values.max())


def _common_factor(residues: list[int], span: int) -> int:
    return math.gcd(span, *residues)


def _encode_narrow(values: NDArray[Any], low: int, high: int) -> bytes:
    span = high - low
    width = 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4 if span < 1 << 32 else 8
    if width == 8:
        return encode_wide(values)
    base = low & _MASK
    residues = values.view(np.uint64) - np.uint64(base)
    return _BASE_WIDTH.pack(NARROW, base, width) + residues.astype(f"<u{width}").tobytes()


def _encode_scaled(values: NDArray[Any], low: int, high: int) -> bytes:
    """The smallest form found, of the values over their common factor where they have one."""
    residues = values.view(np.uint64) - np.uint64(low & _MASK)
    factor = _common_factor(residues[:: max(1, len(residues) // 64)].tolist(), high - low)
    if factor > 1:
        quotients = residues // np.uint64(factor)
        rest = residues - quotients * np.uint64(factor)
        if rest.any():
            factor = math.gcd(factor, int(np.gcd.reduce(rest)))
            quotients = residues // np.uint64(factor)
        if factor > 1:
            return _BASE_FACTOR.pack(SCALED, low & _MASK, factor) + _encode_best(quotients, depth=3)
    return _encode_best(values, depth=3)


def _encode_best(values: NDArray[Any], depth: int) -> bytes:
    """Try each form on a sample, take the smallest for all."""
    if not len(values):
        return _BASE.pack(CONSTANT, 0)
    low, high = find_bounds(values)
    if low == high:
        return _BASE.pack(CONSTANT, low & _MASK)
    if not depth:
        return _encode_planes(values, 0)
    sample = _sample(values)
    encode: Callable[[NDArray[Any], int], bytes | None] = _encode_planes
    best = _encode_planes(sample, depth)
    for other in (_encode_delta, _encode_patched):
        tried = other(sample, depth)
        if tried is not None and len(tried) < len(best):
            best, encode = tried, other
    if len(best) > 2 * len(sample) and depth > 1:
        # A sample shows too few of the values that repeat to judge by; a look at all is worth it for wide ones only.
        whole = _encode_distinct(values, depth)
        if whole is not None and len(whole) * len(sample) < len(best) * len(values):
            return whole
    if sample is values:
        return best
    whole = encode(values, depth)
    # What a sample promised, all values need not keep.
    return _encode_planes(values, 0) if whole is None else whole


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    count = len(values)
    if count <= _SAMPLE:
        return values
    length = _SAMPLE // _STRETCHES
    starts = [stretch * (count - length) // (_STRETCHES - 1) for stretch in range(_STRETCHES)]
    return np.concatenate([values[start : start + length] for start in starts])


def _encode_planes(values: NDArray[Any], depth: int) -> bytes:
    low, high = find_bounds(values)
    if low == high:
        return _BASE.pack(CONSTANT, low & _MASK)
    base = low & _MASK
    residues = values.view(np.uint64) - np.uint64(base)
    width = ((high - low).bit_length() + 7) // 8
    matrix = residues.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    planes = [encode_bytes(np.ascontiguousarray(matrix[:, plane])) for plane in range(width)]
    return _BASE_WIDTH.pack(PLANES, base, width) + b"".join(planes)


def _encode_delta(values: NDArray[Any], depth: int) -> bytes | None:
    if len(values) < 2:
        return None
    words = values.view(np.uint64)
    differences = (words[1:] - words[:-1]).view(np.int64)
    return _BASE.pack(DELTA, int(words[0])) + _encode_best(differences, depth - 1)


def _encode_patched(values: NDArray[Any], depth: int) -> bytes | None:
    """Values mostly near their median, with the others apart; None where the others are none or many."""
    words = values.view(np.uint64)
    few = np.sort(values[:: max(1, len(values) // 1023)])
    middle = few[len(few) // 2]
    distance = (words - middle.view(np.uint64)).view(np.int64)
    distance = np.abs(distance).view(np.uint64)  # |-2^63| is 2^63 as uint64
    cost, others = 8.0 * len(values), np.zeros(0, np.bool_)
    for bits in (0, 2, 4, 8, 16, 32):
        beyond = distance > np.uint64((1 << (bits - 1)) - 1 if bits else 0)
        tried = bits / 8 * len(values) + 6.0 * np.count_nonzero(beyond)
        if tried < cost:
            cost, others = tried, beyond
    positions = np.flatnonzero(others)
    if not len(positions):
        return None
    inner = values.copy()
    inner[positions] = middle
    return (
        _COUNT.pack(PATCHED, len(positions))
        + sized(_encode_best(positions.astype(np.int64), 1))
        + sized(_encode_best(values[positions], depth - 1))
        + _encode_best(inner, depth - 1)
    )


def _encode_distinct(values: NDArray[Any], depth: int) -> bytes | None:
    """Few values that occur often; None where they are many."""
    few = values[:: max(1, len(values) // _DISTINCT_SAMPLE)]
    if len(np.unique(few)) > 0.6 * len(few):
        return None
    distinct = np.unique(values)
    if len(distinct) * 4 > len(values) or len(distinct) > _MAX_DISTINCT:
        return None
    codes = np.searchsorted(distinct, values)
    table = _encode_best(distinct, 1)
    return _COUNT.pack(DISTINCT, len(distinct)) + sized(table) + _encode_best(codes.astype(np.int64), depth - 2)


def sized(encoded: bytes) -> bytes:
    """*encoded* behind its length."""
    return _LENGTH.pack(len(encoded)) + encoded


def decode_ints(reader: Reader, count: int, depth: int = 0) -> Words:
    """*count* integers from *reader*, as their bits. Raises DamagedChunk."""
    if depth > MAX_DEPTH:
        raise reader.damaged("codecs nested too deep")
    codec = reader.u8()
    decode = _DECODERS.get(codec)
    if decode is None:
        raise reader.damaged(f"unknown codec {codec}")
    return decode(reader, count, depth)


def _decode_constant(reader: Reader, count: int, depth: int) -> Words:
    return np.full(count, reader.u64(), np.uint64)


def _decode_narrow(reader: Reader, count: int, depth: int) -> Words:
    base, width = reader.u64(), reader.u8()
    if width not in (1, 2, 4, 8):
        raise reader.damaged(f"width {width}")
    return _widen(np.frombuffer(reader.take(count * width), f"<u{width}"), base)


def _widen(narrow: NDArray[Any], base: int) -> Words:
    values = narrow.astype(np.uint64)
    if base:
        values += np.uint64(base)
    return values


def _decode_planes(reader: Reader, count: int, depth: int) -> Words:
    base, width = reader.u64(), reader.u8()
    if not 1 <= width <= 8:
        raise reader.damaged(f"width {width}")
    if width == 1:
        return _widen(decode_bytes(reader, count), base)
    storage = 2 if width == 2 else 4 if width <= 4 else 8
    matrix = np.zeros((count, storage), np.uint8) if storage != width else np.empty((count, storage), np.uint8)
    for plane in range(width):
        matrix[:, plane] = decode_bytes(reader, count)
    return _widen(matrix.reshape(-1).view(f"<u{storage}"), base)


def _decode_delta(reader: Reader, count: int, depth: int) -> Words:
    if not count:
        raise reader.damaged("differences of no value")
    values = np.empty(count, np.uint64)
    values[0] = first = reader.u64()
    differences = decode_ints(reader, count - 1, depth + 1)
    if count > 1:
        differences[:1] += np.uint64(first)
    np.cumsum(differences, out=values[1:])
    return values


def _decode_scaled(reader: Reader, count: int, depth: int) -> Words:
    base, factor = reader.u64(), reader.u64()
    values = decode_ints(reader, count, depth + 1)
    values *= np.uint64(factor)
    values += np.uint64(base)
    return values


def _decode_patched(reader: Reader, count: int, depth: int) -> Words:
    positions, patches = decode_patches(reader, count, depth)
    values = decode_ints(reader, count, depth + 1)
    values[positions] = patches
    return values


def decode_patches(reader: Reader, count: int, depth: int) -> tuple[NDArray[np.int64], Words]:
    """Positions among *count* values, and the integers that belong there."""
    patches = reader.u32()
    if patches > count:
        raise reader.damaged(f"{patches} patches of {count} values")
    positions = decode_sized(reader, patches, depth).view(np.int64)
    check_positions(reader, positions, count)
    return positions, decode_sized(reader, patches, depth)


def _decode_distinct(reader: Reader, count: int, depth: int) -> Words:
    distinct = reader.u32()
    if distinct > max(count, 1):
        raise reader.damaged(f"{distinct} distinct of {count} values")
    values = decode_sized(reader, distinct, depth)
    codes = decode_ints(reader, count, depth + 1).view(np.int64)
    check_positions(reader, codes, distinct)
    return values[codes]


def decode_sized(reader: Reader, count: int, depth: int = 0) -> Words:
    """*count* integers that stand behind their length."""
    inner = reader.part(reader.u32())
    values = decode_ints(inner, count, depth + 1)
    inner.expect_end()
    return values


def check_positions(reader: Reader, positions: NDArray[np.int64], stop: int) -> None:
    """Raise DamagedChunk unless each position is in [0, stop)."""
    if len(positions) and (int(positions.min()) < 0 or int(positions.max()) >= stop):
        raise reader.damaged("position out of range")


_DECODERS: dict[int, Callable[[Reader, int, int], Words]] = {
    CONSTANT: _decode_constant,
    NARROW: _decode_narrow,
    PLANES: _decode_planes,
    DELTA: _decode_delta,
    SCALED: _decode_scaled,
    PATCHED: _decode_patched,
    DISTINCT: _decode_distinct,
}
