"""1.x administration in InfluxQL: which rule each statement follows; each change is audited.

Source: InfluxQL reference of 1.x; decisions 14 and 16.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from common.errors import Conflict, InfluxError, NotFound
from common.identity import Identity
from services.auth.context import Context
from services.auth.records.change import KeyTaken
from services.auth.records.contest import settle
from services.auth.resources import orgs
from services.auth.security.audit import OK
from services.auth.v1 import databases, users
from services.auth.v1.statements import (
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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a statement came from: the client's address, and the id of its request."""

    remote: str = ""
    request_id: str = ""


async def administer(context: Context, identity: Identity, statement: AnyStatement, origin: Origin = Origin()) -> Rows:
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
        _audit(context, identity, statement, origin, error.code, str(error))
        raise
    _audit(context, identity, statement, origin, OK)
    return rows


async def _run(context: Context, identity: Identity, org_id: str, statement: AnyStatement) -> Rows:
    rule = RULES[type(statement)]

    async def decide() -> Rows:
        try:
            return await rule(context, identity, org_id, statement) or []
        except KeyTaken as taken:
            raise Conflict(f"the name is taken: {taken.key.partition(':')[0]}") from None

    return await settle(decide)


def _audit(
    context: Context, identity: Identity, statement: AnyStatement, origin: Origin, result: str, reason: str = ""
) -> None:
    if isinstance(statement, ShowUsers | ShowGrants):
        return
    context.audit.record(
        f"v1.{type(statement).__struct_config__.tag}",
        result,
        remote=origin.remote,
        request_id=origin.request_id,
        credential_id=identity.credential_id,
        user_id=identity.user_id,
        org_id=identity.org_id,
        target=getattr(statement, "user", None) or getattr(statement, "name", None),
        database=getattr(statement, "database", None),
        actions=list(statement.actions) if isinstance(statement, Grant | Revoke) else None,
        reason=reason,
    )


Rule = Callable[[Context, Identity, str, Any], Awaitable[Rows | None]]
RULES: dict[type, Rule] = {
    CreateDatabase: databases.create_database,
    DropDatabase: databases.drop_database,
    CreatePolicy: databases.create_policy,
    AlterPolicy: databases.alter_policy,
    DropPolicy: databases.drop_policy,
    CreateUser: users.create_user,
    DropUser: users.drop_user,
    SetPassword: users.set_password,
    Grant: users.grant,
    Revoke: users.revoke,
    ShowUsers: users.show_users,
    ShowGrants: users.show_grants,
}
