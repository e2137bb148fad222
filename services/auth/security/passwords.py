"""Passwords: bcrypt in two threads behind a bounded queue, and a short memory of what was right.

A check costs 0.1 s of CPU by intent; a 1.x client sends its password with each write. So a right password is
remembered under a keyed hash of itself *and of the stored bcrypt hash*: when the stored one is replaced, what is
remembered no longer matches anything. Source: InfluxDB 2.x, "passwords must be …".
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bcrypt
from cachetools import TTLCache
from prometheus_client import CollectorRegistry, Counter, Gauge

from common.errors import Invalid, Unavailable

THREADS = 2
MIN_BYTES, MAX_BYTES = 8, 72
REMEMBERED = 10_000
SPECIALS = frozenset("!@#$%^&*()_+")
LENGTH_TEXT = "passwords must be between 8 and 72 characters long"
CLASSES_TEXT = (
    "passwords must contain at least three of the following character types: "
    "uppercase, lowercase, numbers, and special characters: !@#$%^&*()_+"
)


def check_acceptable(password: str, strong: bool = False) -> None:
    """Raises Invalid for a new password that is too short, too long (in bytes) or, with *strong*, too plain."""
    faults = []
    if not MIN_BYTES <= len(_encode(password)) <= MAX_BYTES:
        faults.append(LENGTH_TEXT)
    kinds = (str.isupper, str.islower, str.isdecimal, SPECIALS.__contains__)
    if strong and sum(any(map(kind, password)) for kind in kinds) < 3:
        faults.append(CLASSES_TEXT)
    if faults:
        raise Invalid("\n".join(faults))


def _encode(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")


class Passwords:
    """Hashes and checks passwords off the event loop.

    Args:
        cost: bcrypt's.
        max_waiting: checks and hashes that may wait; past it Unavailable.
        remember_s: how long a right password is remembered.
    """

    def __init__(self, cost: int, max_waiting: int, remember_s: float, registry: CollectorRegistry) -> None:
        self._cost = cost
        self._max_waiting = max_waiting
        self._key = secrets.token_bytes(32)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="bcrypt")
        self._right: TTLCache[bytes, bool] = TTLCache(REMEMBERED, remember_s, time.monotonic)
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        # Compared with when there is no such user: the time of the answer must not tell.
        self._dummy = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(cost))
        self._waiting = 0
        self._queue = Gauge("tidegate_auth_bcrypt_queue", "Password hashes under way or waiting", registry=registry)
        self._checks = Counter(
            "tidegate_auth_password_checks", "Password checks by where the answer came from", ["source"],
            registry=registry,
        )  # fmt: skip

    async def hash(self, password: str) -> str:
        """The bcrypt hash of an acceptable password."""
        hashed: bytes = await self._run(bcrypt.hashpw, _encode(password), bcrypt.gensalt(self._cost))
        return hashed.decode()

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether *password* is the one whose hash is *stored*; None (nobody's) takes as long and is False."""
        encoded = _encode(password)
        if stored is None or len(encoded) > MAX_BYTES:
            await self._run(bcrypt.checkpw, encoded[:MAX_BYTES], self._dummy)
            self._checks.labels("dummy").inc()
            return False
        key = hmac.digest(self._key, stored.encode() + b"\0" + encoded, "sha256")
        if key in self._right:
            self._checks.labels("memory").inc()
            return True
        # Requests that carry the same credential wait for one check.
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._compare(key, encoded, stored.encode()))
            self._running[key] = task
        return await asyncio.shield(task)

    async def _compare(self, key: bytes, encoded: bytes, stored: bytes) -> bool:
        try:
            right: bool = await self._run(bcrypt.checkpw, encoded, stored)
            self._checks.labels("bcrypt").inc()
            if right:
                self._right[key] = True
            return right
        finally:
            del self._running[key]

    async def _run(self, function: Any, *arguments: bytes) -> Any:
        if self._waiting >= self._max_waiting:
            raise Unavailable(f"too many password checks at once: TIDEGATE_MAX_PASSWORD_CHECKS is {self._max_waiting}")
        self._waiting += 1
        self._queue.set(self._waiting)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self._waiting -= 1
            self._queue.set(self._waiting)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
