"""Users, their passwords, and ``/api/v2/me``. Source: InfluxDB 2.x, "Users"."""

from __future__ import annotations

from typing import Any

from common.errors import EmptyValue, Forbidden, Invalid, NotFound
from services.auth.access import sessions
from services.auth.context import Context
from services.auth.entities.entity import ACTIVE, INACTIVE
from services.auth.entities.users import Member, Password, User
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources.permission_json import Names, permission_json
from services.auth.rest import ids
from services.auth.rest.paging import Page
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security import passwords
from services.auth.security.permissions import check

PATH = "/api/v2/users"
MISSING = "user not found"
BAD_STATUS = "invalid status: must be active or inactive"


def to_json(user: User) -> dict[str, Any]:
    return {
        "links": {"self": f"{PATH}/{user.id}"},
        "id": user.id,
        "name": user.name,
        **({"oauthID": user.oauth_id} if user.oauth_id else {}),
        "status": user.status,
    }


# ---------------------------------------------------------------- rules


async def get(reader: Reader, id: str) -> User:
    """The user. Raises NotFound."""
    user = await reader.find(User, id)
    if user is None:
        raise NotFound(MISSING)
    return user


async def commit(context: Context, change: Change, name: str) -> None:
    """Make a change of users. Raises Conflict if *name* is taken."""
    await context.records.change(change, taken=f"user with name {name} already exists")


async def set_password(
    context: Context, reader: Reader, user: User, password: str, keep_session: str = "", present: Password | None = None
) -> None:
    """Replace the user's password, if *present* is still the one that is stored (None = whichever is); sessions end,
    but for the one that asks. Raises Stale."""
    passwords.check_acceptable(password, context.settings.strong_passwords)
    new = Password(id=user.id, hash=await context.passwords.hash(password))
    change = Change()
    change.require(user)
    if present is None:
        change.create(new)
    else:
        change.replace(present, new)
    await sessions.end_all(reader, change, user.id, keep_session, new)
    await context.records.change(change)


# ---------------------------------------------------------------- calls


async def list_(context: Context, request: Request) -> Answer:
    page = Page.of(request)
    reader = context.records.reader()
    id, name = request.arg_id("id"), request.arg("name")
    if id:
        found = [await get(reader, id)]
    elif name:
        user = await reader.find_unique(User, User.name_key(name))
        if user is None:
            raise NotFound(MISSING)
        found = [user]
    elif page.descending:
        listed = [user for user in reversed(await reader.list_all(User)) if not page.after or user.id < page.after]
        found = listed[page.offset : page.offset + page.limit]
    else:
        listed = await reader.list_all(User, limit=page.offset + page.limit, after=page.after)
        found = listed[page.offset :]
    shown = [to_json(user) for user in found if request.caller.may("read", "users", user.id)]
    return Answer.json({"links": {"self": PATH}, "users": shown})


async def create(context: Context, request: Request) -> Answer:
    document = request.document()
    name, status = document.text("name") or "", document.text("status") or ACTIVE
    oauth_id = document.text("oauthID") or ""
    check(request.caller, "write", "users")
    if not name:
        raise EmptyValue("key required")
    if status not in (ACTIVE, INACTIVE):
        raise Invalid(BAD_STATUS)
    user = User(id=context.ids.sortable(), name=name, status=status, oauth_id=oauth_id)
    change = Change()
    change.create(user)
    await commit(context, change, name)
    return Answer.json(to_json(user), 201)


async def _found(context: Context, request: Request, action: str) -> tuple[Reader, User]:
    reader = context.records.reader()
    user = await get(reader, request.id())
    check(request.caller, action, "users", user.id)
    return reader, user


async def get_one(context: Context, request: Request) -> Answer:
    _, user = await _found(context, request, "read")
    return Answer.json(to_json(user))


async def patch(context: Context, request: Request) -> Answer:
    request.id()  # a bad one is told before a bad body
    document = request.document()
    name, status = document.text("name"), document.text("status")
    _, user = await _found(context, request, "write")
    if status is not None and status not in (ACTIVE, INACTIVE):
        raise Invalid(BAD_STATUS)
    if name is not None and not name:
        raise EmptyValue("key required")
    new = user.changed(name=name, status=status)
    change = Change()
    change.replace(user, new)
    await commit(context, change, new.name)
    return Answer.json(to_json(new))


async def delete(context: Context, request: Request) -> Answer:
    reader, user = await _found(context, request, "write")
    change = Change()
    change.delete_once(user)
    change.delete(*await reader.list_all(Member, "user_id", user.id))
    password = await reader.find(Password, user.id)
    if password is not None:
        change.delete(password)
    # Sessions stay until they expire: their answer is "User is inactive".
    await context.records.change(change)
    return NO_CONTENT


async def permissions(context: Context, request: Request) -> Answer:
    """``GET /users/<id>/permissions``: from memberships, and on itself; not those of the user's tokens."""
    reader, user = await _found(context, request, "read")
    members = await reader.list_all(Member, "user_id", user.id)
    held = sessions.membership_permissions(members, user.id)
    return Answer.json([permission_json(permission, Names()) for permission in held])


async def me(context: Context, request: Request) -> Answer:
    user = await get(context.records.reader(), request.caller.user_id)
    check(request.caller, "read", "users", user.id)
    return Answer.json(to_json(user))


async def post_password(context: Context, request: Request) -> Answer:
    """``POST /users/<id>/password``: set by one who may write the user."""
    reader, user = await _password_target(context, request, _password_id(request))
    check(request.caller, "write", "users", user.id)
    await set_password(context, reader, user, request.document().text("password") or "", _own_session(request))
    return NO_CONTENT


async def put_password(context: Context, request: Request) -> Answer:
    """``PUT /users/<id>/password`` with Basic carrying the present password."""
    return await _change_password(context, request, _password_id(request))


async def put_own_password(context: Context, request: Request) -> Answer:
    """``PUT /me/password``."""
    return await _change_password(context, request, request.caller.user_id)


async def _change_password(context: Context, request: Request, id: str) -> Answer:
    if request.scheme != "basic":
        raise Invalid("error decoding password reset request: invalid basic auth")
    document = request.document()
    reader, user = await _password_target(context, request, id)
    check(request.caller, "write", "users", user.id)
    stored = await reader.find(Password, user.id)
    async with context.attempts.one(user.name, request.remote):
        if not await context.passwords.matches(request.secret, stored.hash if stored else None):
            raise Forbidden("your username or password is incorrect")
    # Who knows the password of before must not undo a change that was made meanwhile.
    await set_password(context, reader, user, document.text("password") or "", _own_session(request), stored)
    return NO_CONTENT


def _password_id(request: Request) -> str:
    """The id in the path of a password. Raises Invalid in words of its own."""
    id = ids.find_id(request.params["id"])
    if id is None:
        raise Invalid("invalid user ID provided in route")
    return id


async def _password_target(context: Context, request: Request, id: str) -> tuple[Reader, User]:
    reader = context.records.reader()
    user = await reader.find(User, id)
    if user is None:
        raise Forbidden("your userID is incorrect")
    return reader, user


def _own_session(request: Request) -> str:
    return request.caller.credential_id if request.caller.kind == "session" else ""
