"""Files in memory that processes of one user share."""

from __future__ import annotations

import mmap
import os
import stat


def is_own(status: os.stat_result) -> bool:
    """Whether a file is a plain one of this process's user, and nobody else may write it."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def map_words(descriptor: int, size_bytes: int, access: int) -> memoryview[int]:
    """The 64-bit words of the file that *descriptor* has open; *access* as of ``mmap.mmap``."""
    return memoryview(mmap.mmap(descriptor, size_bytes, access=access)).cast("Q")
