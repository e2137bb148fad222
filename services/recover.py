"""``python -m services.recover``: a way back in when tokens and passwords are lost; works on the data folder, offline.

Lies above storage and auth: it takes the folder as storage does (so that nothing else runs), serves it on a loopback
port of its own, and applies auth's rules. Tokens are hashes and cannot be read back: it makes new ones. What is new
goes to standard output, this one time, alone; everything else to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from common import log
from common.config import load_keys
from common.errors import InfluxError
from common.folder_lock import FolderHeld
from common.identity import operator_permissions
from common.rpc.client import RpcClient
from common.web import Server
from services.auth.access import sessions
from services.auth.config import AuthSettings
from services.auth.context import Context
from services.auth.entities.authorizations import Legacy
from services.auth.entities.entity import ACTIVE
from services.auth.entities.orgs import Org
from services.auth.entities.users import INSTANCE_ID, Member, Password, User
from services.auth.records.change import Change, KeyTaken, Stale
from services.auth.records.id_maker import IdMaker
from services.auth.records.reader import Reader
from services.auth.records.store import Records as AuthRecords
from services.auth.resources import authorizations, tokens
from services.auth.security.audit import OK, Audit
from services.auth.security.hashing import load_hasher, make_secret
from services.auth.security.passwords import Passwords
from services.auth.security.sealing import load_sealer
from services.storage.app import build
from services.storage.catalog.interface import UnusableCatalog
from services.storage.config import StorageSettings

PASSWORD_BYTES = 18


class NotPossible(Exception):
    """What was asked for cannot be done; ``str(error)`` says why."""


@asynccontextmanager
async def opened(storage: StorageSettings, auth: AuthSettings) -> AsyncIterator[Context]:
    """Auth's rules over the data folder. Raises FolderHeld while anything runs on it."""
    if not (storage.data / "token.key").exists() and not auth.token_key and not auth.keys:
        raise NotPossible(f"{storage.data} is no data folder of Tidegate: TIDEGATE_DATA names another one?")
    server = Server(build(storage), "127.0.0.1", 0)
    client = RpcClient(load_keys(auth), "auth")
    passwords = Passwords(auth.bcrypt_cost, auth.max_password_checks, 0, CollectorRegistry())
    audit = Audit(auth.audit_log or str(auth.data / "audit.log"), auth.audit_max_bytes)
    writing = asyncio.create_task(audit.run())
    try:
        url = await server.start()
        await client.open()
        ids = IdMaker(lambda: time.time_ns() // 1_000_000)
        records = AuthRecords(client, url, lambda tags, number: None)
        yield Context(records, load_hasher(auth), passwords, ids, time.time_ns, auth, load_sealer(auth), audit=audit)
    finally:
        await client.close()
        passwords.close()
        await server.stop()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def list_users(context: Context) -> list[str]:
    """A line for each user and each 1.x user."""
    reader = context.records.reader()
    names = {org.id: org.name for org in await reader.list_all(Org)}
    members = await reader.list_all(Member)
    lines = []
    for user in await reader.list_all(User):
        parts = [
            f"{member.role} of {names.get(member.resource_id, member.resource_id)}"
            if member.resource_type == "orgs"
            else "owner of the instance"
            for member in members
            if member.user_id == user.id and member.resource_type in ("orgs", "instance")
        ]
        lines.append(f"user\t{user.id}\t{user.name}\t{user.status}\t{', '.join(parts)}")
    for legacy in await reader.list_all(Legacy):
        lines.append(f"1.x\t{legacy.id}\t{legacy.name}\t{legacy.status}\tin {names.get(legacy.org_id, legacy.org_id)}")
    return lines


async def _find_user(reader: Reader, name: str) -> User:
    user = await reader.find_unique(User, User.name_key(name))
    if user is None:
        raise NotPossible(f"there is no user {name}: `list` shows all")
    return user


async def _first_owner(reader: Reader) -> User:
    owners = await reader.list_all(Member, "resource", Member.resource("instance", INSTANCE_ID))
    found = await reader.find_many((User, owner.user_id) for owner in owners)
    active = [user for user in found.values() if isinstance(user, User) and user.status == ACTIVE]
    if not active:
        raise NotPossible("the instance has no active owner: name a user")
    return active[0]


async def new_token(context: Context, name: str | None) -> str:
    """The value of a new operator token of the user, or of the first owner of the instance."""
    reader = context.records.reader()
    user = await _find_user(reader, name) if name else await _first_owner(reader)
    if user.status != ACTIVE:
        raise NotPossible(f"the user {user.name} is inactive: its tokens do not work; name another one")
    members = await reader.list_all(Member, "user_id", user.id)
    org_ids = [member.resource_id for member in members if member.resource_type == "orgs"]
    org = await reader.find(Org, org_ids[0]) if org_ids else None
    if org is None:
        raise NotPossible(f"the user {user.name} is in no organization")
    value = make_secret()
    token = tokens.make(context, value, org.id, user.id, operator_permissions(), "operator token of a recovery")
    await authorizations.store(context, token, org, user)
    context.audit.record("recover.token", OK, user_id=user.id, target=user.name, credential_id=token.id)
    return value


async def new_password(context: Context, name: str) -> str:
    """A new random password of a user, or of the 1.x user of that name if there is no such user; its sessions end."""
    reader = context.records.reader()
    user = await reader.find_unique(User, User.name_key(name))
    owner: User | Legacy | None = user or await reader.find_unique(Legacy, Legacy.name_key(name))
    if owner is None:
        raise NotPossible(f"there is no user {name}: `list` shows all")
    # All four kinds of characters, whatever is asked of passwords.
    value = f"{secrets.token_urlsafe(PASSWORD_BYTES)}-aA1!"
    change = Change()
    change.require(owner)
    change.tags += owner.tags()
    change.create(Password(id=owner.id, hash=await context.passwords.hash(value)))
    if user is not None:
        await sessions.end_all(reader, change, user.id)
    await context.records.change(change)
    context.audit.record("recover.password", OK, target=name, user_id=user.id if user else None)
    return value


async def run(arguments: argparse.Namespace) -> str:
    """What the command prints."""
    async with opened(StorageSettings(), AuthSettings()) as context:
        if arguments.command == "list":
            return "\n".join(await list_users(context))
        if arguments.command == "token":
            return await new_token(context, arguments.user)
        return await new_password(context, arguments.user)


def parse_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.recover",
        description="Recover access to the data folder that TIDEGATE_DATA names. Stop Tidegate first.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list users and 1.x users")
    token = commands.add_parser("token", help="make a new operator token and print it")
    token.add_argument("user", nargs="?", help="its user; without one the first owner of the instance")
    password = commands.add_parser("password", help="give a user, or a 1.x user, a new password and print it")
    password.add_argument("user")
    return parser.parse_args(given)


def main() -> None:
    arguments = parse_arguments()
    # What storage tells of itself does not belong into what is printed: warnings only, as JSON on standard error.
    log.configure("recover", secrets.token_hex(4), "warning", "json")
    try:
        print(asyncio.run(run(arguments)))
    except FolderHeld as error:
        sys.exit(f"{error}: stop it first")
    except (NotPossible, InfluxError, Stale, KeyTaken, OSError, UnusableCatalog) as error:
        sys.exit(f"cannot recover: {error}")


if __name__ == "__main__":
    main()
