"""When the writes that wait are worth a call of their own · pure.

A call costs ingest and storage 1 ms each before its first point, so a call for every client that happens to be a little
faster than the others wastes most of the machine. Clients that have just been answered are likely to write again:
as many writes as were under way lately are waited for, for a moment. Somebody who is alone waits for nobody.
The numbers: docs/decisions/0052-small-writes.md.
"""

from __future__ import annotations

# This many writes, or bytes of bodies, are enough for a call.
ENOUGH_WRITES = 32
ENOUGH_BYTES = 32 << 10


class Gathering:
    """Counts what waits and what is on its way.

    Attributes:
        waiting, waiting_bytes: writes that no call carries now, and their bodies.
        carried: writes that calls carry now.
    """

    __slots__ = ("_expected", "carried", "waiting", "waiting_bytes")

    def __init__(self) -> None:
        self._expected = 1
        self.waiting = 0
        self.waiting_bytes = 0
        self.carried = 0

    def add(self, size: int) -> None:
        """A write with a body of *size* bytes begins to wait."""
        self.waiting += 1
        self.waiting_bytes += size

    def remove(self, writes: int, size: int) -> None:
        """*writes* of *size* bytes in sum wait no more."""
        self.waiting -= writes
        self.waiting_bytes -= size

    def is_enough(self) -> bool:
        """Whether those that wait should leave now."""
        self._expected = max(self._expected, self.waiting + self.carried)
        return self.waiting >= min(self._expected, ENOUGH_WRITES) or self.waiting_bytes >= ENOUGH_BYTES

    def expect_no_more(self) -> None:
        """Those that were waited for did not come."""
        self._expected = max(1, self.waiting + self.carried)
