"""Ids of new records: the two generators.

Source: InfluxDB 2.x, "Identifiers and tokens". An id is 64 bits as 16 lower-case hex digits, never zero.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from common.model import format_id

# 2017-04-09T00:00:00Z: where the millisecond clock of time-sortable ids begins.
EPOCH_MS = 1_491_696_000_000
MACHINE_BITS, SEQUENCE_BITS = 10, 12


class IdMaker:
    """Makes ids: time-sortable ones, and random ones for organizations and buckets.

    Args:
        clock_ms: Unix milliseconds. A clock that goes back makes no smaller id.
        machine: 10 bits that tell replicas apart.
    """

    def __init__(self, clock_ms: Callable[[], int], machine: int | None = None) -> None:
        self._clock_ms = clock_ms
        self._machine = secrets.randbelow(1 << MACHINE_BITS) if machine is None else machine
        self._last_ms = 0
        self._sequence = 0

    def sortable(self) -> str:
        """An id greater than each one made here before."""
        now_ms = self._clock_ms()
        if now_ms > self._last_ms:
            # A random start: replicas that drew the same machine number would else meet at sequence 0.
            self._last_ms, self._sequence = now_ms, secrets.randbelow(256)
        else:
            self._sequence += 1
            if self._sequence >> SEQUENCE_BITS:
                self._last_ms, self._sequence = self._last_ms + 1, 0
        stamp = (self._last_ms - EPOCH_MS) << (MACHINE_BITS + SEQUENCE_BITS)
        return format_id(stamp | self._machine << SEQUENCE_BITS | self._sequence)

    def random(self) -> str:
        """An id that says nothing."""
        return format_id(secrets.randbelow((1 << 64) - 1) + 1)
