"""API tokens, legacy authorizations (1.x names) and their last uses · pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.identity import Permission
from services.auth.entities.entity import ACTIVE, Entity


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization(Entity):
    """What API tokens and legacy authorizations share. ``expires_ms`` None = never."""

    org_id: str
    user_id: str
    status: str = ACTIVE
    description: str = ""
    permissions: tuple[Permission, ...]
    created_ns: int
    updated_ns: int
    expires_ms: int | None = None

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        return {**members, "permissions": tuple(Permission(*p) for p in members["permissions"])}

    def body(self) -> dict[str, Any]:
        permissions = [[p.action, p.type, p.id, p.org_id] for p in self.permissions]
        return {**super(Authorization, self).body(), "permissions": permissions}

    def indexes(self) -> Mapping[str, str | list[str]]:
        return {"org_id": self.org_id, "user_id": self.user_id}

    def tags(self) -> list[str]:
        # A user's sessions may do what the user's tokens may.
        return [f"auth:{self.id}", f"user:{self.user_id}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken(Authorization):
    """``key`` is the keyed hash of the value, which is kept nowhere."""

    KIND = "authorization"
    key: str

    @staticmethod
    def value_key(key: str) -> str:
        return f"token:{key}"

    def unique(self) -> list[str]:
        return [self.value_key(self.key)]


@dataclass(frozen=True, slots=True)
class DatabaseGrant:
    """An action on a database of 1.x, by its name."""

    action: str
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Legacy(Authorization):
    """A 1.x name; its password is a ``Password`` record of the same id. ``grants`` come on top of ``permissions``."""

    KIND = "legacy"
    name: str
    grants: tuple[DatabaseGrant, ...] = ()

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        decoded = super(Legacy, cls)._decode(members)
        return {**decoded, "grants": tuple(DatabaseGrant(*grant) for grant in members.get("grants", ()))}

    def body(self) -> dict[str, Any]:
        grants = [[grant.action, grant.database] for grant in self.grants]
        return {**super(Legacy, self).body(), "grants": grants}

    @staticmethod
    def granted_key(org_id: str, database: str) -> str:
        """The value of the index ``granted``."""
        return f"{org_id}/{database}"

    def indexes(self) -> Mapping[str, str | list[str]]:
        databases = dict.fromkeys(grant.database for grant in self.grants)
        granted = [self.granted_key(self.org_id, database) for database in databases]
        return {**super(Legacy, self).indexes(), "granted": granted}

    @staticmethod
    def name_key(name: str) -> str:
        return f"legacy:{name}"

    def unique(self) -> list[str]:
        return [self.name_key(self.name)]

    def tags(self) -> list[str]:
        return [*super(Legacy, self).tags(), f"name:legacy:{self.name}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUse(Entity):
    """When an authorization was last used; the id is the authorization's. Nothing that is cached hangs on it."""

    KIND = "last_use"
    at_ms: int
