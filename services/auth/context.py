"""What the rules stand on: records, hashes, passwords, ids and the clock; one per process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.auth.config import AuthSettings
from services.auth.hashing import Hasher
from services.auth.id_maker import IdMaker
from services.auth.passwords import Passwords
from services.auth.records import Records


@dataclass(frozen=True, slots=True)
class Context:
    """Passed to each rule. ``now_ns`` is Unix time."""

    records: Records
    hasher: Hasher
    passwords: Passwords
    ids: IdMaker
    now_ns: Callable[[], int]
    settings: AuthSettings

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000
