"""A bounded cache that is told of changes, not polled (design, decision 11) · pure.

Every change of identity, tenancy or schema has a number. An answer carries the number as of which it was read; the
cache refuses an answer older than what it has been told to drop, so that a slow answer can't undo a revocation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

V = TypeVar("V")


class ToldCache(Generic[V]):
    """Least recently used entries go first; entries carry tags by which a change drops them.

    Args:
        max_entries: bound on the number of entries.
        unfed_ttl_s: how long an entry is good while the feed is down.
        clock_s: monotonic seconds.
    """

    def __init__(self, max_entries: int, clock_s: Callable[[], float], unfed_ttl_s: float = 5.0) -> None:
        self._max = max_entries
        self._clock_s = clock_s
        self._unfed_ttl_s = unfed_ttl_s
        self._entries: OrderedDict[Hashable, tuple[V, frozenset[str], float]] = OrderedDict()
        self._by_tag: dict[str, set[Hashable]] = {}
        self._dropped: OrderedDict[str, int] = OrderedDict()
        self._floor = 0
        self._fed = False

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Hashable) -> V | None:
        """The value, or None when there is none that may be used now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not self._fed and self._clock_s() - entry[2] > self._unfed_ttl_s:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Hashable, value: V, tags: Iterable[str], as_of: int) -> None:
        """Keep *value*, read as of change number *as_of*, unless something it hangs on has changed since."""
        tags = frozenset(tags)
        if as_of < self._floor or self.is_superseded(tags, as_of):
            return
        self._remove(key)
        self._entries[key] = (value, tags, self._clock_s())
        for tag in tags:
            self._by_tag.setdefault(tag, set()).add(key)
        while len(self._entries) > self._max:
            self._remove(next(iter(self._entries)))

    def is_superseded(self, tags: Iterable[str], as_of: int) -> bool:
        """Whether a change is known that made an answer with *tags*, read as of *as_of*, one of the past."""
        return any(self._dropped.get(tag, 0) > as_of for tag in tags)

    def drop(self, tags: Iterable[str], number: int) -> None:
        """A change with *number* touched *tags*: forget what hangs on them, and refuse older answers about them."""
        for tag in tags:
            for key in list(self._by_tag.get(tag, ())):
                self._remove(key)
            # A change made here is known before the feed tells of the ones that came before it.
            self._dropped[tag] = max(number, self._dropped.get(tag, 0))
            self._dropped.move_to_end(tag)
        while len(self._dropped) > self._max:
            _, dropped = self._dropped.popitem(last=False)
            self._floor = max(self._floor, dropped)

    def drop_all(self, number: int) -> None:
        """The feed had a gap: forget everything, and refuse answers read before *number*.

        What was dropped stays dropped: a change made here may be newer than the feed's beginning.
        """
        self._entries.clear()
        self._by_tag.clear()
        self._floor = max(self._floor, number)

    def set_fed(self, fed: bool) -> None:
        """Whether the feed is up. While it is down entries live ``unfed_ttl_s`` from when they were put."""
        if self._fed and not fed:
            now = self._clock_s()
            for key, (value, tags, _) in self._entries.items():
                self._entries[key] = (value, tags, now)
        self._fed = fed

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        for tag in entry[1]:
            keys = self._by_tag[tag]
            keys.discard(key)
            if not keys:
                del self._by_tag[tag]
