"""Decoded units that are kept, bounded in bytes and counted in the process's budget · pure."""

from __future__ import annotations

from collections import OrderedDict

from common.budget import Budget
from services.query.reading import units
from services.query.reading.units import Unit

# Bucket, measurement, and the generation that the codes are of.
CacheKey = tuple[str, str, int]
# That, and the ids of the segments that a unit is made of.
UnitKey = tuple[CacheKey, tuple[int, ...]]


class UnitCache:
    """Decoded units, the least recently used of which go first when bytes run short."""

    def __init__(self, budget: Budget, limit_bytes: int) -> None:
        self._budget = budget
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[UnitKey, tuple[Unit, int]] = OrderedDict()
        self.used_bytes = 0

    def find(self, key: UnitKey) -> Unit | None:
        """The unit kept under *key*, which counts as used just now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def keep(self, key: UnitKey, unit: Unit) -> None:
        """Keep *unit*, or count it anew when it has grown; not at all when it is larger than the cache."""
        self._remove(key)
        size = unit.structure_bytes + sum(map(units.column_bytes, unit.columns.values()))
        if size > self._limit_bytes:
            return
        self.make_room(size)
        self._budget.take(size)
        self._entries[key] = (unit, size)
        self.used_bytes += size

    def make_room(self, size: int) -> None:
        """Give up entries until *size* more bytes fit, in the cache and in the budget, as far as that helps."""
        while self._entries and (
            self.used_bytes + size > self._limit_bytes or self._budget.used_bytes + size > self._budget.limit_bytes
        ):
            self._remove(next(iter(self._entries)))

    def make_room_in_budget(self, size: int) -> None:
        """Give up entries until *size* bytes fit in the budget, as far as that helps: for others than this cache."""
        while self._entries and self._budget.used_bytes + size > self._budget.limit_bytes:
            self._remove(next(iter(self._entries)))

    def drop(self, measurement: CacheKey) -> None:
        """Forget all units of a measurement."""
        for key in [key for key in self._entries if key[0] == measurement]:
            self._remove(key)

    def _remove(self, key: UnitKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._budget.give(entry[1])
            self.used_bytes -= entry[1]
