"""``/api/v2/signin`` and ``signout``. Source: InfluxDB 2.x, "Sign-in and sign-out"."""

from __future__ import annotations

from datetime import UTC, datetime

from common.errors import Forbidden, Invalid, Unauthorized
from services.auth.access import sessions
from services.auth.context import Context
from services.auth.entities.users import Password, User
from services.auth.records.change import Change
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security import passwords

COOKIE = "influxdb-oss-session"


async def sign_in(context: Context, request: Request) -> Answer:
    """``POST /api/v2/signin`` with Basic: a new session and its cookie."""
    if request.scheme != "basic":
        raise Unauthorized(sessions.REFUSED)
    reader = context.records.reader()
    async with context.attempts.one(request.user, request.remote):
        user = await reader.find_unique(User, User.name_key(request.user)) if request.user else None
        password = await reader.find(Password, user.id) if user else None
        right = await context.passwords.matches(request.secret, password.hash if password else None)
        if user is None or password is None or not right:
            raise Unauthorized(sessions.REFUSED)
    _check_strong(context, request.secret)
    cookie, expires_ms = await sessions.create(context, reader, user, password)
    expires = datetime.fromtimestamp(expires_ms // 1000, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    value = f"{COOKIE}={cookie}; Path=/api/; Expires={expires}; HttpOnly; SameSite=Strict"
    return Answer(204, headers=(("Set-Cookie", value),))


def _check_strong(context: Context, password: str) -> None:
    """Raises Forbidden for a right password from before strong ones were asked for: it has to be replaced first."""
    if not context.settings.strong_passwords:
        return
    try:
        passwords.check_acceptable(password, strong=True)
    except Invalid as error:
        raise Forbidden(f"password change required: {error}") from None


async def sign_out(context: Context, request: Request) -> Answer:
    """``POST /api/v2/signout``: the session is gone at once, everywhere."""
    session = None
    if request.scheme == "session" and request.secret:
        session = await sessions.find_live(context, context.records.reader(), request.secret)
    if session is None:
        raise Unauthorized(sessions.REFUSED)
    change = Change()
    change.delete(session)
    await context.records.change(change)
    return NO_CONTENT
