"""Calls that change the same thing at the same time: each is decided anew until its turn comes.

A change of records rests on what was read before it; storage refuses it when someone else was faster.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.errors import Unavailable
from services.auth.records.change import KeyTaken, Stale

T = TypeVar("T")
# One of those that collide gets through each time; a random pause lets the others meet less often.
MAX_ATTEMPTS = 50
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.05


async def settle(decide: Callable[[], Awaitable[T]]) -> T:
    """Call *decide*, and again from its start while others change what it has read before it can write.

    Raises:
        Unavailable: that has happened too often.
    """
    longest_s = FIRST_PAUSE_S
    for _ in range(MAX_ATTEMPTS):
        try:
            return await decide()
        except (Stale, KeyTaken):
            await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311
            longest_s = min(2 * longest_s, LONGEST_PAUSE_S)
    raise Unavailable("too many changes of the same thing at the same time")
