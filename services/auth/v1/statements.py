"""The statements of 1.x administration as the query service sends them · pure.

One tagged struct each; ``type`` is the tag. Durations are in ns, None = not given, a retention of 0 = for ever.
Source: docs/rpc.md, "auth.administer".
"""

from __future__ import annotations

import msgspec


class Statement(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all."""


class CreateDatabase(Statement, frozen=True, tag="create_database"):
    """``policy`` "" = autogen. With ``checked``, a policy that is there already has to be as asked."""

    name: str
    policy: str = ""
    duration_ns: int | None = None
    shard_ns: int | None = None
    checked: bool = False


class DropDatabase(Statement, frozen=True, tag="drop_database"):
    name: str


class CreatePolicy(Statement, frozen=True, tag="create_retention_policy"):
    database: str
    name: str
    duration_ns: int
    shard_ns: int | None = None
    default: bool = False


class AlterPolicy(Statement, frozen=True, tag="alter_retention_policy"):
    database: str
    name: str
    duration_ns: int | None = None
    shard_ns: int | None = None
    default: bool = False


class DropPolicy(Statement, frozen=True, tag="drop_retention_policy"):
    database: str
    name: str


class CreateUser(Statement, frozen=True, tag="create_user"):
    name: str
    password: str
    admin: bool = False

    def __repr__(self) -> str:
        return "CreateUser(…)"  # it holds a password


class DropUser(Statement, frozen=True, tag="drop_user"):
    name: str


class SetPassword(Statement, frozen=True, tag="set_password"):
    name: str
    password: str

    def __repr__(self) -> str:
        return "SetPassword(…)"  # it holds a password


class Grant(Statement, frozen=True, tag="grant"):
    """``actions`` are ``read`` and ``write``; ``database`` None = everything, to an administrator."""

    user: str
    database: str | None = None
    actions: tuple[str, ...] = ("read", "write")


class Revoke(Statement, frozen=True, tag="revoke"):
    """As ``Grant``."""

    user: str
    database: str | None = None
    actions: tuple[str, ...] = ("read", "write")


class ShowUsers(Statement, frozen=True, tag="show_users"):
    """Answers ``[name, is an administrator]``."""


class ShowGrants(Statement, frozen=True, tag="show_grants"):
    """Answers ``[database, privilege]``."""

    user: str


AnyStatement = (
    CreateDatabase
    | DropDatabase
    | CreatePolicy
    | AlterPolicy
    | DropPolicy
    | CreateUser
    | DropUser
    | SetPassword
    | Grant
    | Revoke
    | ShowUsers
    | ShowGrants
)
