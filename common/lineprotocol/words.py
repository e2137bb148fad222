"""Bytes and 64-bit words for the kernels: operations that mean the same in plain Python and compiled. · pure

In plain Python a word is an int below 2**64 and a text is a memoryview; compiled, a word is a uint64 and a text a uint8
array. ``compiled.py`` gives each function here its machine form. A compiled text is read without bounds checks: its
maker leaves PAD bytes behind the last byte that a kernel may look at.
"""

from __future__ import annotations

from typing import Any

# A memoryview (plain) or a uint8 array (compiled).
Text = Any

PAD = 32
_MASK = 0xFFFFFFFFFFFFFFFF


def u64(x: Any) -> int:
    """*x* modulo 2**64, as a word."""
    return int(x) & _MASK


def i64(x: Any) -> int:
    """A word below 2**63 as a signed number."""
    return int(x)


def byte_at(text: Text, i: int) -> int:
    """Byte *i*, 0–255."""
    return int(text[i])


def load64(text: Text, i: int) -> int:
    """The 8 bytes from *i* on as a little-endian word."""
    return int.from_bytes(text[i : i + 8], "little")


def lowest_bit(x: int) -> int:
    """Position of the lowest bit that is set, of a word that is not 0."""
    return (x & -x).bit_length() - 1


def parse_double(text: Text, start: int, stop: int) -> float:
    """The decimal number in ``text[start:stop]``, rounded once; infinite when it is too large. A blank, a comma or a
    line end stands behind it."""
    return float(bytes(text[start:stop]))
