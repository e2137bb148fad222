"""A process's byte budget: taken before a body is read or a column decoded (design, decision 16) · pure."""

from __future__ import annotations

from common.errors import Unavailable


class Budget:
    """Counts bytes in use against a limit.

    Args:
        limit_bytes: the most that may be in use at one time.
        setting: name of the setting to raise, for the message.
    """

    def __init__(self, limit_bytes: int, setting: str = "TIDEGATE_MEMORY_BYTES") -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._setting = setting

    def take(self, size: int) -> None:
        """Count *size* bytes in. Raises Unavailable when that is over the limit: nothing is counted then."""
        if self.used_bytes + size > self.limit_bytes:
            raise Unavailable(f"out of memory budget: {self._setting} is {self.limit_bytes} bytes", retry_after_s=1)
        self.used_bytes += size

    def give(self, size: int) -> None:
        """Count *size* bytes out again."""
        self.used_bytes -= size

    def claim(self) -> Claim:
        """Bytes that are counted in bit by bit and counted out together."""
        return Claim(self)

    def held(self, size: int) -> Claim:
        """Hold *size* bytes for the length of a with block. Raises as ``take``."""
        claim = Claim(self)
        claim.take(size)
        return claim


class Claim:
    """What one request holds of a budget; a context manager that gives all of it back."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def take(self, size: int) -> None:
        """Count *size* more bytes in. Raises Unavailable when that is over the limit."""
        self._budget.take(size)
        self.size += size

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self.size)
        self.size = 0
