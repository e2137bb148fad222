"""Users, their passwords, their sessions, and what they are members of · pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from services.auth.entities.entity import ACTIVE, Entity

OWNER, MEMBER = "owner", "member"
# The first user owns the instance: its sessions may do everything.
INSTANCE_ID = format(1, "016x")


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
