"""Changes of records: one atomic batch as it is put together, and why storage may refuse it · pure.

Source: docs/rpc.md, "storage.change_records".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.auth.entities.entity import Entity


class Stale(Exception):
    """What a change rested on is no longer so: read again and decide anew."""


class KeyTaken(Exception):
    """Another record holds a unique key of a change."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(slots=True)
class Change:
    """One atomic batch, as it is put together."""

    conditions: list[list[Any]] = field(default_factory=list)
    puts: list[dict[str, Any]] = field(default_factory=list)
    deletes: list[list[str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    drop_buckets: list[str] = field(default_factory=list)

    def create(self, *entities: Entity) -> None:
        """Put new records."""
        for entity in entities:
            self._put(entity)

    def replace(self, old: Entity, new: Entity) -> None:
        """Put *new* for *old*, if nobody has changed it since it was read."""
        self.conditions.append(["version", old.KIND, old.id, old.version])
        self.tags += old.tags()
        self._put(new)

    def touch(self, *entities: Entity) -> None:
        """Leave records as they are, so that who decides on one of them at this moment has to decide anew."""
        for entity in entities:
            self.replace(entity, entity)

    def delete(self, *entities: Entity) -> None:
        """Delete records, those changed or deleted since they were read too."""
        for entity in entities:
            self.deletes.append([entity.KIND, entity.id])
            self.tags += entity.tags()

    def delete_once(self, entity: Entity) -> None:
        """Delete a record, if nobody has changed or deleted it since it was read."""
        self.conditions.append(["version", entity.KIND, entity.id, entity.version])
        self.delete(entity)

    def require(self, *entities: Entity) -> None:
        """Only if these records still exist."""
        for entity in entities:
            self.conditions.append(["exists", entity.KIND, entity.id])

    def require_none(self, *kinds: type[Entity]) -> None:
        """Only if there is no record of these kinds."""
        self.conditions += [["none", kind.KIND] for kind in kinds]

    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.puts or self.deletes)

    def size(self) -> int:
        """Entries as storage counts them, or more (equal tags count once there): it takes 10,000."""
        return len(self.conditions) + len(self.puts) + len(self.deletes) + len(self.tags) + len(self.drop_buckets)

    def _put(self, entity: Entity) -> None:
        self.puts.append(
            {
                "kind": entity.KIND,
                "id": entity.id,
                "body": entity.body(),
                "unique": entity.unique(),
                "indexes": dict(entity.indexes()),
            }
        )
        self.tags += entity.tags()
