"""Which segments ceased to be planned with, so that a plan can be told as a difference · pure."""

from __future__ import annotations

from collections import deque
from itertools import takewhile

# Of one measurement; who holds an older plan gets the whole one.
MAX_REMOVALS = 4096


class Removals:
    """The last segments that were taken out of a measurement.

    Args:
        since: number of the change from which on all of them are here.
    """

    __slots__ = ("_removed", "_since")

    def __init__(self, since: int) -> None:
        self._since = since
        self._removed: deque[tuple[int, int]] = deque()

    def add(self, number: int, segment: int) -> None:
        """The change *number* took *segment* out."""
        self._removed.append((number, segment))
        if len(self._removed) > MAX_REMOVALS:
            self._since = self._removed.popleft()[0]

    def after(self, number: int) -> list[int] | None:
        """Segments taken out after the change *number*; None = that is too long ago."""
        if number < self._since:
            return None
        return [segment for _, segment in takewhile(lambda entry: entry[0] > number, reversed(self._removed))]
