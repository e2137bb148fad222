"""Auth's own caches of allowances: who a credential is and which active user it belongs to, which bucket a name is, the
mappings of an organization.

Told, not polled (``common/cache.py``). An answer from a fed cache is good as of the newest change that the cache was
told of, not only as of when it was read: else a gateway that has just started would refuse to keep it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter

from common.cache import ToldCache
from services.auth.entities.users import User

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Found(Generic[V]):
    """A value, the change number as of which it holds, and what it hangs on."""

    value: V
    number: int
    tags: tuple[str, ...]


class AnswerCache(Generic[V]):
    """A told cache that gives back ``Found``."""

    def __init__(self, name: str, max_entries: int, lookups: Counter, clock_s: Callable[[], float]) -> None:
        self._cache: ToldCache[Found[V]] = ToldCache(max_entries, clock_s)
        self._told = 0
        self._fed = False
        self._hits, self._misses = lookups.labels(name, "hit"), lookups.labels(name, "miss")

    def find(self, key: Hashable) -> Found[V] | None:
        found = self._cache.find(key)
        if found is None:
            self._misses.inc()
            return None
        self._hits.inc()
        return Found(found.value, max(found.number, self._told), found.tags) if self._fed else found

    def put(self, key: Hashable, found: Found[V]) -> None:
        self._cache.put(key, found, found.tags, found.number)

    def is_superseded(self, found: Found[V]) -> bool:
        """Whether something that *found* hangs on has changed since it was read."""
        return self._cache.is_superseded(found.tags, found.number)

    def told(self, tags: Iterable[str], number: int) -> None:
        """An event of the feed: they come in order, so everything up to *number* has been told."""
        self._cache.drop(tags, number)
        self._told = max(self._told, number)

    def drop(self, tags: Iterable[str], number: int) -> None:
        """A change made here, perhaps ahead of the feed."""
        self._cache.drop(tags, number)

    def drop_all(self, number: int) -> None:
        self._cache.drop_all(number)
        self._told = number

    def set_fed(self, fed: bool) -> None:
        self._fed = fed
        self._cache.set_fed(fed)


class Caches:
    """All caches of this process."""

    def __init__(
        self, max_entries: int, registry: CollectorRegistry, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        lookups = Counter("tidegate_auth_cache_lookups", "Lookups by cache and result", ["cache", "result"],
                          registry=registry)  # fmt: skip
        self.verified: AnswerCache[Any] = AnswerCache("verified", max_entries, lookups, clock_s)
        self.owners: AnswerCache[User] = AnswerCache("owners", max_entries, lookups, clock_s)
        self.buckets: AnswerCache[list[Any]] = AnswerCache("buckets", max_entries, lookups, clock_s)
        # One entry holds all mappings of an organization.
        self.mappings: AnswerCache[list[Any]] = AnswerCache("mappings", max(16, max_entries // 100), lookups, clock_s)
        self._all: Sequence[AnswerCache[Any]] = (self.verified, self.owners, self.buckets, self.mappings)

    def told(self, tags: Sequence[str], number: int) -> None:
        for cache in self._all:
            cache.told(tags, number)

    def drop(self, tags: Sequence[str], number: int) -> None:
        for cache in self._all:
            cache.drop(tags, number)

    def drop_all(self, number: int) -> None:
        for cache in self._all:
            cache.drop_all(number)

    def set_fed(self, fed: bool) -> None:
        for cache in self._all:
            cache.set_fed(fed)
