"""What a caller may do and see · pure.

Source: InfluxDB 2.x, ``authorizer``; decision 12 of the compatibility page: what belongs to an organization that the
caller has no part in is answered as if it did not exist.
"""

from __future__ import annotations

from common.errors import Forbidden, InfluxError, Unauthorized
from common.identity import ACTIONS, RESOURCE_TYPES, Identity, Permission


def check(identity: Identity, action: str, type: str, id: str | None = None, org_id: str | None = None) -> None:
    """Raises Unauthorized if *identity* may not do this."""
    if not identity.active:
        raise Unauthorized("token is inactive")
    if not identity.may(action, type, id, org_id):
        raise Unauthorized(f"{Permission(action, type, id, org_id)} is unauthorized")


def check_object(identity: Identity, action: str, type: str, id: str, org_id: str, missing: InfluxError) -> None:
    """``check`` for an object of an organization; raises *missing* where the caller has no part in either."""
    knows = has_part_in(identity, org_id) or any(identity.may(a, type, id, org_id) for a in ACTIONS)
    if identity.active and not knows:
        raise missing
    check(identity, action, type, id, None if type == "orgs" else org_id)


def has_part_in(identity: Identity, org_id: str) -> bool:
    """Whether any permission of the caller reaches into the organization."""
    if identity.org_id == org_id:
        return True
    return any(
        (p.org_id == org_id)
        or (p.org_id is None and p.id is None and p.type != "users")
        or (p.type == "orgs" and p.id == org_id)
        for p in identity.permissions
    )


def check_holds(identity: Identity, permissions: tuple[Permission, ...]) -> None:
    """A token can do no more than the one that makes it. Raises Forbidden naming the first excess."""
    for permission in permissions:
        needed = (permission.action, permission.type, permission.id, permission.org_id)
        if not identity.may(*needed):
            raise Forbidden(f"permission {permission} is not allowed: {permission} is unauthorized")


def all_access(org_id: str, user_id: str) -> tuple[Permission, ...]:
    """What the console and the command line call an all-access token of a user in an organization."""
    scope: dict[str, tuple[str | None, str | None]] = {"orgs": (org_id, None), "users": (user_id, None)}
    return tuple(
        Permission(action, type, *scope.get(type, (None, org_id)))
        for type in RESOURCE_TYPES
        if type != "instance"
        for action in ACTIONS
    )
