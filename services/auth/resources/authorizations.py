"""What API tokens and legacy authorizations share: their rules, filters and JSON.

Source: InfluxDB 2.x, "API tokens and v1 credentials".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from common.errors import Forbidden, Invalid, NotFound
from common.identity import Identity, Permission
from common.times import parse_rfc3339
from services.auth.context import Context
from services.auth.entities.authorizations import Authorization, LastUse
from services.auth.entities.buckets import Bucket
from services.auth.entities.entity import ACTIVE, INACTIVE, Entity
from services.auth.entities.orgs import Org
from services.auth.entities.users import User
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import orgs, users
from services.auth.resources.permission_json import NAMED, Names, permission_json, read_permissions
from services.auth.rest.document import Document
from services.auth.rest.jsonlayout import format_time
from services.auth.rest.request import Answer, Request
from services.auth.security.permissions import check, check_holds, check_object

MISSING = "authorization not found"
DECODE = "invalid json structure: "
A = TypeVar("A", bound=Authorization)
# A secret shown once, else nothing.
HIDDEN = ""
# They travel with each request, are looked through at each check, and wait in the caches of all services.
MAX_PERMISSIONS = 2000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A body of POST, read but not yet allowed."""

    org_id: str
    user_id: str
    status: str
    description: str
    permissions: tuple[Permission, ...]
    names: tuple[str, ...]
    token: str
    expires_ms: int | None = None


async def read_allowed(context: Context, request: Request, *, legacy: bool) -> tuple[Reader, Wanted, Org, User]:
    """What a POST asks to be made, if the caller may make it, and whose it is to be. Raises what the client is told."""
    document = request.document(DECODE)
    wanted = _read_wanted(document, request.caller, context.now_ms(), legacy=legacy)
    reader = context.records.reader()
    return reader, *await _allow(reader, request.caller, wanted)


def _read_wanted(document: Document, caller: Identity, now_ms: int, *, legacy: bool) -> Wanted:
    """Read and check the members of a body, in InfluxDB's order. Raises Invalid."""
    org_id, user_id = document.id("orgID"), document.id("userID")
    status, description = document.text("status") or ACTIVE, document.text("description") or ""
    token = document.text("token") or ""
    expires_ms = _read_expiry(document, caller, now_ms)
    items = document.documents("permissions") or []
    if len(items) > MAX_PERMISSIONS:
        raise Invalid(f"authorization must not include more than {MAX_PERMISSIONS} permissions")
    scoped = read_permissions(items)
    if not scoped:
        raise Invalid("authorization must include permissions")
    if org_id is None:
        raise Invalid("org id required: invalid ID")
    if status not in (ACTIVE, INACTIVE):
        raise Invalid("invalid status: must be active or inactive")
    if legacy and not token:
        raise Invalid("token required for v1 user authorization type")
    permissions, names = zip(*scoped, strict=True)
    return Wanted(org_id, user_id or caller.user_id, status, description, permissions, names, token, expires_ms)


def _read_expiry(document: Document, caller: Identity, now_ms: int) -> int | None:
    """``expiresAt``, Unix ms; what an expiring token makes ends with it (a session's end says nothing of its user)."""
    latest_ms = None if caller.kind == "session" else caller.expires_ms
    text = document.text("expiresAt")
    if not text:
        return latest_ms
    try:
        expires_ms = parse_rfc3339(text) // 1_000_000
    except Invalid:
        wanted = "a time like 2030-01-31T12:00:00Z, before 2262"
        raise Invalid(f'expiresAt must be {wanted}: "{text[:64]}" is none') from None
    if expires_ms <= now_ms:
        raise Invalid("expiresAt must be in the future")
    if latest_ms is not None and expires_ms > latest_ms:
        raise Forbidden("expiresAt must not be later than that of the token which asks")
    return expires_ms


async def _allow(reader: Reader, caller: Identity, wanted: Wanted) -> tuple[Wanted, Org, User]:
    """Check that *caller* may make this; names in permissions become ids.

    Raises:
        Unauthorized, Forbidden, Invalid, NotFound: in InfluxDB's order and words.
    """
    check(caller, "write", "authorizations", None, wanted.org_id)
    check(caller, "write", "users", wanted.user_id)
    permissions = await _resolve_names(reader, caller, wanted)
    check_holds(caller, permissions)
    for permission in permissions:
        if permission.type == "instance":
            raise Invalid("authorizations cannot be created with the instance type, it is only used during setup")
        if permission.org_id is not None and permission.org_id != wanted.org_id:
            raise Invalid(f"permission {permission} is not for org id {wanted.org_id}")
    found = await reader.find_many([(Org, wanted.org_id), (User, wanted.user_id)])
    org, user = found.get((Org.KIND, wanted.org_id)), found.get((User.KIND, wanted.user_id))
    if not isinstance(org, Org) or not isinstance(user, User):
        raise Invalid("unable to create token")
    return dataclasses.replace(wanted, permissions=permissions, names=()), org, user


async def _resolve_names(reader: Reader, caller: Identity, wanted: Wanted) -> tuple[Permission, ...]:
    """A name without an id scopes to the object of that name; there has to be one (InfluxDB ignores the name)."""
    resolved = []
    for permission, name in zip(wanted.permissions, wanted.names, strict=True):
        # One of another organization is refused as such: no name there is looked up.
        at_home = permission.org_id in (None, wanted.org_id)
        if name and permission.id is None and permission.type in NAMED and at_home:
            permission = dataclasses.replace(
                permission, id=await _id_of(reader, caller, permission, name, wanted.org_id)
            )
        resolved.append(permission)
    return tuple(resolved)


async def _id_of(reader: Reader, caller: Identity, permission: Permission, name: str, org_id: str) -> str:
    """The id behind the name of something that *caller* may know of. Raises NotFound."""
    if permission.type == "orgs":
        return (await orgs.get_by_name(reader, caller, name)).id
    if permission.type == "users":
        user = await reader.find_unique(User, User.name_key(name))
        if user is None or not caller.may("read", "users", user.id):
            raise NotFound(users.MISSING)
        return user.id
    bucket = await reader.find_unique(Bucket, Bucket.name_key(org_id, name))
    if bucket is None:
        raise NotFound(f'bucket "{name}" not found')
    return bucket.id


# ---------------------------------------------------------------- finding


async def select(context: Context, request: Request, kind: type[A]) -> tuple[Reader, list[A]]:
    """Those that the filters of a list name: ``userID``, ``user``, ``orgID``, ``org``, ``id`` (or ``authID``)."""
    reader = context.records.reader()
    id = request.arg_id("id") or request.arg_id("authID")
    user_id = request.arg_id("userID")
    request.arg_id("orgID")  # a bad one is told before an unknown user
    if request.arg("user") and not user_id:
        user = await reader.find_unique(User, User.name_key(request.arg("user")))
        if user is None:
            raise NotFound(users.MISSING)
        user_id = user.id
    org_id = await orgs.find_filter(reader, request)
    if id:
        one = await reader.find(kind, id)
        if one is None or not may_read(request.caller, one):
            raise NotFound(MISSING)
        found = [one]
    elif user_id:
        found = await reader.list_all(kind, "user_id", user_id)
    elif org_id:
        found = await reader.list_all(kind, "org_id", org_id)
    else:
        found = await reader.list_all(kind)
    return reader, [a for a in found if user_id in ("", a.user_id) and org_id in ("", a.org_id)]


def may_read(caller: Identity, authorization: Authorization) -> bool:
    """Whether a list shows it."""
    return caller.may("read", "authorizations", authorization.id, authorization.org_id) and caller.may(
        "read", "users", authorization.user_id
    )


async def get(context: Context, request: Request, kind: type[A], *actions: str) -> tuple[Reader, A]:
    """The one that the path names. Raises NotFound, or Unauthorized if the caller may not do *actions* on it."""
    reader = context.records.reader()
    found = await reader.find(kind, request.id())
    if found is None:
        raise NotFound(MISSING)
    for action in actions:
        check_object(request.caller, action, "authorizations", found.id, found.org_id, NotFound(MISSING))
        check(request.caller, action, "users", found.user_id)
    return reader, found


# ---------------------------------------------------------------- JSON


def to_json(authorization: Authorization, shown: str, path: str, names: Names) -> dict[str, Any] | None:
    """The object; None where its user or organization no longer exists."""
    org, user = names.of(Org, authorization.org_id), names.of(User, authorization.user_id)
    if org is None or user is None:
        return None
    used_ms = names.last_used_ms(authorization.id)
    return {
        "id": authorization.id,
        "token": shown,
        "status": authorization.status,
        "description": authorization.description,
        "orgID": authorization.org_id,
        "org": org,
        "userID": authorization.user_id,
        "user": user,
        "permissions": [permission_json(permission, names) for permission in authorization.permissions],
        "links": {"self": f"{path}/{authorization.id}", "user": f"{users.PATH}/{authorization.user_id}"},
        "createdAt": format_time(authorization.created_ns),
        "updatedAt": format_time(authorization.updated_ns),
        **({"expiresAt": format_time(authorization.expires_ms * 1_000_000)} if authorization.expires_ms else {}),
        **({"lastUsedAt": format_time(used_ms * 1_000_000)} if used_ms else {}),
    }


# ---------------------------------------------------------------- calls


async def answer_list(reader: Reader, caller: Identity, found: Sequence[A], path: str, shown: dict[str, str]) -> Answer:
    """The list; what the caller may not read, and what has lost its user or organization, is left out.

    *shown*: what stands under ``token``, by id.
    """
    readable = [authorization for authorization in found if may_read(caller, authorization)]
    names = await Names.read(reader, readable)
    items = [to_json(a, shown.get(a.id, HIDDEN), path, names) for a in readable]
    return Answer.json({"links": {"self": path}, "authorizations": [item for item in items if item]})


async def answer_one(reader: Reader, authorization: Authorization, shown: str, path: str, status: int = 200) -> Answer:
    """The object. Raises NotFound where its owner or its organization is gone."""
    names = await Names.read(reader, [authorization])
    if names.of(User, authorization.user_id) is None:
        raise NotFound(users.MISSING)
    if names.of(Org, authorization.org_id) is None:
        raise NotFound(orgs.MISSING)
    return Answer.json(to_json(authorization, shown, path, names), status)


async def store(context: Context, authorization: Authorization, org: Org, user: User) -> None:
    """Store a new one. Raises Conflict if its value or name is taken, in whatever organization."""
    change = Change()
    change.require(org, user)
    change.create(authorization)
    await context.records.change(change, taken="token already exists")


async def change_one(context: Context, request: Request, kind: type[A], bad_status: str) -> tuple[Reader, A]:
    """PATCH: status and description, nothing else."""
    request.id()  # a bad one is told before a bad body
    document = request.document()
    status, description = document.text("status"), document.text("description")
    reader, old = await get(context, request, kind, "read", "write")
    if status is not None and status not in (ACTIVE, INACTIVE):
        raise Invalid(bad_status)
    new = old.changed(status=status, description=description, updated_ns=context.now_ns())
    change = Change()
    change.replace(old, new)
    await context.records.change(change)
    return reader, new


async def end(context: Context, found: Authorization, *also: Entity) -> None:
    """Delete it, and *also* the records that share its id, if they exist. Raises Stale if it was changed meanwhile."""
    change = Change()
    change.delete_once(found)
    # They have no version to be checked: a later write of them finds the authorization gone.
    change.delete(*also, LastUse(id=found.id, at_ms=0))
    await context.records.change(change)
