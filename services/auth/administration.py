"""1.x administration in InfluxQL: which rule each statement follows, and the rules of 1.x users.

A 1.x user is a legacy authorization of the caller's organization; GRANT and REVOKE are all that ever changes its
permissions. Each change is audited. Texts are 1.x's. Source: InfluxQL reference of 1.x; decisions 14 and 16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from common.errors import Conflict, InfluxError, Invalid, NotFound, Unavailable
from common.identity import Identity, Permission
from services.auth import authorizations, databases, orgs, users
from services.auth.context import Context
from services.auth.databases import need
from services.auth.entities import Legacy, Org, Password, User
from services.auth.legacy import make
from services.auth.passwords import MAX_BYTES
from services.auth.permissions import all_access
from services.auth.records import Change, KeyTaken, Reader, Stale
from services.auth.statements import (
    AlterPolicy,
    AnyStatement,
    CreateDatabase,
    CreatePolicy,
    CreateUser,
    DropDatabase,
    DropPolicy,
    DropUser,
    Grant,
    Revoke,
    SetPassword,
    ShowGrants,
    ShowUsers,
)

Rows = list[list[Any]]
ATTEMPTS = 5
PRIVILEGES = {
    frozenset(("read",)): "READ", frozenset(("write",)): "WRITE", frozenset(("read", "write")): "ALL PRIVILEGES",
}  # fmt: skip


async def administer(context: Context, identity: Identity, statement: AnyStatement) -> Rows:
    """Run one statement in the caller's organization; rows of a SHOW, none of the others.

    Raises:
        Invalid, NotFound, Conflict, Unprocessable, Forbidden: the statement fails; the text is for the client.
        Unavailable: others change the same all the time, or storage can't be asked.
    """
    if identity.org_id is None:
        raise NotFound(orgs.MISSING)
    try:
        rows = await _run(context, identity, identity.org_id, statement)
    except InfluxError as error:
        _audit(context, identity, statement, "refused" if not isinstance(error, Unavailable) else "error", str(error))
        raise
    _audit(context, identity, statement, "done")
    return rows


async def _run(context: Context, identity: Identity, org_id: str, statement: AnyStatement) -> Rows:
    rule = RULES[type(statement)]
    for _ in range(ATTEMPTS):
        try:
            return await rule(context, identity, org_id, statement) or []
        except Stale:
            continue  # someone changed what it rests on: decide anew
        except KeyTaken as taken:
            raise Conflict(f"the name is taken: {taken.key.partition(':')[0]}") from None
    raise Unavailable("others change the same at this moment")


def _audit(context: Context, identity: Identity, statement: AnyStatement, result: str, reason: str = "") -> None:
    if isinstance(statement, ShowUsers | ShowGrants):
        return
    context.audit.record(
        f"v1.{type(statement).__struct_config__.tag}",
        result,
        credential_id=identity.credential_id,
        user_id=identity.user_id,
        org_id=identity.org_id,
        target=getattr(statement, "user", None) or getattr(statement, "name", None),
        database=getattr(statement, "database", None),
        actions=list(statement.actions) if isinstance(statement, Grant | Revoke) else None,
        reason=reason,
    )


# ---------------------------------------------------------------- users


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
    try:
        await context.records.change(change)
    except KeyTaken:
        raise Conflict("user already exists") from None


async def drop_user(context: Context, identity: Identity, org_id: str, statement: DropUser) -> None:
    reader = context.records.reader()
    legacy = await find_user(reader, org_id, statement.name)
    need_user(identity, "write", legacy)
    change = Change()
    change.delete_once(legacy)
    password = await reader.find(Password, legacy.id)
    if password is not None:
        change.delete(password)
    await context.records.change(change)


async def set_password(context: Context, identity: Identity, org_id: str, statement: SetPassword) -> None:
    legacy = await find_user(context.records.reader(), org_id, statement.name)
    need_user(identity, "write", legacy)
    check_password(statement.password)
    change = Change()
    change.require(legacy)
    change.tags += legacy.tags()
    change.create(Password(id=legacy.id, hash=await context.passwords.hash(statement.password)))
    await context.records.change(change)


async def _scope(reader: Reader, identity: Identity, legacy: Legacy, statement: Grant | Revoke) -> list[Permission]:
    """The permissions that a GRANT or REVOKE is about."""
    if statement.database is None:
        return list(all_access(legacy.org_id, legacy.user_id))
    found = await databases.visible(reader, identity, legacy.org_id, statement.database)
    bucket_ids = dict.fromkeys(policy.bucket.id for policy in found)
    return [Permission(action, "buckets", id, legacy.org_id) for id in bucket_ids for action in statement.actions]


async def grant(context: Context, identity: Identity, org_id: str, statement: Grant) -> None:
    """On the policies that the database has now."""
    reader = context.records.reader()
    legacy = await find_user(reader, org_id, statement.user)
    need_user(identity, "write", legacy)
    wanted = await _scope(reader, identity, legacy, statement)
    _need_to_hold(identity, tuple(wanted))
    await _change_permissions(context, legacy, tuple(dict.fromkeys((*legacy.permissions, *wanted))))


async def revoke(context: Context, identity: Identity, org_id: str, statement: Revoke) -> None:
    """An administrator stays one when a single database is revoked, as in 1.x."""
    reader = context.records.reader()
    legacy = await find_user(reader, org_id, statement.user)
    need_user(identity, "write", legacy)
    gone = set(await _scope(reader, identity, legacy, statement))
    left = tuple(permission for permission in legacy.permissions if permission not in gone)
    if not is_admin(legacy) and any(held.matches(permission) for held in left for permission in gone):
        # To say nothing would leave the caller with a wrong idea of who may read what.
        raise Invalid(
            f"cannot revoke from {statement.user}: it holds a permission on more than this database; "
            "make a new authorization at /legacy/authorizations"
        )
    await _change_permissions(context, legacy, left)


async def _change_permissions(context: Context, legacy: Legacy, permissions: tuple[Permission, ...]) -> None:
    if permissions != legacy.permissions:
        change = Change()
        change.replace(legacy, dataclasses.replace(legacy, permissions=permissions, updated_ns=context.now_ns()))
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
    held = Identity("legacy", legacy.id, legacy.user_id, org_id, legacy.permissions)
    actions: dict[str, set[str]] = {}
    for database, bucket_id in await databases.database_buckets(reader, org_id):
        may = {action for action in ("read", "write") if held.may(action, "buckets", bucket_id, org_id)}
        actions[database] = actions[database] & may if database in actions else may
    return [[database, PRIVILEGES[frozenset(may)]] for database, may in actions.items() if may]


Rule = Callable[[Context, Identity, str, Any], Awaitable[Rows | None]]
RULES: dict[type, Rule] = {
    CreateDatabase: databases.create_database,
    DropDatabase: databases.drop_database,
    CreatePolicy: databases.create_policy,
    AlterPolicy: databases.alter_policy,
    DropPolicy: databases.drop_policy,
    CreateUser: create_user,
    DropUser: drop_user,
    SetPassword: set_password,
    Grant: grant,
    Revoke: revoke,
    ShowUsers: show_users,
    ShowGrants: show_grants,
}
