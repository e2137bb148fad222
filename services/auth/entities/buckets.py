"""Buckets, and the stored mappings of 1.x names to them · pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.auth.entities.entity import Entity

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket(Entity):
    """``type`` is ``user`` or ``system``; ``retention_ns`` 0 = for ever."""

    KIND = "bucket"
    org_id: str
    name: str
    type: str = "user"
    description: str = ""
    rp: str = ""
    retention_ns: int = 0
    shard_ns: int
    created_ns: int
    updated_ns: int

    @staticmethod
    def name_key(org_id: str, name: str) -> str:
        return f"bucket:{org_id}:{name}"

    def unique(self) -> list[str]:
        return [self.name_key(self.org_id, self.name)]

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id, "name": self.name}

    def tags(self) -> list[str]:
        # Each bucket is a virtual mapping too.
        return [f"bucket:{self.id}", f"name:bucket:{self.name}", f"dbrp:{self.org_id}"]

    def wire(self) -> list[Any]:
        """As auth.bucket and auth.mappings answer it."""
        return [self.id, self.org_id, self.name, self.retention_ns, self.shard_ns]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dbrp(Entity):
    """A stored DBRP mapping. The default of a database holds a key of its own: there is one at most."""

    KIND = "dbrp"
    org_id: str
    bucket_id: str
    database: str
    retention_policy: str
    default: bool = False

    def unique(self) -> list[str]:
        # Neither name may hold a slash.
        keys = [f"dbrp:{self.org_id}:{self.database}/{self.retention_policy}"]
        return [*keys, f"dbrp-default:{self.org_id}:{self.database}"] if self.default else keys

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id, "bucket_id": self.bucket_id}

    def tags(self) -> list[str]:
        return [f"dbrp:{self.org_id}"]
