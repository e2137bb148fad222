"""How long the queries of one token may run in a minute · pure: the clock comes in.

A token has as many seconds as the limit says and gets them back evenly over a minute; a query may overdraw them once.
Counted in this process alone: with several replicas each has its own.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from common.errors import TooManyRequests

WINDOW_S = 60.0
# Tokens that are remembered; of more, those that have not asked for longest begin anew.
MAX_TOKENS = 20_000


class Allowance:
    """Counts seconds of queries.

    Args:
        limit_s: of each token in a minute; 0 = no limit.
        clock_s: monotonic seconds.
    """

    def __init__(self, limit_s: float, clock_s: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._clock_s = clock_s
        # By the token's id: seconds used, and as of when.
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, token: str) -> None:
        """Raise TooManyRequests while *token* has used up its time."""
        used_s = self._counted(token)
        if self._limit_s and used_s >= self._limit_s:
            wait_s = (used_s - self._limit_s) * WINDOW_S / self._limit_s
            raise TooManyRequests(
                f"the queries of this token have run for TIDEGATE_QUERY_TOKEN_S, {self._limit_s:g} s in a minute",
                retry_after_s=max(1, math.ceil(wait_s)),
            )

    def spend(self, token: str, seconds: float) -> None:
        """Count a query of *token* that has run for so long."""
        if self._limit_s:
            self._used[token] = self._counted(token) + seconds, self._clock_s()
            self._used.move_to_end(token)
            if len(self._used) > MAX_TOKENS:
                self._used.popitem(last=False)

    def _counted(self, token: str) -> float:
        """What is still counted of the seconds that *token* has used."""
        used_s, as_of_s = self._used.get(token, (0.0, 0.0))
        return max(0.0, used_s - (self._clock_s() - as_of_s) * self._limit_s / WINDOW_S)
