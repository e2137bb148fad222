"""How the C library keeps the memory that is freed.

Arrays of some MB are made and freed for each large write. By default glibc gives such memory back to the system, and
the next array finds all of its pages anew: a tenth of what a large write costs in ingest and in the gateway
(docs/decisions/0059-large-bodies.md). Without glibc nothing is done.
"""

from __future__ import annotations

import ctypes

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
# One arena for all threads: what is freed in one is of use in another. Small objects are not malloc's but Python's.
ARENAS = 1
# Larger arrays than this are given back at once: the most that glibc lets one set.
KEPT_ARRAY_BYTES = 32 << 20
# Freed memory at the end of the heap is given back beyond this.
KEPT_BYTES = 64 << 20
STEP_BYTES = 4 << 20


def keep_freed_memory() -> None:
    """Let freed memory of this process serve its next arrays; at the start, before there are threads."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return
    library.mallopt(_M_ARENA_MAX, ARENAS)
    library.mallopt(_M_MMAP_THRESHOLD, KEPT_ARRAY_BYTES)
    library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    library.mallopt(_M_TOP_PAD, STEP_BYTES)
