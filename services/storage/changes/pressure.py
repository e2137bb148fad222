"""Holds appends back when compaction does not keep up (design, decision 5).

Past the bound each append waits, longer the further it is over; at three times the bound appends are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.errors import Unavailable

REFUSE_AT = 3.0
LONGEST_WAIT_S = 1.0


class Pressure:
    """How far level 0 is over its bound.

    Args:
        load: how full level 0 is; 1 = at the bound.
    """

    def __init__(self, load: Callable[[], float]) -> None:
        self._load = load

    async def wait(self) -> None:
        """Return when an append may go on. Raises Unavailable."""
        load = self._load()
        if load >= REFUSE_AT:
            raise Unavailable(
                "cannot store: compaction is behind (TIDEGATE_STORAGE_LEVEL0_BLOCKS, TIDEGATE_STORAGE_LEVEL0_BYTES)",
                retry_after_s=5,
            )
        if load > 1:
            await asyncio.sleep(LONGEST_WAIT_S * (load - 1) / (REFUSE_AT - 1))
