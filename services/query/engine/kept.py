"""What has been worked out and may be asked for again, kept as room allows · pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """Values by key, bounded in bytes: the least recently used go first.

    Args:
        room_bytes: what all values together may take.
    """

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def find(self, key: Hashable) -> V | None:
        """The value kept under *key*, which counts as used just now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def keep(self, key: Hashable, value: V, size: int) -> None:
        """Keep *value*, which takes *size* bytes, in place of what was there; not at all when it is larger than the
        room."""
        self._remove(key)
        if size > self.room_bytes:
            return
        while self.used_bytes + size > self.room_bytes:
            self._remove(next(iter(self._entries)))
        self._entries[key] = (value, size)
        self.used_bytes += size

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry[1]
