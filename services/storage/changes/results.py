"""Ids of writes: when one may be stored, and for how long its result is remembered · pure.

An id is 8 bytes big-endian Unix ms and 8 random ones, minted by the gateway (design, decision 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.errors import Invalid
from common.rpc import wire

REMEMBERED_MS = 15 * 60 * 1000
# Clocks of gateways may be this far ahead of storage's.
TOLERANCE_MS = 60_000
WRITE_ID_BYTES = 16


def check_ids(ids: Iterable[bytes], now_ms: int) -> None:
    """Raises Invalid for an id whose result may have been forgotten (storing it could double), or of the future
    (its result would be forgotten too late, and another gateway's clock is wrong)."""
    for id in ids:
        minted_ms = int.from_bytes(id[:8], "big")
        if minted_ms < now_ms - REMEMBERED_MS:
            raise Invalid("cannot store: the write is older than 15 minutes")
        if minted_ms > now_ms + TOLERANCE_MS:
            raise Invalid("cannot store: the write comes from the future; the clocks of the services differ")


def oldest_id(time_ms: int) -> bytes:
    """The least id that was minted at *time_ms*."""
    return max(time_ms, 0).to_bytes(8, "big") + bytes(WRITE_ID_BYTES - 8)


def decode_result(packed: bytes | None) -> Any:
    """A remembered result as it travels."""
    return None if packed is None else wire.decode_head(packed)
