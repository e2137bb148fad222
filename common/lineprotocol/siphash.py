"""SipHash-2-4 with 128 bits: the keyed hash behind series ids and the parser's tables. · pure

Keyed, so that nobody who sends lines can make names collide. Runs plain and compiled (``words.py``).
Source: Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012, and its reference code for 128 bits.
"""

from __future__ import annotations

from common.lineprotocol.words import Text, byte_at, load64, u64


def sip_round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    """One round of the permutation."""
    v0 = u64(v0 + v1)
    v1 = u64(v1 << u64(13)) | (v1 >> u64(51))
    v1 = v1 ^ v0
    v0 = u64(v0 << u64(32)) | (v0 >> u64(32))
    v2 = u64(v2 + v3)
    v3 = u64(v3 << u64(16)) | (v3 >> u64(48))
    v3 = v3 ^ v2
    v0 = u64(v0 + v3)
    v3 = u64(v3 << u64(21)) | (v3 >> u64(43))
    v3 = v3 ^ v0
    v2 = u64(v2 + v1)
    v1 = u64(v1 << u64(17)) | (v1 >> u64(47))
    v1 = v1 ^ v2
    v2 = u64(v2 << u64(32)) | (v2 >> u64(32))
    return v0, v1, v2, v3


def siphash128(text: Text, start: int, stop: int, k0: int, k1: int) -> tuple[int, int]:
    """Hash of ``text[start:stop]`` under the key (k0, k1).

    Returns:
        (high, low): the second and the first 8 bytes of SipHash's output, each read as a little-endian word.
    """
    v0 = k0 ^ u64(0x736F6D6570736575)
    v1 = k1 ^ u64(0x646F72616E646F6D) ^ u64(0xEE)
    v2 = k0 ^ u64(0x6C7967656E657261)
    v3 = k1 ^ u64(0x7465646279746573)
    i = start
    while i + 8 <= stop:
        word = load64(text, i)
        v3 = v3 ^ word
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 = v0 ^ word
        i += 8
    word = u64(u64(stop - start) << u64(56))
    shift = u64(0)
    while i < stop:
        word = word | u64(u64(byte_at(text, i)) << shift)
        shift = u64(shift + u64(8))
        i += 1
    v3 = v3 ^ word
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 = v0 ^ word
    v2 = v2 ^ u64(0xEE)
    for _ in range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 = v1 ^ u64(0xDD)
    for _ in range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3, low
