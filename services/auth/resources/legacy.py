"""Legacy authorizations: names and passwords of 1.x clients, ``/private/legacy/authorizations``."""

from __future__ import annotations

from common.errors import Invalid, NotFound
from common.identity import Permission
from services.auth.access import grants
from services.auth.context import Context
from services.auth.entities.authorizations import Legacy
from services.auth.entities.buckets import Bucket
from services.auth.entities.users import Password
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import authorizations
from services.auth.rest import ids
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security import passwords
from services.auth.security.permissions import check, has_part_in

PATH = "/private/legacy/authorizations"


def make(
    context: Context, name: str, org_id: str, user_id: str, permissions: tuple[Permission, ...],
    description: str = "", status: str = "active", expires_ms: int | None = None,
) -> Legacy:  # fmt: skip
    """A new legacy authorization; it has no password yet."""
    now_ns = context.now_ns()
    return Legacy(
        id=context.ids.sortable(), name=name, org_id=org_id, user_id=user_id, status=status, description=description,
        permissions=permissions, created_ns=now_ns, updated_ns=now_ns,
        expires_ms=expires_ms,
    )  # fmt: skip


async def list_(context: Context, request: Request) -> Answer:
    name = request.arg("token")
    reader, found = await authorizations.select(context, request, Legacy)
    if name:
        found = [a for a in found if a.name == name and authorizations.may_read(request.caller, a)]
        if not found:
            raise NotFound(authorizations.MISSING)
    shown = {authorization.id: authorization.name for authorization in found}
    found = await grants.expanded(reader, found)
    return await authorizations.answer_list(reader, request.caller, found, PATH, shown)


async def create(context: Context, request: Request) -> Answer:
    reader, wanted, org, user = await authorizations.read_allowed(context, request, legacy=True)
    await _check_buckets(reader, wanted.permissions, org.id)
    told = (wanted.permissions, wanted.description, wanted.status, wanted.expires_ms)
    legacy = make(context, wanted.token, org.id, user.id, *told)
    await authorizations.store(context, legacy, org, user)
    return await authorizations.answer_one(reader, legacy, legacy.name, PATH, 201)


async def _check_buckets(reader: Reader, permissions: tuple[Permission, ...], org_id: str) -> None:
    named = [p.id for p in permissions if p.type == "buckets" and p.id is not None]
    found = await reader.find_many((Bucket, id) for id in named)
    for id in named:
        bucket = found.get((Bucket.KIND, id))
        if not isinstance(bucket, Bucket) or bucket.org_id != org_id:
            raise NotFound("bucket not found when creating auth")


async def get_one(context: Context, request: Request) -> Answer:
    return await _answer(*await authorizations.get(context, request, Legacy, "read"))


async def patch(context: Context, request: Request) -> Answer:
    return await _answer(*await authorizations.change_one(context, request, Legacy, "unknown authorization status"))


async def _answer(reader: Reader, legacy: Legacy) -> Answer:
    (shown,) = await grants.expanded(reader, [legacy])
    return await authorizations.answer_one(reader, shown, legacy.name, PATH)


async def delete(context: Context, request: Request) -> Answer:
    _, legacy = await authorizations.get(context, request, Legacy, "write")
    await end(context, legacy)
    return NO_CONTENT


async def end(context: Context, legacy: Legacy) -> None:
    """Delete it, with its password, if it has one. Raises Stale if it was changed meanwhile."""
    await authorizations.end(context, legacy, Password(id=legacy.id, hash=""))


async def post_password(context: Context, request: Request) -> Answer:
    """``POST …/<id>/password``: sets or replaces it; asks only for write on the owner."""
    if ids.find_id(request.params["id"]) is None:  # told before a bad body
        raise Invalid("invalid authorization ID provided in route")
    password = request.document().text("password") or ""
    _, legacy = await authorizations.get(context, request, Legacy)
    if not has_part_in(request.caller, legacy.org_id):
        raise NotFound(authorizations.MISSING)
    check(request.caller, "write", "users", legacy.user_id)
    await set_password(context, legacy, password)
    return NO_CONTENT


async def set_password(context: Context, legacy: Legacy, password: str) -> None:
    """Raises Invalid for a password that is too short or too long."""
    passwords.check_acceptable(password, context.settings.strong_passwords)
    await put_password(context, legacy, password)


async def put_password(context: Context, legacy: Legacy, password: str) -> None:
    """Store a password, whatever it is, in the place of the present one."""
    hashed = await context.passwords.hash(password)
    change = Change()
    change.require(legacy)
    change.tags += legacy.tags()
    change.create(Password(id=legacy.id, hash=hashed))
    await context.records.change(change)
