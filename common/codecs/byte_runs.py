"""Runs of bytes: what the other codecs come down to · pure.

bytes    = %x00 raw / %x01 byte(1) / %x02 length(4) zstd-frame
         / %x03 bits(1) packed                   ; values under 2^bits, bits 1 or 2, the first in the lowest bits
"""

from __future__ import annotations

import struct

import numpy as np
import zstandard
from numpy.typing import NDArray

from common.codecs.reader import Reader

BYTES_RAW, BYTES_CONSTANT, BYTES_ZSTD, BYTES_PACKED = range(4)

# Below this many values no passes are taken to look for something better than what is at hand.
FEW = 48
# zstd has to save this share of a run of bytes to be worth its decoding.
_ZSTD_GAIN = 0.03
# Bytes that zstd brings down to no less than this share are more chance than pattern. Then matches, which are chance
# too, cost more than they save: 0.34 B a value for the steps of a walk, 0.29 when (nearly) no matches are looked for.
_RANDOM = 1 / 64
_LITERALS = zstandard.ZstdCompressionParameters.from_level(1, min_match=7, hash_log=6, window_log=17)
_LENGTH = struct.Struct("<I")


def encode_bytes(values: NDArray[np.uint8]) -> bytes:
    """A run of bytes: one value, raw, packed bits, or zstd-1 where that pays."""
    count = len(values)
    if count and not (values != values[0]).any():
        return bytes((BYTES_CONSTANT, values[0]))
    if count < FEW:
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
