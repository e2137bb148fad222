"""The rule by which a 1.x database and retention policy name a bucket · pure.

Knows nothing of how the mappings were read. Source: InfluxDB 2.x, ``dbrp``; docs/rpc.md, "auth.mappings".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from common.identity import Identity
from common.model import Bucket


@dataclass(frozen=True, slots=True)
class Mapping:
    """A database and retention policy, and the bucket that they name.

    ``virtual``: stored nowhere, it follows from the bucket's own name.
    """

    database: str
    retention_policy: str
    default: bool
    virtual: bool
    bucket: Bucket

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> Mapping:
        database, retention_policy, default, virtual, bucket = wire
        return cls(database, retention_policy, bool(default), bool(virtual), Bucket(*bucket))

    def visible_to(self, identity: Identity) -> bool:
        """Whether *identity* may read the mapping: whoever may read or write its bucket may."""
        id, org_id = self.bucket.id, self.bucket.org_id
        return identity.may("read", "buckets", id, org_id) or identity.may("write", "buckets", id, org_id)


class MappingTable:
    """All mappings of one organization, indexed by database.

    Args:
        mappings: stored ones by age, then virtual ones.
    """

    __slots__ = ("_by_database", "mappings")

    def __init__(self, mappings: Iterable[Mapping]) -> None:
        self.mappings = tuple(mappings)
        self._by_database: dict[str, list[Mapping]] = {}
        for mapping in self.mappings:
            self._by_database.setdefault(mapping.database, []).append(mapping)

    @classmethod
    def from_wire(cls, wire: Iterable[Sequence[Any]]) -> MappingTable:
        """The table of an answer's ``mappings``."""
        return cls(Mapping.from_wire(entry) for entry in wire)

    def of_database(self, database: str) -> tuple[Mapping, ...]:
        """The mappings of *database*, stored ones first."""
        return tuple(self._by_database.get(database, ()))

    def find(self, database: str, retention_policy: str, identity: Identity) -> Mapping | None:
        """The mapping that *database* and *retention_policy* name, of those that *identity* may see.

        With a retention policy: the one of exactly that name. With an empty one: the database's default; a stored
        default wins over the virtual one.
        """
        fitting = [
            mapping
            for mapping in self._by_database.get(database, ())
            if (mapping.retention_policy == retention_policy if retention_policy else mapping.default)
        ]
        # Stable: of several stored ones the oldest counts.
        fitting.sort(key=lambda mapping: mapping.virtual)
        return next((mapping for mapping in fitting if mapping.visible_to(identity)), None)
