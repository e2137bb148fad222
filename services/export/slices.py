"""How wide the next slice of time is, so that an answer is neither huge nor nothing · pure."""

from __future__ import annotations

# Rows that a slice should have; one with more than twice as many makes the next one narrower.
TARGET_ROWS = 200_000
# The first slice of a shard is this part of it: an hour of a week.
FIRST_PART = 168
GROWTH = 4


class Slices:
    """The slices of ``[start_ns, stop_ns)``, one after the other: ``window``, ask, ``done``, until it is None."""

    def __init__(self, start_ns: int, stop_ns: int) -> None:
        self._at = start_ns
        self._stop_ns = stop_ns
        self._width = max(1, (stop_ns - start_ns) // FIRST_PART)

    def window(self) -> tuple[int, int] | None:
        """The slice that is next, half open; None = there is none any more."""
        if self._at >= self._stop_ns:
            return None
        return self._at, min(self._at + self._width, self._stop_ns)

    def done(self, rows: int) -> None:
        """The slice had so many rows."""
        self._at = min(self._at + self._width, self._stop_ns)
        if rows > 2 * TARGET_ROWS:
            self._width = max(1, self._width * TARGET_ROWS // rows)
        elif rows < TARGET_ROWS // GROWTH:
            self._width *= GROWTH
