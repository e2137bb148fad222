"""First set-up: the first user, organization, buckets and operator token, made in one batch, once.

Everything is checked before anything is made, and storage's conditions let exactly one set-up succeed, however many
race. Source: InfluxDB 2.x, "Setup".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from common.errors import Conflict, Invalid, Unprocessable
from common.identity import operator_permissions
from services.auth.context import Context
from services.auth.entities.authorizations import ApiToken
from services.auth.entities.buckets import Bucket
from services.auth.entities.orgs import Org
from services.auth.entities.users import INSTANCE_ID, OWNER, Member, Password, User
from services.auth.records.change import Change, KeyTaken, Stale
from services.auth.resources import bucket_rules, buckets, orgs, tokens, users
from services.auth.resources.permission_json import Names, permission_json
from services.auth.rest.jsonlayout import format_time
from services.auth.rest.request import Answer, Request
from services.auth.security import passwords
from services.auth.security.hashing import make_secret

DONE = "onboarding has already been completed"
_DURATION = re.compile(r"(?:[0-9]+(?:ns|us|µs|ms|s|m|h|d|w))+")
_PIECE = re.compile(r"([0-9]+)([a-zµ]+)")
_UNIT_NS = {
    "ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
    "d": 86_400 * 10**9, "w": 604_800 * 10**9,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be set up. ``password`` and ``token`` may be empty: none, and a random one."""

    username: str
    password: str
    org: str
    bucket: str
    retention_s: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """What was set up; ``token_value`` is shown once."""

    user: User
    org: Org
    bucket: Bucket
    token: ApiToken
    token_value: str


def parse_duration_s(text: str) -> int:
    """Seconds of a duration such as ``0``, ``7d``, ``1w``, ``72h30m``. Raises Invalid."""
    if text in ("", "0"):
        return 0
    if not _DURATION.fullmatch(text) or len(text) > 64:
        raise Invalid(f'"{text}" is not a duration: write 0, 7d, 1w or 72h30m')
    seconds = sum(int(number) * _UNIT_NS[unit] for number, unit in _PIECE.findall(text)) // 10**9
    if seconds > bucket_rules.MAX_SECONDS:
        raise Invalid(f'"{text}" is too long a duration')
    return seconds


async def is_allowed(context: Context) -> bool:
    """Whether there is neither a user nor an organization."""
    found = await context.records.reader().ask([["list", k.KIND, None, None, None, 1] for k in (User, Org)])
    return not any(found)


async def set_up(context: Context, wanted: Wanted) -> Made:
    """Make everything, once. Raises Conflict when it was done before; Invalid, Unprocessable: nothing is made."""
    if not await is_allowed(context):
        raise Conflict(DONE)
    change = Change()
    made = await add(context, change, wanted)
    try:
        await context.records.change(change)
    except (Stale, KeyTaken):
        raise Conflict(DONE) from None
    return made


async def add(context: Context, change: Change, wanted: Wanted) -> Made:
    """Add to *change* all that a set-up makes, if there is nothing yet. Raises Invalid, Unprocessable."""
    required = {"username": wanted.username, "org": wanted.org, "bucket": wanted.bucket}
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise Unprocessable(f"onboarding failed: missing required fields [{','.join(missing)}]")
    if wanted.password:
        passwords.check_acceptable(wanted.password, context.settings.strong_passwords)
    orgs.check_name(wanted.org)
    bucket_rules.check_name(wanted.bucket)
    bucket_rules.check_retention(wanted.retention_s, 0)
    change.require_none(User, Org)
    user = User(id=context.ids.sortable(), name=wanted.username)
    org = orgs.add(context, change, wanted.org, "", user.id)
    bucket = bucket_rules.make(context, org.id, wanted.bucket, wanted.retention_s)
    value = wanted.token or make_secret()
    description = f"{user.name}'s Token"
    token = tokens.make(context, value, org.id, user.id, operator_permissions(), description)
    instance = Member(
        id=context.ids.sortable(), resource_type="instance", resource_id=INSTANCE_ID, user_id=user.id, role=OWNER
    )
    change.create(user, bucket, token, instance)
    if wanted.password:
        change.create(Password(id=user.id, hash=await context.passwords.hash(wanted.password)))
    return Made(user, org, bucket, token, value)


def _token_json(context: Context, made: Made) -> dict[str, Any]:
    token = made.token
    return {
        "id": token.id,
        "token": made.token_value,
        "hashedToken": context.hasher.shown(made.token_value),
        "status": token.status,
        "description": token.description,
        "orgID": token.org_id,
        "userID": token.user_id,
        "permissions": [permission_json(permission, Names({})) for permission in token.permissions],
        "createdAt": format_time(token.created_ns),
        "updatedAt": format_time(token.updated_ns),
        "links": {"self": f"{tokens.PATH}/{token.id}", "user": f"{users.PATH}/{token.user_id}"},
    }


# ---------------------------------------------------------------- calls


async def get(context: Context, request: Request) -> Answer:
    return Answer.json({"allowed": await is_allowed(context)})


async def post(context: Context, request: Request) -> Answer:
    document = request.document()
    # The deprecated hours; InfluxDB 2.9 reads them as nanoseconds.
    retention_s = document.integer("retentionPeriodSeconds") or (document.integer("retentionPeriodHrs") or 0) * 3600
    wanted = Wanted(
        document.text("username") or "",
        document.text("password") or "",
        document.text("org") or "",
        document.text("bucket") or "",
        retention_s,
        document.text("token") or "",
    )
    made = await set_up(context, wanted)
    answer = {
        "user": users.to_json(made.user),
        "bucket": buckets.to_json(made.bucket),
        "org": orgs.to_json(made.org),
        "auth": _token_json(context, made),
    }
    return Answer.json(answer, 201)
