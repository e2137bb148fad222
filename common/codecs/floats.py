"""Floats of 64 bits ↔ bytes, bit by bit the same · pure.

    floats   = %x00 ints                             ; the bits as uint64
             / %x01 exponent(1) ints                 ; decimal: value = inner / 10^exponent, exactly
             / %x02 exponent(1) count(4) sized sized ints  ; the same, with the bits (2nd) at the positions (1st)

``ints`` and ``sized``: ``ints.py``.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from common.codecs.ints import decode_ints, decode_patches, encode_ints, encode_wide, sized
from common.codecs.reader import Reader

FLOAT_BITS, FLOAT_DECIMAL, FLOAT_DECIMAL_PATCHED = range(3)

_MAX_EXPONENT, _MAX_CHEAP_EXPONENT = 12, 6
_MAX_EXCEPTIONS = 0.02
# A commit looks for decimals from so many values on: fewer are written sooner than examined.
_CHEAP_DECIMAL = 2048
_EXPONENT = struct.Struct("<BB")
_EXPONENT_COUNT = struct.Struct("<BBI")


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
        return bytes((FLOAT_BITS,)) + encode_wide(values)
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
    patches = decode_patches(reader, count, 0) if form == FLOAT_DECIMAL_PATCHED else None
    values = decode_ints(reader, count).view(np.int64) / 10.0**exponent
    if patches is not None:
        values[patches[0]] = patches[1].view(np.float64)
    return values
