"""What auth keeps in storage: one frozen type a kind of record, with its unique keys, indexes and feed tags · pure.

Unique keys begin with the kind; parts of free text stand last, behind parts of fixed length, so that no two things
share a key. Source: docs/rpc.md, "storage.change_records" and "tag".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from common.identity import Permission

ACTIVE, INACTIVE = "active", "inactive"
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A record as its rules see it. ``version`` is storage's: 0 = not stored yet."""

    KIND: ClassVar[str]
    id: str
    version: int = field(default=0, compare=False)

    @classmethod
    def from_record(cls, record: Sequence[Any]) -> Self:
        """Read ``[kind, id, version, body]``; members of *body* that a later release wrote are left alone."""
        _, id, version, body = record
        known = {f.name: body[f.name] for f in fields(cls) if f.name in body}
        return cls(**cls._decode({**known, "id": id, "version": version}))

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        return members

    def body(self) -> dict[str, Any]:
        """The members as storage keeps them."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("id", "version")}

    def unique(self) -> list[str]:
        """Keys that no other record may hold."""
        return []

    def indexes(self) -> Mapping[str, str | list[str]]:
        """Fields by which records of this kind are listed; of a list, by each of its values."""
        return {}

    def tags(self) -> list[str]:
        """What a cached answer that rests on this record hangs on."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Entity):
    KIND = "user"
    name: str
    status: str = ACTIVE
    oauth_id: str = ""

    @staticmethod
    def name_key(name: str) -> str:
        return f"user:{name}"

    def unique(self) -> list[str]:
        return [self.name_key(self.name)]

    def tags(self) -> list[str]:
        return [f"user:{self.id}", f"name:user:{self.name}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Password(Entity):
    """The bcrypt hash of a user's or of a legacy authorization's password; its id is the owner's."""

    KIND = "password"
    hash: str

    def mark(self) -> str:
        """Tells it from the one before it and the one after it: each hash has a salt of its own."""
        return hashlib.sha256(self.hash.encode()).hexdigest()[:32]

    def tags(self) -> list[str]:
        return [f"user:{self.id}", f"auth:{self.id}"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Entity):
    """``key`` is the keyed hash of the cookie; ``password_mark`` is that of the password by which it was made: it ends
    with that one, also if its sign-in was under way when the password was replaced."""

    KIND = "session"
    key: str
    user_id: str
    created_ms: int
    expires_ms: int
    password_mark: str = ""

    @staticmethod
    def value_key(key: str) -> str:
        return f"session:{key}"

    def unique(self) -> list[str]:
        return [self.value_key(self.key)]

    def indexes(self) -> dict[str, str]:
        return {"user_id": self.user_id}

    def tags(self) -> list[str]:
        return [f"session:{self.id}"]


OWNER, MEMBER = "owner", "member"
# The first user owns the instance: its sessions may do everything.
INSTANCE_ID = format(1, "016x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(Entity):
    """A user's part in an organization, bucket or telegraf configuration, or in the ``instance``."""

    KIND = "member"
    resource_type: str
    resource_id: str
    user_id: str
    role: str

    @staticmethod
    def key(resource_type: str, resource_id: str, user_id: str) -> str:
        return f"member:{resource_type}:{resource_id}:{user_id}"

    @staticmethod
    def resource(resource_type: str, resource_id: str) -> str:
        """The value of the index ``resource``."""
        return f"{resource_type}:{resource_id}"

    def unique(self) -> list[str]:
        return [self.key(self.resource_type, self.resource_id, self.user_id)]

    def indexes(self) -> dict[str, str]:
        return {"user_id": self.user_id, "resource": self.resource(self.resource_type, self.resource_id)}

    def tags(self) -> list[str]:
        return [f"user:{self.user_id}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Entity):
    KIND = "label"
    org_id: str
    name: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def unique(self) -> list[str]:
        return [f"label:{self.org_id}:{self.name.strip().casefold()}"]

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMapping(Entity):
    """A label on a bucket, telegraf configuration or variable."""

    KIND = "label_mapping"
    label_id: str
    resource: str

    @staticmethod
    def key(label_id: str, resource: str) -> str:
        return f"label_mapping:{label_id}:{resource}"

    def unique(self) -> list[str]:
        return [self.key(self.label_id, self.resource)]

    def indexes(self) -> dict[str, str]:
        return {"label_id": self.label_id, "resource": self.resource}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable(Entity):
    """``arguments`` is ``{"type": constant | map | query, "values": ...}``."""

    KIND = "variable"
    org_id: str
    name: str
    description: str = ""
    selected: tuple[str, ...] | None = None
    arguments: Mapping[str, Any]
    created_ns: int
    updated_ns: int

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        selected = members.get("selected")
        return {**members, "selected": None if selected is None else tuple(selected)}

    def unique(self) -> list[str]:
        return [f"variable:{self.org_id}:{self.name.strip().casefold()}"]

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Telegraf(Entity):
    """A configuration that Telegraf fetches: TOML text."""

    KIND = "telegraf"
    org_id: str
    name: str = ""
    description: str = ""
    config: str = ""
    metadata_buckets: tuple[str, ...] = ()

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        return {**members, "metadata_buckets": tuple(members.get("metadata_buckets", ()))}

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id}
