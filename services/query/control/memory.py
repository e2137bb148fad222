"""Memory that the C library keeps after it was freed, given back to the system.

glibc keeps what is freed (``common/allocator.py`` has it do so): a query service with a budget of 256 MiB stayed at a
gigabyte after some large queries (docs/decisions/0055-portions.md). Without glibc nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aiohttp import web

# Looked at so often; a trim takes some ms for each 100 MiB that it gives back, outside of the event loop.
EVERY_S = 0.5
# What may be held beyond the budget's bytes and what was left after the last trim.
SLACK_BYTES = 64 << 20
# After so many looks what was left after a trim is tried again: it may have been in use.
RETRY_LOOKS = 20


class Trimmer:
    """Gives memory back when the process holds more than its budget explains.

    Args:
        used_bytes: what is in use of the budget.
        resident_bytes: memory of this process.
        trim: gives back what it can.
    """

    def __init__(
        self, used_bytes: Callable[[], int], resident_bytes: Callable[[], int], trim: Callable[[], None]
    ) -> None:
        self._used_bytes = used_bytes
        self._resident_bytes = resident_bytes
        self._trim = trim
        self._least_bytes = self._floor_bytes = self._unexplained()
        self._looks = 0

    def _unexplained(self) -> int:
        return self._resident_bytes() - self._used_bytes()

    async def look(self) -> bool:
        """Trim if it is worth it; whether it was."""
        unexplained = self._unexplained()
        self._least_bytes = min(self._least_bytes, unexplained)
        self._looks += 1
        floor_bytes = self._least_bytes if self._looks >= RETRY_LOOKS else min(self._floor_bytes, unexplained)
        if unexplained <= floor_bytes + SLACK_BYTES:
            return False
        await asyncio.to_thread(self._trim)
        # What can't be given back is no reason to try again soon.
        self._floor_bytes, self._looks = self._unexplained(), 0
        return True

    async def run(self) -> None:
        """Look every now and then until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()


def trimming(used_bytes: Callable[[], int]) -> Callable[[web.Application], AsyncIterator[None]]:
    """A cleanup context with a ``Trimmer``; it does nothing where the C library is not glibc."""

    async def keep(_app: web.Application) -> AsyncIterator[None]:
        library = ctypes.CDLL(None)
        if not hasattr(library, "malloc_trim"):
            yield
            return
        task = asyncio.create_task(Trimmer(used_bytes, resident_bytes, lambda: library.malloc_trim(0)).run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return keep


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
