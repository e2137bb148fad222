"""1.x users: legacy authorizations of the caller's organization, made, granted and shown by InfluxQL.

GRANT and REVOKE are all that ever changes the permissions of one. Texts are 1.x's. Source: InfluxQL reference of 1.x,
"User management"; decisions 14 and 16.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from common.errors import Conflict, Invalid, NotFound
from common.identity import Identity, Permission
from services.auth.access import grants, mappings
from services.auth.context import Context
from services.auth.entities.authorizations import DatabaseGrant, Legacy
from services.auth.entities.orgs import Org
from services.auth.entities.users import Password, User
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import authorizations, orgs, users
from services.auth.resources.legacy import end, make, put_password
from services.auth.security.passwords import MAX_BYTES
from services.auth.security.permissions import all_access
from services.auth.v1 import databases
from services.auth.v1.databases import need
from services.auth.v1.statements import CreateUser, DropUser, Grant, Revoke, SetPassword, ShowGrants, ShowUsers

Rows = list[list[Any]]
PRIVILEGES = {
    frozenset(("read",)): "READ", frozenset(("write",)): "WRITE", frozenset(("read", "write")): "ALL PRIVILEGES",
}  # fmt: skip


def check_password(password: str) -> None:
    """Raises Invalid. 1.x takes any password; bcrypt reads 72 bytes of it."""
    if not 1 <= len(password.encode("utf-8", "surrogateescape")) <= MAX_BYTES:
        raise Invalid(f"passwords must be between 1 and {MAX_BYTES} bytes long")


async def find_user(reader: Reader, org_id: str, name: str) -> Legacy:
    """The 1.x user of that name in the organization. Raises NotFound."""
    found = await reader.find_unique(Legacy, Legacy.name_key(name))
    if found is None or found.org_id != org_id:
        raise NotFound("user not found")
    return found


def need_user(identity: Identity, action: str, legacy: Legacy) -> None:
    """What the v2 operation on a legacy authorization needs. Raises Forbidden."""
    need(identity, action, "authorizations", legacy.id, legacy.org_id)
    need(identity, action, "users", legacy.user_id, None)


def is_admin(legacy: Legacy) -> bool:
    return set(all_access(legacy.org_id, legacy.user_id)) <= set(legacy.permissions)


def _need_to_hold(identity: Identity, permissions: tuple[Permission, ...]) -> None:
    """Nobody gives more than they have."""
    for permission in permissions:
        need(identity, permission.action, permission.type, permission.id, permission.org_id)


async def create_user(context: Context, identity: Identity, org_id: str, statement: CreateUser) -> None:
    """One that is there already with the same password and rank is fine, as in 1.x."""
    reader = context.records.reader()
    need(identity, "write", "authorizations", None, org_id)
    need(identity, "write", "users", identity.user_id, None)
    if not statement.name:
        raise Invalid("username required")
    check_password(statement.password)
    permissions = all_access(org_id, identity.user_id) if statement.admin else ()
    _need_to_hold(identity, permissions)
    there = await reader.find_unique(Legacy, Legacy.name_key(statement.name))
    if there is not None:
        stored = await reader.find(Password, there.id)
        same = there.org_id == org_id and is_admin(there) == statement.admin and stored is not None
        if not same or not await context.passwords.matches(statement.password, stored.hash if stored else None):
            raise Conflict("user already exists")
        return
    found = await reader.find_many([(Org, org_id), (User, identity.user_id)])
    org, user = found.get((Org.KIND, org_id)), found.get((User.KIND, identity.user_id))
    if org is None or user is None:
        raise NotFound(orgs.MISSING if org is None else users.MISSING)
    legacy = make(context, statement.name, org_id, user.id, permissions)
    change = Change()
    change.require(org, user)
    change.create(legacy, Password(id=legacy.id, hash=await context.passwords.hash(statement.password)))
    await context.records.change(change, taken="user already exists")


async def drop_user(context: Context, identity: Identity, org_id: str, statement: DropUser) -> None:
    legacy = await find_user(context.records.reader(), org_id, statement.name)
    need_user(identity, "write", legacy)
    await end(context, legacy)


async def set_password(context: Context, identity: Identity, org_id: str, statement: SetPassword) -> None:
    legacy = await find_user(context.records.reader(), org_id, statement.name)
    need_user(identity, "write", legacy)
    check_password(statement.password)
    await put_password(context, legacy, statement.password)


async def grant(context: Context, identity: Identity, org_id: str, statement: Grant) -> None:
    """On a database, policies that it gets later included, if the caller may do the same on any bucket of the
    organization; else on the policies that it has now, for nobody gives more than they have."""
    reader = context.records.reader()
    legacy = await find_user(reader, org_id, statement.user)
    need_user(identity, "write", legacy)
    change = Change()
    if statement.database is None:
        wanted = all_access(legacy.org_id, legacy.user_id)
        _need_to_hold(identity, wanted)
        new = _with(legacy, wanted)
    else:
        policies = await databases.visible(reader, identity, legacy.org_id, statement.database)
        wanted = _on_buckets(policies, statement)
        _need_to_hold(identity, wanted)
        if all(identity.may(action, "buckets", None, org_id) for action in statement.actions):
            given = (DatabaseGrant(action, statement.database) for action in statement.actions)
            new = dataclasses.replace(legacy, grants=tuple(dict.fromkeys((*legacy.grants, *given))))
            # Who ends the database at this moment has to see this grant, and end it too.
            change.touch(*{policy.bucket.id: policy.stored or policy.bucket for policy in policies}.values())
        else:
            new = _with(legacy, wanted)
    await _store(context, change, legacy, new)


async def revoke(context: Context, identity: Identity, org_id: str, statement: Revoke) -> None:
    """An administrator stays one when a single database is revoked, as in 1.x."""
    reader = context.records.reader()
    legacy = await find_user(reader, org_id, statement.user)
    need_user(identity, "write", legacy)
    if statement.database is None:
        new = _without(legacy, all_access(legacy.org_id, legacy.user_id))
    else:
        policies = await databases.visible(reader, identity, legacy.org_id, statement.database)
        gone = _on_buckets(policies, statement)
        ended = {DatabaseGrant(action, statement.database) for action in statement.actions}
        new = dataclasses.replace(
            _without(legacy, gone), grants=tuple(grant for grant in legacy.grants if grant not in ended)
        )
        left = grants.effective(new, await mappings.database_buckets(reader, org_id))
        if not is_admin(legacy) and any(held.matches(permission) for held in left for permission in gone):
            # To say nothing would leave the caller with a wrong idea of who may read what.
            raise Invalid(
                f"cannot revoke from {statement.user}: it holds a permission on more than this database; "
                "make a new authorization at /legacy/authorizations"
            )
    await _store(context, Change(), legacy, new)


def _on_buckets(policies: list[databases.Policy], statement: Grant | Revoke) -> tuple[Permission, ...]:
    """The actions of a GRANT or REVOKE on the buckets of a database as it is now."""
    found = dict.fromkeys((policy.bucket.id, policy.bucket.org_id) for policy in policies)
    return tuple(Permission(action, "buckets", id, org_id) for id, org_id in found for action in statement.actions)


def _with(legacy: Legacy, permissions: tuple[Permission, ...]) -> Legacy:
    return dataclasses.replace(legacy, permissions=tuple(dict.fromkeys((*legacy.permissions, *permissions))))


def _without(legacy: Legacy, permissions: tuple[Permission, ...]) -> Legacy:
    return dataclasses.replace(legacy, permissions=tuple(p for p in legacy.permissions if p not in permissions))


async def _store(context: Context, change: Change, legacy: Legacy, new: Legacy) -> None:
    if new != legacy:
        change.replace(legacy, dataclasses.replace(new, updated_ns=context.now_ns()))
        await context.records.change(change)


# ---------------------------------------------------------------- SHOW


async def show_users(context: Context, identity: Identity, org_id: str, _: ShowUsers) -> Rows:
    need(identity, "read", "authorizations", None, org_id)
    found = await context.records.reader().list_all(Legacy, "org_id", org_id)
    shown = [legacy for legacy in found if authorizations.may_read(identity, legacy)]
    return [[legacy.name, is_admin(legacy)] for legacy in shown]


async def show_grants(context: Context, identity: Identity, org_id: str, statement: ShowGrants) -> Rows:
    """Each database of which the user may read or write every policy, in the order of SHOW DATABASES."""
    reader = context.records.reader()
    legacy = await find_user(reader, org_id, statement.user)
    if identity.credential_id != legacy.id:
        need_user(identity, "read", legacy)
    if is_admin(legacy):
        return []  # 1.x lists what was granted by name; an administrator needs none of it
    policies = await mappings.database_buckets(reader, org_id)
    held = Identity("legacy", legacy.id, legacy.user_id, org_id, grants.effective(legacy, policies))
    actions: dict[str, set[str]] = {}
    for database, bucket_id in policies:
        may = {action for action in ("read", "write") if held.may(action, "buckets", bucket_id, org_id)}
        actions[database] = actions[database] & may if database in actions else may
    return [[database, PRIVILEGES[frozenset(may)]] for database, may in actions.items() if may]
