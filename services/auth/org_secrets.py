"""Secrets of an organization; reading gives their keys only. Source: InfluxDB 2.x, "Secrets"."""

from __future__ import annotations

from common.errors import NotFound
from services.auth.context import Context
from services.auth.entities import Org, Secret
from services.auth.gojson import Document
from services.auth.members import CORRUPT, UNREADABLE
from services.auth.orgs import PATH
from services.auth.permissions import check
from services.auth.records import Change, Reader
from services.auth.request import NO_CONTENT, Answer, Request

DECODE = "failed to unmarshal json: "


async def _org(context: Context, request: Request, action: str) -> tuple[Reader, Org]:
    org_id = request.id(prefix=CORRUPT)
    reader = context.records.reader()
    org = await reader.find(Org, org_id)
    if org is None or not request.caller.may("read", "orgs", org_id):
        raise NotFound(UNREADABLE)
    check(request.caller, action, "secrets", None, org_id)
    return reader, org


async def list_(context: Context, request: Request) -> Answer:
    reader, org = await _org(context, request, "read")
    keys = sorted(secret.key for secret in await reader.list_all(Secret, "org_id", org.id))
    path = f"{PATH}/{org.id}"
    return Answer.json({"links": {"org": path, "self": f"{path}/secrets"}, "secrets": keys})


async def patch(context: Context, request: Request) -> Answer:
    """``{"key": "value", …}``: adds or replaces."""
    document = Document({"secrets": Document.parse(request.body, DECODE).members}, DECODE)
    reader, org = await _org(context, request, "write")
    change = Change()
    change.require(org)
    present = {secret.key: secret for secret in await reader.list_all(Secret, "org_id", org.id)}
    for key, value in (document.text_map("secrets") or {}).items():
        old = present.get(key)
        new = Secret(id=old.id if old else context.ids.sortable(), org_id=org.id, key=key, value=value)
        if old:
            change.replace(old, new)
        else:
            change.create(new)
    await context.records.change(change)
    return NO_CONTENT


async def delete_many(context: Context, request: Request) -> Answer:
    keys = request.document(DECODE).texts("secrets") or []
    return await _delete(context, request, keys)


async def delete_one(context: Context, request: Request) -> Answer:
    return await _delete(context, request, [request.params["key"]])


async def _delete(context: Context, request: Request, keys: list[str]) -> Answer:
    reader, org = await _org(context, request, "write")
    change = Change()
    for key in dict.fromkeys(keys):
        secret = await reader.find_unique(Secret, Secret.name_key(org.id, key))
        if secret is not None:
            change.delete(secret)
    if change.deletes:
        await context.records.change(change)
    return NO_CONTENT
