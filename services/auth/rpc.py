"""RPC methods of auth: decode, call, encode; no rules. Source: docs/rpc.md, "auth"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from common.errors import Invalid
from common.identity import Identity
from common.rpc.server import Call, Handler, Reply
from services.auth import routes
from services.auth.access.resolve import Resolver
from services.auth.access.verify import Credential, Verifier
from services.auth.context import Context
from services.auth.hub import Hub
from services.auth.records.store import noting
from services.auth.rest.request import Request
from services.auth.v1 import administration
from services.auth.v1.statements import AnyStatement

# The gateway has checked its setting for bodies, TIDEGATE_REST_MAX_BODY_BYTES, which is no larger.
MAX_CALL_BYTES = 16 << 20
H = TypeVar("H")


class _VerifyHead(msgspec.Struct):
    dialect: str
    scheme: str
    user: str = ""
    secret: str = ""
    remote: str = ""


class _UsedHead(msgspec.Struct):
    used: dict[str, int]


class _BucketHead(msgspec.Struct):
    bucket: str
    org: str = ""
    org_id: str = ""


class _MappingsHead(msgspec.Struct):
    org_id: str
    confirm: bool = False


class _AdministerHead(msgspec.Struct):
    identity: bytes
    statement: AnyStatement
    remote: str = ""
    request_id: str = ""


class _RestHead(msgspec.Struct):
    method: str
    path: str
    query: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    identity: bytes | None = None
    scheme: str = ""
    user: str = ""
    secret: str = ""
    remote: str = ""
    request_id: str = ""


def _decode(head: Any, type: type[H]) -> H:
    try:
        return msgspec.convert(head, type)
    except msgspec.ValidationError as error:
        raise Invalid(f"the head of the call is wrong: {error}") from None


def handlers(context: Context, verifier: Verifier, resolver: Resolver, hub: Hub) -> Mapping[str, Handler]:
    """The methods by name."""

    async def verify(call: Call) -> Reply:
        await call.finish()
        head = _decode(call.head, _VerifyHead)
        found = await verifier.verify(Credential(head.dialect, head.scheme, head.user, head.secret, head.remote))
        return Reply({"identity": found.value.to_wire(), "number": found.number, "tags": found.tags})

    async def rest_call(call: Call) -> Reply:
        head = _decode(call.head, _RestHead)
        parts = await call.parts(MAX_CALL_BYTES)
        request = Request(
            head.method,
            head.path,
            head.query,
            head.headers,
            Identity.from_wire(head.identity) if head.identity is not None else None,
            head.scheme,
            head.user,
            head.secret,
            head.remote,
            b"".join(parts),
            request_id=head.request_id,
        )
        with noting() as changes:
            answer = await routes.handle(context, request)
        headers = [list(header) for header in answer.headers]
        return Reply({"status": answer.status, "headers": headers, "changes": changes}, [answer.body])

    async def used(call: Call) -> Reply:
        await call.finish()
        context.uses.note(_decode(call.head, _UsedHead).used)
        return Reply({})

    async def bucket(call: Call) -> Reply:
        await call.finish()
        head = _decode(call.head, _BucketHead)
        found = await resolver.bucket(head.org, head.org_id, head.bucket)
        return Reply({"bucket": found.value, "number": found.number, "tags": found.tags})

    async def mappings(call: Call) -> Reply:
        await call.finish()
        head = _decode(call.head, _MappingsHead)
        found = await resolver.mappings(head.org_id, head.confirm)
        return Reply({"mappings": found.value, "number": found.number, "tags": found.tags})

    async def administer(call: Call) -> Reply:
        await call.finish()
        head = _decode(call.head, _AdministerHead)
        origin = administration.Origin(head.remote, head.request_id)
        with noting() as changes:
            rows = await administration.administer(context, Identity.from_wire(head.identity), head.statement, origin)
        return Reply({"rows": rows, "changes": changes})

    async def feed(call: Call) -> Reply:
        await call.finish()
        head, parts = hub.subscribe()
        return Reply(head, parts)

    return {
        "verify": verify,
        "rest": rest_call,
        "used": used,
        "bucket": bucket,
        "mappings": mappings,
        "administer": administer,
        "feed": feed,
    }
