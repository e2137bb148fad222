"""Booleans ↔ bytes · pure.

    bools    = bytes                                 ; 8 a byte, lowest bit first

``bytes``: ``byte_runs.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.codecs.byte_runs import BYTES_RAW, decode_bytes, encode_bytes
from common.codecs.reader import Reader


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
