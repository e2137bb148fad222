"""The moment of a request · pure."""

from __future__ import annotations


class Now:
    """What ``now()`` is, the same for the whole of a request.

    Attributes:
        asked: whether anybody has asked for it. What was worked out without it holds at any time.
    """

    __slots__ = ("_ns", "asked")

    def __init__(self, ns: int) -> None:
        self._ns = ns
        self.asked = False

    def ns(self) -> int:
        """ns since the epoch."""
        self.asked = True
        return self._ns
