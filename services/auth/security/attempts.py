"""Wrong passwords, counted: past a few in a minute the next ones are answered 429 without being looked at.

Counted for the name at the address, for the address, and for the name. Where the name was signed in with before, only
the first counts: strangers cannot lock a user out. docs/decisions/0030-wrong-passwords.md has the reasons.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.errors import Forbidden, TooManyRequests, Unauthorized

WINDOW_S = 60.0
MAX_KEYS = 50_000
KNOWN_FOR_S = 7 * 24 * 3600.0
REFUSED = "too many wrong passwords: try again later"


class Attempts:
    """Counts wrong passwords in a sliding window, in this process.

    Args:
        limit: wrong ones in a minute; 0 = as many as there are.
        max_waiting: checks that may wait for one under way, which may use up the last attempt.
        clock_s: monotonic seconds.
    """

    def __init__(self, limit: int = 0, max_waiting: int = 64, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._max_waiting = max_waiting
        self._clock_s = clock_s
        self._wrong: OrderedDict[bytes, deque[float]] = OrderedDict()
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._under_way: dict[bytes, int] = {}
        self._changed = asyncio.Condition()
        self._waiting = 0

    def check(self, name: str, remote: str) -> None:
        """Raises TooManyRequests while *name* may not be tried from *remote*."""
        if self._limit:
            for key in self._keys(name, remote):
                self._check_key(key)

    @asynccontextmanager
    async def one(self, name: str, remote: str) -> AsyncIterator[None]:
        """One attempt: the body says by Unauthorized or Forbidden that it was wrong, by no error that it was right.

        Raises:
            TooManyRequests: before the body is run.
        """
        if not self._limit:
            yield
            return
        keys = await self._begin(name, remote)
        try:
            yield
        except (Unauthorized, Forbidden):
            self._count(keys)
            raise
        else:
            self.right(name, remote)
        finally:
            for key in keys:
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]
            async with self._changed:
                self._changed.notify_all()

    def right(self, name: str, remote: str) -> None:
        """The password of *name* was right: forget the wrong ones there, and know the address."""
        if self._limit:
            pair = _pair(name, remote)
            self._wrong.pop(pair, None)
            self._known[pair] = self._clock_s()
            self._known.move_to_end(pair)
            if len(self._known) > MAX_KEYS:
                self._known.popitem(last=False)

    async def _begin(self, name: str, remote: str) -> tuple[bytes, ...]:
        """Wait while those under way could use up what is left, so that the limit is exact under a flood too."""
        self.check(name, remote)
        if any(self._is_full(key) for key in self._keys(name, remote)):
            if self._waiting >= self._max_waiting:
                raise TooManyRequests("too many password checks at once", retry_after_s=1)
            self._waiting += 1
            try:
                async with self._changed:
                    while any(self._is_full(key) for key in self._keys(name, remote)):
                        await self._changed.wait()
                        self.check(name, remote)
            finally:
                self._waiting -= 1
            self.check(name, remote)
        keys = self._keys(name, remote)
        for key in keys:
            self._under_way[key] = self._under_way.get(key, 0) + 1
        return keys

    def _is_full(self, key: bytes) -> bool:
        return len(self._recent(key)) + self._under_way.get(key, 0) >= self._limit

    def _check_key(self, key: bytes) -> None:
        recent = self._recent(key)
        if len(recent) >= self._limit:
            raise TooManyRequests(REFUSED, retry_after_s=max(1, math.ceil(recent[0] + WINDOW_S - self._clock_s())))

    def _recent(self, key: bytes) -> deque[float]:
        times = self._wrong.get(key)
        if times is None:
            return deque()
        while times and times[0] + WINDOW_S <= self._clock_s():
            times.popleft()
        if not times:
            del self._wrong[key]
        return times

    def _count(self, keys: tuple[bytes, ...]) -> None:
        for key in keys:
            self._wrong.setdefault(key, deque(maxlen=self._limit)).append(self._clock_s())
            self._wrong.move_to_end(key)
        while len(self._wrong) > MAX_KEYS:
            self._wrong.popitem(last=False)

    def _keys(self, name: str, remote: str) -> tuple[bytes, ...]:
        pair = _pair(name, remote)
        known_s = self._known.get(pair)
        if known_s is not None and known_s + KNOWN_FOR_S > self._clock_s():
            return (pair,)
        return (pair, _key("address", _network(remote)), _key("name", name))


def _pair(name: str, remote: str) -> bytes:
    return _key("pair", _network(remote), name)


def _key(*parts: str) -> bytes:
    """Of one size, however long a name is: the bound on keys is one on memory."""
    return hashlib.blake2b(" ".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _network(remote: str) -> str:
    """The address; of IPv6 its /64, which is one customer's."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return remote
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return remote
