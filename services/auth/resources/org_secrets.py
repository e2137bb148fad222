"""Secrets of an organization, encrypted at rest; reading gives their keys only. Source: InfluxDB 2.x, "Secrets"."""

from __future__ import annotations

import asyncio
import dataclasses

from common.errors import InfluxError, NotFound
from common.log import get_logger
from services.auth.context import Context
from services.auth.entities.orgs import Org, Secret
from services.auth.records.change import Change, Stale
from services.auth.records.reader import Reader
from services.auth.resources.members import CORRUPT, UNREADABLE
from services.auth.resources.orgs import PATH
from services.auth.rest.document import Document
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.permissions import check
from services.auth.security.sealing import CannotOpen

log = get_logger("org_secrets")
SEALED_AT_ONCE = 200
ASK_AGAIN_S = 1.0
DECODE = "failed to unmarshal json: "


def _sealed(context: Context, secret: Secret, value: str) -> Secret:
    return dataclasses.replace(secret, sealed=context.sealer.seal(value, secret.place), value="")


async def seal_all(context: Context) -> tuple[int, int]:
    """Seal what an earlier release kept readable, and under the present key what another one sealed.

    Returns:
        How many were sealed, and how many cannot be opened: their key is not there any more.

    Raises:
        Stale: one was changed meanwhile.
    """
    found = [s for s in await context.records.reader().list_all(Secret) if not context.sealer.is_current(s.sealed)]
    done = lost = 0
    for start in range(0, len(found), SEALED_AT_ONCE):
        change = Change()
        for old in found[start : start + SEALED_AT_ONCE]:
            try:
                value = context.sealer.open(old.sealed, old.place) if old.sealed else old.value
            except CannotOpen:
                lost += 1
            else:
                change.replace(old, _sealed(context, old, value))
        if change.puts:
            await context.records.change(change)
            done += len(change.puts)
    return done, lost


async def keep_sealing(context: Context) -> None:
    """``seal_all`` once, as soon as storage answers."""
    while True:
        try:
            done, lost = await seal_all(context)
        except (InfluxError, Stale):
            await asyncio.sleep(ASK_AGAIN_S)
            continue
        if done:
            log.info("secrets of organizations encrypted under the present key", secrets=done)
        if lost:
            log.error("secrets of organizations cannot be read: their key is not in TIDEGATE_SECRETS_KEY", secrets=lost)
        return


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
        new = _sealed(context, Secret(id=old.id if old else context.ids.sortable(), org_id=org.id, key=key), value)
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
