"""Telegraf configurations: stored, listed, and served as TOML to Telegraf. Source: InfluxDB 2.x, "Telegrafs"."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Sequence
from typing import Any

from common.errors import Invalid
from services.auth.context import Context
from services.auth.entities.assets import Telegraf
from services.auth.entities.users import OWNER, Member
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import assets, attachments, labels, orgs
from services.auth.rest.document import Document
from services.auth.rest.jsonlayout import COMPACT
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.permissions import check

PATH = "/api/v2/telegrafs"
MISSING = "telegraf configuration not found"
TOML = "application/toml; charset=utf-8"


def to_json(telegraf: Telegraf, attached: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    path = f"{PATH}/{telegraf.id}"
    optional = {"name": telegraf.name, "description": telegraf.description, "config": telegraf.config}
    return {
        "id": telegraf.id,
        "orgID": telegraf.org_id,
        **{key: value for key, value in optional.items() if value},
        "metadata": {"buckets": list(telegraf.metadata_buckets)},
        "labels": list(attached),
        "links": {"self": path, "labels": f"{path}/labels", "members": f"{path}/members", "owners": f"{path}/owners"},
    }


async def _answer(reader: Reader, telegraf: Telegraf, status: int = 200) -> Answer:
    (shown,) = await labels.show(reader, "telegrafs", [telegraf], to_json)
    return Answer.json(shown, status, COMPACT)


async def _check_toml(text: str) -> None:
    """Raises Invalid."""
    try:
        # Plain Python, slow: off the event loop.
        await asyncio.to_thread(tomllib.loads, text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise Invalid(f"config is not TOML: {reason}") from None


def _read(document: Document, id: str, org_id: str) -> Telegraf:
    buckets = document.document("metadata").texts("buckets") or []
    return Telegraf(
        id=id, org_id=org_id, name=document.text("name") or "", description=document.text("description") or "",
        config=document.text("config") or "", metadata_buckets=tuple(buckets),
    )  # fmt: skip


async def list_(context: Context, request: Request) -> Answer:
    reader = context.records.reader()
    org_id = await orgs.find_filter(reader, request)
    found = await (reader.list_all(Telegraf, "org_id", org_id) if org_id else reader.list_all(Telegraf))
    readable = [t for t in found if request.caller.may("read", "telegrafs", t.id, t.org_id)]
    shown = await labels.show(reader, "telegrafs", readable, to_json)
    return Answer.json({"configurations": shown}, layout=COMPACT)


async def create(context: Context, request: Request) -> Answer:
    document = request.document()
    org_id = document.id("orgID")
    if org_id is None:
        raise Invalid("organization id must be provided")
    telegraf = _read(document, context.ids.sortable(), org_id)
    check(request.caller, "write", "telegrafs", None, org_id)
    await _check_toml(telegraf.config)
    reader = context.records.reader()
    org = await orgs.get(reader, org_id)
    owner = Member(
        id=context.ids.sortable(), resource_type="telegrafs", resource_id=telegraf.id,
        user_id=request.caller.user_id, role=OWNER,
    )  # fmt: skip
    change = Change()
    change.require(org)
    change.create(telegraf, owner)
    await context.records.change(change)
    return await _answer(reader, telegraf, 201)


async def _found(context: Context, request: Request, *actions: str) -> tuple[Reader, Telegraf]:
    return await assets.find(context, request, Telegraf, "telegrafs", MISSING, *actions)


async def get_one(context: Context, request: Request) -> Answer:
    """TOML, as Telegraf fetches it, unless JSON is asked for."""
    reader, telegraf = await _found(context, request, "read")
    if "application/json" in request.headers.get("accept", ""):
        return await _answer(reader, telegraf)
    return Answer(200, telegraf.config.encode("utf-8", "surrogateescape"), (("Content-Type", TOML),))


async def put(context: Context, request: Request) -> Answer:
    id = request.id()
    document = request.document()
    reader, old = await _found(context, request, "read", "write")
    new = _read(document, id, old.org_id)
    await _check_toml(new.config)
    change = Change()
    change.replace(old, new)
    await context.records.change(change)
    return await _answer(reader, new)


async def delete(context: Context, request: Request) -> Answer:
    reader, telegraf = await _found(context, request, "write")
    change = Change()
    change.delete_once(telegraf)
    await attachments.end(reader, change, "telegrafs", telegraf.id)
    await context.records.change(change)
    return NO_CONTENT
