"""Organizations, the notes of their removal, and their secrets · pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.entities.entity import Entity


@dataclass(frozen=True, slots=True, kw_only=True)
class Org(Entity):
    KIND = "org"
    name: str
    description: str = ""
    created_ns: int
    updated_ns: int

    @staticmethod
    def name_key(name: str) -> str:
        return f"org:{name}"

    def unique(self) -> list[str]:
        return [self.name_key(self.name)]

    def tags(self) -> list[str]:
        return [f"org:{self.id}", f"name:org:{self.name}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgRemoval(Entity):
    """A note that the organization of this id was deleted, and that something of it may still be there."""

    KIND = "org_removal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret(Entity):
    """A secret of an organization, for scripts; only its key is ever shown.

    ``value`` is what earlier releases kept readable; the next start seals it.
    """

    KIND = "secret"
    org_id: str
    key: str
    sealed: str = ""
    value: str = ""

    @property
    def place(self) -> str:
        """Where alone ``sealed`` opens."""
        return self.name_key(self.org_id, self.key)

    @staticmethod
    def name_key(org_id: str, key: str) -> str:
        return f"secret:{org_id}:{key}"

    def unique(self) -> list[str]:
        return [self.name_key(self.org_id, self.key)]

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id}
