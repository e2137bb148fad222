"""What the rules stand on: records, hashes, passwords, ids and the clock; one per process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from services.auth.config import AuthSettings
from services.auth.records.id_maker import IdMaker
from services.auth.records.store import Records
from services.auth.records.uses import Uses
from services.auth.security.attempts import Attempts
from services.auth.security.audit import Audit
from services.auth.security.hashing import Hasher
from services.auth.security.passwords import Passwords
from services.auth.security.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Context:
    """Passed to each rule. ``now_ns`` is Unix time."""

    records: Records
    hasher: Hasher
    passwords: Passwords
    ids: IdMaker
    now_ns: Callable[[], int]
    settings: AuthSettings
    sealer: Sealer
    attempts: Attempts = field(default_factory=Attempts)
    audit: Audit = field(default_factory=Audit)
    uses: Uses = field(default_factory=Uses)

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000
