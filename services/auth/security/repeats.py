"""Failures of one kind from one place: of each minute the first are told one by one, the rest as a number · pure.

Else a flood of wrong credentials or bad bodies, which costs its sender nothing, would push what matters out of a
bounded log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60.0
TOLD_EACH = 200
MAX_PLACES = 10_000
ELSEWHERE = "many addresses"


@dataclass(slots=True)
class _Window:
    ends_s: float
    told: int = 0
    untold: int = 0


class Repeats:
    """Counts them. *clock_s*: monotonic seconds."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._windows: dict[tuple[str, str], _Window] = {}

    def is_told(self, event: str, remote: str) -> bool:
        """Whether this one is told by itself; if not, it is counted."""
        key = (event, remote)
        if key not in self._windows and len(self._windows) >= MAX_PLACES:
            key = (event, ELSEWHERE)
        window = self._windows.setdefault(key, _Window(self._clock_s() + WINDOW_S))
        if window.told < TOLD_EACH:
            window.told += 1
            return True
        window.untold += 1
        return False

    def take_ended(self) -> list[tuple[str, str, int]]:
        """Event, place and number of those that were counted in the windows that have ended."""
        now_s = self._clock_s()
        ended = {key: window for key, window in self._windows.items() if window.ends_s <= now_s}
        for key in ended:
            del self._windows[key]
        return [(event, remote, window.untold) for (event, remote), window in ended.items() if window.untold]
