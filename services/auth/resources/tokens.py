"""API tokens: ``/api/v2/authorizations``. The value is shown once, in the answer that made it."""

from __future__ import annotations

from common.identity import Permission
from services.auth.context import Context
from services.auth.entities.authorizations import ApiToken
from services.auth.resources import authorizations
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.hashing import make_secret

PATH = "/api/v2/authorizations"


def make(
    context: Context, value: str, org_id: str, user_id: str, permissions: tuple[Permission, ...],
    description: str = "", status: str = "active", expires_ms: int | None = None,
) -> ApiToken:  # fmt: skip
    """A new token of the value *value*."""
    now_ns = context.now_ns()
    return ApiToken(
        id=context.ids.sortable(), key=context.hasher.token(value), org_id=org_id, user_id=user_id, status=status,
        description=description, permissions=permissions, created_ns=now_ns, updated_ns=now_ns,
        expires_ms=expires_ms,
    )  # fmt: skip


async def list_(context: Context, request: Request) -> Answer:
    reader, found = await authorizations.select(context, request, ApiToken)
    return await authorizations.answer_list(reader, request.caller, found, PATH, {})


async def create(context: Context, request: Request) -> Answer:
    reader, wanted, org, user = await authorizations.read_allowed(context, request, legacy=False)
    value = make_secret()
    told = (wanted.permissions, wanted.description, wanted.status, wanted.expires_ms)
    token = make(context, value, org.id, user.id, *told)
    await authorizations.store(context, token, org, user)
    return await authorizations.answer_one(reader, token, value, PATH, 201)


async def get_one(context: Context, request: Request) -> Answer:
    reader, token = await authorizations.get(context, request, ApiToken, "read")
    return await authorizations.answer_one(reader, token, authorizations.HIDDEN, PATH)


async def patch(context: Context, request: Request) -> Answer:
    bad_status = "encodeAuthorization: unknown authorization status"
    reader, token = await authorizations.change_one(context, request, ApiToken, bad_status)
    return await authorizations.answer_one(reader, token, authorizations.HIDDEN, PATH)


async def delete(context: Context, request: Request) -> Answer:
    _, token = await authorizations.get(context, request, ApiToken, "write")
    await authorizations.end(context, token)
    return NO_CONTENT
