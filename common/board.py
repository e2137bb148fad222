"""The board: counters in shared memory by which storage tells query services of the same machine what has changed.

A file of 64-bit words in the machine's own order, in a folder that lives in memory (``TIDEGATE_SHARED_MEMORY``):

    word 0: MAGIC · word 1: the epoch, a random number of the storage process that keeps it; 0 = nobody does
    words HEADER … HEADER + SLOTS - 1: the slots

Each measurement, and each bucket's list of measurements, has one slot, which others may share. Storage counts it up
with every change of what it answers about them: after the change is on disk, before anybody hears that it is. So who
read a slot before asking storage, and finds it unchanged later, still has the newest answer. Source:
docs/decisions/0065-the-board.md · pure.
"""

from __future__ import annotations

import zlib

MAGIC = 0x7469646567617431  # "tidegat1": the layout's version is its last digit
SLOTS = 8192
HEADER = 8
EPOCH = 1
SIZE_BYTES = (HEADER + SLOTS) * 8


def word_of(bucket_id: str, measurement: str = "") -> int:
    """Where the slot of a measurement stands, or that of the bucket's list of measurements."""
    return HEADER + zlib.crc32(f"{bucket_id}/{measurement}".encode("utf-8", "surrogateescape")) % SLOTS
