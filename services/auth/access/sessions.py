"""Sessions: made, verified, renewed and ended; and what a session may do.

They are records in storage, so that each replica of auth knows them and a restart ends none (InfluxDB 2.9 keeps them
in memory). Source: InfluxDB 2.x, "Sign-in and sign-out".
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable

from common.errors import Forbidden, InfluxError, Unauthorized
from common.identity import Identity, Permission, owner_permissions
from common.log import get_logger
from services.auth.access.caches import Found
from services.auth.context import Context
from services.auth.entities.authorizations import ApiToken
from services.auth.entities.entity import INACTIVE
from services.auth.entities.users import OWNER, Member, Password, Session, User
from services.auth.records.change import Change, Stale
from services.auth.records.reader import Reader
from services.auth.security.hashing import make_secret

log = get_logger("sessions")
RENEWAL_MS = 300_000
# A session in use is written anew when that gains this much, not at each request.
RENEWAL_STEP_MS = 15_000
SWEEP_EVERY_S = 300
SWEEP_AT_ONCE = 500
REFUSED = "unauthorized access"


async def verify(context: Context, cookie: str) -> Found[Identity]:
    """Who the cookie's session belongs to; use of it prolongs the session."""
    reader = context.records.reader()
    session = await find_live(context, reader, cookie)
    if session is None:
        raise Unauthorized(REFUSED)
    user, password, (_, permissions) = await asyncio.gather(
        reader.find(User, session.user_id),
        reader.find(Password, session.user_id),
        read_permissions(reader, session.user_id, context.now_ms()),
    )
    if user is None or user.status == INACTIVE:
        raise Forbidden("User is inactive")
    if password is None or password.mark() != session.password_mark:
        raise Unauthorized(REFUSED)
    expires_ms = await _renew(context, session)
    identity = Identity("session", session.id, user.id, None, permissions, True, expires_ms)
    return Found(identity, reader.number, (f"session:{session.id}", f"user:{user.id}"))


async def read_permissions(reader: Reader, user_id: str, now_ms: int) -> tuple[list[Member], tuple[Permission, ...]]:
    """A user's memberships, oldest first, and what it may do by them, on itself and by all its tokens."""
    members, tokens = await asyncio.gather(
        reader.list_all(Member, "user_id", user_id), reader.list_all(ApiToken, "user_id", user_id)
    )
    # What has expired gives no more.
    held = (p for token in tokens if (token.expires_ms or now_ms + 1) > now_ms for p in token.permissions)
    return members, tuple(dict.fromkeys((*membership_permissions(members, user_id), *held)))


async def find_live(context: Context, reader: Reader, cookie: str) -> Session | None:
    """The session of a cookie's value, if it has not ended."""
    session = await reader.find_unique(Session, Session.value_key(context.hasher.session(cookie)))
    return (
        session if session and _latest_ms(context, session.created_ms, session.expires_ms) > context.now_ms() else None
    )


def _latest_ms(context: Context, created_ms: int, wanted_ms: int) -> int:
    """The expiry, Unix ms, of a session made at *created_ms* that is to live until *wanted_ms*."""
    longest_ms = context.settings.session_max_m * 60_000
    return min(wanted_ms, created_ms + longest_ms) if longest_ms else wanted_ms


async def _renew(context: Context, session: Session) -> int:
    """Move the expiry to 5 minutes from now if that is later; returns the expiry, Unix ms."""
    renewed_ms = _latest_ms(context, session.created_ms, context.now_ms() + RENEWAL_MS)
    if not context.settings.session_renew or renewed_ms < session.expires_ms + RENEWAL_STEP_MS:
        return session.expires_ms
    change = Change()
    change.replace(session, dataclasses.replace(session, expires_ms=renewed_ms))
    # Nothing that anybody knows of the session has changed: no cache has to drop it.
    change.tags.clear()
    try:
        await context.records.change(change)
    except Stale:  # renewed by another request, or signed out: the next use of it will tell
        return session.expires_ms
    return renewed_ms


def membership_permissions(members: Iterable[Member], user_id: str) -> list[Permission]:
    """What a user may do by memberships, and on itself."""
    permissions: list[Permission] = []
    for member in members:
        if member.resource_type == "instance":
            permissions += (Permission("read", "instance"), Permission("write", "instance"))
        elif member.resource_type == "orgs":
            actions = ("read", "write") if member.role == OWNER else ("read",)
            permissions += owner_permissions(member.resource_id, actions)
        elif member.resource_type == "buckets" and member.role != OWNER:
            permissions.append(Permission("read", "buckets", member.resource_id))
    return [*permissions, Permission("read", "users", user_id), Permission("write", "users", user_id)]


async def create(context: Context, reader: Reader, user: User, password: Password) -> tuple[str, int]:
    """A new session of *user* by *password*: its cookie's value and its expiry, Unix ms. The user's oldest may have to
    go for it."""
    cookie = make_secret()
    now_ms = context.now_ms()
    expires_ms = _latest_ms(context, now_ms, now_ms + context.settings.session_length_m * 60_000)
    session = Session(
        id=context.ids.sortable(), key=context.hasher.session(cookie), user_id=user.id, created_ms=now_ms,
        expires_ms=expires_ms, password_mark=password.mark(),
    )  # fmt: skip
    present = await reader.list_all(Session, "user_id", user.id)
    change = Change()
    change.require(user)
    change.delete(*(old for old in present if old.expires_ms <= now_ms))
    living = [old for old in present if old.expires_ms > now_ms]
    change.delete(*living[: max(0, len(living) + 1 - context.settings.max_sessions_per_user)])
    change.create(session)
    await context.records.change(change)
    return cookie, expires_ms


async def end_all(
    reader: Reader, change: Change, user_id: str, but: str = "", password: Password | None = None
) -> None:
    """Add to *change* the end of the user's sessions; the one with the id *but* goes on under the new *password*."""
    for session in await reader.list_all(Session, "user_id", user_id):
        if password is not None and session.id == but:
            change.replace(session, dataclasses.replace(session, password_mark=password.mark()))
        else:
            change.delete(session)


async def sweep(context: Context) -> None:
    """Delete expired sessions, every few minutes, for ever."""
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        try:
            await sweep_once(context)
        except InfluxError as error:
            log.warning("cannot delete expired sessions now", reason=str(error))


async def sweep_once(context: Context) -> int:
    """Delete expired sessions, a slice at a time; returns how many."""
    reader = context.records.reader()
    expired = [s for s in await reader.list_all(Session) if s.expires_ms <= context.now_ms()]
    for start in range(0, len(expired), SWEEP_AT_ONCE):
        change = Change()
        change.delete(*expired[start : start + SWEEP_AT_ONCE])
        await context.records.change(change)
    return len(expired)
