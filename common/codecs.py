"""Codecs: arrays of one type ↔ bytes · pure.

The encoder chooses, the bytes say what was chosen, so a decoder needs the number of values and nothing else. Level 0 is
for a commit (a pass or two over the values), level 1 and up for what compaction keeps. All integers are little-endian;
arithmetic on values is modulo 2^64, so that int64 and uint64 share every codec. Numbers: docs/decisions/0001-codecs.md.

    ints     = %x00 base(8)                          ; constant: every value is base
             / %x01 base(8) width(1) raw             ; narrow: value - base in width (1, 2, 4, 8) bytes
             / %x02 base(8) width(1) 1*8bytes        ; planes: byte 0 of every value - base, then byte 1, …
             / %x03 first(8) ints                    ; delta: the first value, then n - 1 differences
             / %x04 base(8) factor(8) ints           ; scaled: value = base + factor * inner
             / %x05 count(4) sized sized ints        ; patched: inner with the values (2nd) at the positions (1st)
             / %x06 count(4) sized ints              ; distinct: the values that occur, then which one it is
    sized    = length(4) ints                        ; ints of length bytes
    bytes    = %x00 raw / %x01 byte(1) / %x02 length(4) zstd-frame
             / %x03 bits(1) packed                   ; values under 2^bits, bits 1 or 2, the first in the lowest bits
    floats   = %x00 ints                             ; the bits as uint64
             / %x01 exponent(1) ints                 ; decimal: value = inner / 10^exponent, exactly
             / %x02 exponent(1) count(4) sized sized ints  ; the same, with the bits (2nd) at the positions (1st)
    bools    = bytes                                 ; 8 a byte, lowest bit first

Strings: ``common/strings.py``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from common.errors import InternalError

Buffer = bytes | bytearray | memoryview
Words = NDArray[np.uint64]

CONSTANT, NARROW, PLANES, DELTA, SCALED, PATCHED, DISTINCT = range(7)
BYTES_RAW, BYTES_CONSTANT, BYTES_ZSTD, BYTES_PACKED = range(4)
FLOAT_BITS, FLOAT_DECIMAL, FLOAT_DECIMAL_PATCHED = range(3)

# Bounds of what a decoder may allocate, whatever the bytes say.
MAX_VALUES = 1 << 24
MAX_DEPTH = 8

# An encoder tries its choices on this many values, in a few stretches.
_SAMPLE, _STRETCHES = 1 << 15, 4
# zstd has to save this share of a run of bytes to be worth its decoding.
_ZSTD_GAIN = 0.03
# Bytes that zstd brings down to no less than this share are more chance than pattern. Then matches, which are chance
# too, cost more than they save: 0.34 B a value for the steps of a walk, 0.29 when (nearly) no matches are looked for.
_RANDOM = 1 / 64
_LITERALS = zstandard.ZstdCompressionParameters.from_level(1, min_match=7, hash_log=6, window_log=17)
# Below this many values a commit takes no passes to look for something better than what is at hand.
_FEW = 48
_MAX_EXPONENT, _MAX_CHEAP_EXPONENT = 12, 6
_MAX_EXCEPTIONS = 0.02
_DISTINCT_SAMPLE, _MAX_DISTINCT = 1 << 14, 1 << 16
# A commit looks for decimals from so many values on: fewer are written sooner than examined.
_CHEAP_DECIMAL = 2048
_MASK = (1 << 64) - 1

_BASE = struct.Struct("<BQ")
_BASE_WIDTH = struct.Struct("<BQB")
_BASE_FACTOR = struct.Struct("<BQQ")
_COUNT = struct.Struct("<BI")
_EXPONENT = struct.Struct("<BB")
_EXPONENT_COUNT = struct.Struct("<BBI")
_LENGTH = struct.Struct("<I")
_WORD = struct.Struct("<Q")


class DamagedChunk(InternalError):
    """Stored bytes that are not what was stored; the message names them."""


# ---------------------------------------------------------------------------------------------------- integers


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
    if level > 0 or len(times) < _FEW:
        return encode_ints(times, level, bounds)
    low, high = bounds or find_bounds(times)
    if low == high:
        return _BASE.pack(CONSTANT, low & _MASK)
    factor = _common_factor((times[: _FEW // 2] - low).tolist(), high - low)
    if factor > 1:
        residues = times.view(np.uint64) - np.uint64(low & _MASK)
        quotients = residues // np.uint64(factor)
        if np.array_equal(quotients * np.uint64(factor), residues):
            inner = _encode_narrow(quotients, 0, (high - low) // factor)
            return _BASE_FACTOR.pack(SCALED, low & _MASK, factor) + inner
    return _encode_narrow(times, low, high)


def find_bounds(values: NDArray[Any]) -> tuple[int, int]:
    """Least and greatest of at least one integer."""
    if len(values) < _FEW:
        few = values.tolist()
        return min(few), max(few)
    return int(values.min()), int(values.max())


def _common_factor(residues: list[int], span: int) -> int:
    return math.gcd(span, *residues)


def _encode_narrow(values: NDArray[Any], low: int, high: int) -> bytes:
    span = high - low
    width = 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4 if span < 1 << 32 else 8
    if width == 8:
        return _BASE_WIDTH.pack(NARROW, 0, 8) + values.tobytes()
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
    positions, patches = _decode_patches(reader, count, depth)
    values = decode_ints(reader, count, depth + 1)
    values[positions] = patches
    return values


def _decode_patches(reader: Reader, count: int, depth: int) -> tuple[NDArray[np.int64], Words]:
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


# ------------------------------------------------------------------------------------------------------- bytes


def encode_bytes(values: NDArray[np.uint8]) -> bytes:
    """A run of bytes: one value, raw, packed bits, or zstd-1 where that pays."""
    count = len(values)
    if count and not (values != values[0]).any():
        return bytes((BYTES_CONSTANT, values[0]))
    if count < _FEW:
        return bytes((BYTES_RAW,)) + values.tobytes()
    packed = zstandard.ZstdCompressor(level=1).compress(values.data)
    if len(packed) > count * _RANDOM:
        packed = min(packed, zstandard.ZstdCompressor(compression_params=_LITERALS).compress(values.data), key=len)
    greatest = int(values.max())
    # zstd takes at least one bit a value, and wastes some on matches that are chance.
    if greatest < 4 and len(packed) > count * (1 + (greatest > 1)) // 8:
        bits = 1 + (greatest > 1)
        return bytes((BYTES_PACKED, bits)) + _pack(values, bits).tobytes()
    if len(packed) + 4 <= count * (1 - _ZSTD_GAIN):
        return bytes((BYTES_ZSTD,)) + _LENGTH.pack(len(packed)) + packed
    return bytes((BYTES_RAW,)) + values.tobytes()


def _pack(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 1:
        return np.packbits(values, bitorder="little")
    fours = np.zeros((len(values) + 3) // 4 * 4, np.uint8)
    fours[: len(values)] = values
    fours[1::4] <<= 2
    fours[2::4] <<= 4
    fours[3::4] <<= 6
    return fours[0::4] | fours[1::4] | fours[2::4] | fours[3::4]


def _unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="little")
    fours = np.empty((len(packed), 4), np.uint8)
    for place in range(4):
        np.bitwise_and(packed >> (2 * place), 3, out=fours[:, place])
    return fours.reshape(-1)[:count]


def decode_bytes(reader: Reader, count: int) -> NDArray[np.uint8]:
    """A run of *count* bytes; perhaps read-only."""
    form = reader.u8()
    if form == BYTES_RAW:
        return np.frombuffer(reader.take(count), np.uint8)
    if form == BYTES_CONSTANT:
        return np.full(count, reader.u8(), np.uint8)
    if form == BYTES_PACKED:
        bits = reader.u8()
        if bits not in (1, 2):
            raise reader.damaged(f"{bits} bits")
        return _unpack(np.frombuffer(reader.take((count * bits + 7) // 8), np.uint8), bits, count)
    if form != BYTES_ZSTD:
        raise reader.damaged(f"unknown form {form} of bytes")
    packed = reader.take(reader.u32())
    try:
        # The size is checked first: decompress() allocates what the frame says.
        if zstandard.frame_content_size(packed) != count:
            raise reader.damaged("zstd frame of another size")
        text = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise reader.damaged(f"zstd: {error}") from None
    return np.frombuffer(text, np.uint8)


class Reader:
    """Reads an encoded chunk from front to back and never past its end.

    Args:
        buffer: the bytes.
        name: what they are, for the message of a DamagedChunk.
    """

    __slots__ = ("_at", "_buffer", "name")

    def __init__(self, buffer: Buffer, name: str) -> None:
        self._buffer = memoryview(buffer)
        self._at = 0
        self.name = name

    def damaged(self, why: str) -> DamagedChunk:
        return DamagedChunk(f"damaged {self.name}: {why}")

    def take(self, size: int) -> memoryview:
        start, stop = self._at, self._at + size
        if stop > len(self._buffer):
            raise self.damaged("it is too short")
        self._at = stop
        return self._buffer[start:stop]

    def part(self, size: int) -> Reader:
        return Reader(self.take(size), self.name)

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        number: int = _LENGTH.unpack(self.take(4))[0]
        return number

    def u64(self) -> int:
        number: int = _WORD.unpack(self.take(8))[0]
        return number

    def expect_end(self) -> None:
        if self._at != len(self._buffer):
            raise self.damaged("it is too long")


# ------------------------------------------------------------------------------------------ floats and booleans


def encode_floats(values: NDArray[np.float64], level: int) -> bytes:
    """float64 as bytes, bit by bit the same when decoded, -0.0 and NaN included."""
    count = len(values)
    if count >= (2 if level > 0 else _CHEAP_DECIMAL):
        decimal = _encode_decimal(values, level)
        if decimal is not None:
            return decimal
    bits = values.view(np.uint64)
    if level <= 0 and count > 1 and bits[0] != bits[1]:
        # Bits seldom lie in a narrow range: no pass to find out.
        return bytes((FLOAT_BITS,)) + _BASE_WIDTH.pack(NARROW, 0, 8) + values.tobytes()
    return bytes((FLOAT_BITS,)) + encode_ints(bits, level)


def _encode_decimal(values: NDArray[np.float64], level: int) -> bytes | None:
    """Values with few decimal places as integers; None where they are not such."""
    few = values[:: max(1, len(values) // (64 if level <= 0 else 1024))]
    allowed = 0.0 if level <= 0 else _MAX_EXCEPTIONS
    exponent = _find_exponent(few, _MAX_CHEAP_EXPONENT if level <= 0 else _MAX_EXPONENT, allowed)
    if exponent is None:
        return None
    numbers, exact = _scale(values, exponent)
    if exact.all():
        return _EXPONENT.pack(FLOAT_DECIMAL, exponent) + encode_ints(numbers, level)
    positions = np.flatnonzero(~exact)
    if len(positions) > allowed * len(values):
        return None
    numbers[positions] = numbers[int(np.argmax(exact))]
    return (
        _EXPONENT_COUNT.pack(FLOAT_DECIMAL_PATCHED, exponent, len(positions))
        + sized(encode_ints(positions.astype(np.int64), level))
        + sized(encode_ints(values[positions].view(np.uint64), level))
        + encode_ints(numbers, level)
    )


def _find_exponent(few: NDArray[np.float64], greatest: int, allowed: float) -> int | None:
    """The least exponent at which (nearly) all of *few* are whole; None = there is none."""
    enough = len(few) * (1 - allowed)
    # What is whole at a small exponent is so at a greater one too, unless it grows too large.
    for last in (greatest, greatest // 2):
        if np.count_nonzero(_scale(few, last)[1]) >= enough:
            return next(e for e in range(last + 1) if np.count_nonzero(_scale(few, e)[1]) >= enough)
    return None


def _scale(values: NDArray[np.float64], exponent: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Integers near values * 10^exponent, and where decoding them gives the very same bits: not for -0.0."""
    power = 10.0**exponent
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.rint(values * power).astype(np.int64)
    return numbers, (numbers / power).view(np.int64) == values.view(np.int64)


def decode_floats(reader: Reader, count: int) -> NDArray[np.float64]:
    """*count* float64 from *reader*. Raises DamagedChunk."""
    form = reader.u8()
    if form == FLOAT_BITS:
        return decode_ints(reader, count).view(np.float64)
    if form not in (FLOAT_DECIMAL, FLOAT_DECIMAL_PATCHED):
        raise reader.damaged(f"unknown form {form} of floats")
    exponent = reader.u8()
    if exponent > _MAX_EXPONENT:
        raise reader.damaged(f"exponent {exponent}")
    patches = _decode_patches(reader, count, 0) if form == FLOAT_DECIMAL_PATCHED else None
    values = decode_ints(reader, count).view(np.int64) / 10.0**exponent
    if patches is not None:
        values[patches[0]] = patches[1].view(np.float64)
    return values


def encode_bools(values: NDArray[np.bool_], level: int) -> bytes:
    """Booleans, 8 a byte."""
    packed = np.packbits(values, bitorder="little")
    if level > 0:
        return encode_bytes(packed)
    return bytes((BYTES_RAW,)) + packed.tobytes()


def decode_bools(reader: Reader, count: int) -> NDArray[np.bool_]:
    """*count* booleans from *reader*. Raises DamagedChunk."""
    packed = decode_bytes(reader, (count + 7) // 8)
    return np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)
