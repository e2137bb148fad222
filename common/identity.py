"""A verified caller and what it may do · pure.

Source: InfluxDB 2.x, ``authorizer``; spec of /api/v2/authorizations, "Scope of a permission".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import msgpack

from common.errors import Invalid

RESOURCE_TYPES = (
    "authorizations", "buckets", "dashboards", "orgs", "sources", "tasks", "telegrafs", "users", "variables",
    "scrapers", "secrets", "labels", "views", "documents", "notificationRules", "notificationEndpoints", "checks",
    "dbrp", "notebooks", "annotations", "remotes", "replications", "instance",
)  # fmt: skip
ACTIONS = ("read", "write")
# Larger ones (a token may hold 2,000 permissions) are decoded each time.
REMEMBERED_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Permission:
    """Held or needed: *action* on *type*, narrowed by *id* and by *org_id* where they are given."""

    action: str
    type: str
    id: str | None = None
    org_id: str | None = None

    def __str__(self) -> str:
        """As InfluxDB writes it in its refusals, e.g. ``write:orgs/<orgID>/buckets/<id>``."""
        text = self.type if self.id is None else f"{self.type}/{self.id}"
        return f"{self.action}:{text}" if self.org_id is None else f"{self.action}:orgs/{self.org_id}/{text}"

    def matches(self, needed: Permission) -> bool:
        """Whether holding this permission meets *needed*.

        An id-scoped permission that carries an organization reaches an object of that organization only
        (InfluxDB 2.9 does not compare it; docs/compatibility.md).
        """
        if self.action != needed.action:
            return False
        if self.type == "instance":
            return True
        if self.type != needed.type:
            return False
        if self.org_id is not None and needed.org_id is not None and self.org_id != needed.org_id:
            return False
        if self.id is not None:
            return self.id == needed.id
        return self.org_id is None or self.org_id == needed.org_id


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose credential auth has verified.

    Attributes:
        kind: ``token``, ``legacy``, ``session`` or ``jwt``.
        credential_id: id of the authorization or session, for the feed, the logs and the audit; never a secret.
        org_id: organization of the credential; None for sessions.
        active: False for an inactive API token, which passes authentication but no permission check.
        expires_ms: Unix ms after which the credential ends; None = never.
    """

    kind: str
    credential_id: str
    user_id: str
    org_id: str | None
    permissions: tuple[Permission, ...]
    active: bool = True
    expires_ms: int | None = None

    def may(self, action: str, type: str, id: str | None = None, org_id: str | None = None) -> bool:
        """Whether this caller may do *action* on the object (or on the collection, without *id*)."""
        needed = Permission(action, type, id, org_id)
        return self.active and any(held.matches(needed) for held in self.permissions)

    def to_wire(self) -> bytes:
        """As it travels between services; ``from_wire`` reads it."""
        packed: bytes = msgpack.packb([
            self.kind, self.credential_id, self.user_id, self.org_id, self.active, self.expires_ms,
            [[p.action, p.type, p.id, p.org_id] for p in self.permissions],
        ])  # fmt: skip
        return packed

    @classmethod
    def from_wire(cls, wire: bytes) -> Identity:
        """The same object for the same bytes, as long as it is remembered: an operator's 44 permissions come with
        every call. Raises Invalid for bytes that are no identity."""
        return _from_wire(wire) if len(wire) <= REMEMBERED_BYTES else _decode(wire)


def _decode(wire: bytes) -> Identity:
    try:
        kind, credential_id, user_id, org_id, active, expires_ms, permissions = msgpack.unpackb(wire)
        return Identity(
            kind, credential_id, user_id, org_id, tuple(Permission(*each) for each in permissions), active, expires_ms
        )
    except (ValueError, TypeError, msgpack.UnpackException):
        raise Invalid("cannot decode an identity") from None


# Of identities, each with some ten times its bytes.
_from_wire = lru_cache(maxsize=512)(_decode)


def operator_permissions() -> tuple[Permission, ...]:
    """Read and write on every type but ``instance``, everywhere: what the set-up token holds."""
    return tuple(Permission(action, type) for type in RESOURCE_TYPES if type != "instance" for action in ACTIONS)


def owner_permissions(org_id: str, actions: Iterable[str] = ACTIONS) -> tuple[Permission, ...]:
    """What an organization's owner may do (a member: ``actions=("read",)``)."""
    return tuple(
        Permission(action, type, org_id, None) if type == "orgs" else Permission(action, type, None, org_id)
        for type in RESOURCE_TYPES
        if type != "instance"
        for action in actions
    )
