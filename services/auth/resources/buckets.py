"""Buckets over HTTP: ``/api/v2/buckets``. Source: InfluxDB 2.x, "Buckets"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.errors import Invalid, NotFound, Unprocessable
from common.identity import Identity
from services.auth.access import grants, mappings
from services.auth.context import Context
from services.auth.entities.buckets import SECOND_NS, Bucket, Dbrp
from services.auth.entities.orgs import Org
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import labels, orgs
from services.auth.resources.bucket_rules import changed_retention, check_name, check_retention, end, make
from services.auth.rest.document import Document
from services.auth.rest.jsonlayout import format_time
from services.auth.rest.paging import Page
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.permissions import check, check_object, has_part_in

PATH = "/api/v2/buckets"
MISSING = "bucket not found"
DECODE = "failed to unmarshal json: "


def may_read(identity: Identity, bucket: Bucket) -> bool:
    """Whether a list shows the bucket."""
    if bucket.type == "system":
        return identity.may("read", "orgs", bucket.org_id)
    return identity.may("read", "buckets", bucket.id, bucket.org_id)


def check_read(identity: Identity, bucket: Bucket) -> None:
    """Raises NotFound or Unauthorized."""
    if bucket.type == "system":
        check_object(identity, "read", "orgs", bucket.org_id, bucket.org_id, NotFound(MISSING))
    else:
        check_object(identity, "read", "buckets", bucket.id, bucket.org_id, NotFound(MISSING))


async def get(reader: Reader, id: str) -> Bucket:
    """The bucket. Raises NotFound."""
    bucket = await reader.find(Bucket, id)
    if bucket is None:
        raise NotFound(MISSING)
    return bucket


# ---------------------------------------------------------------- JSON


def to_json(bucket: Bucket, attached: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    path = f"{PATH}/{bucket.id}"
    rule = {
        "type": "expire",
        "everySeconds": bucket.retention_ns // SECOND_NS,
        "shardGroupDurationSeconds": bucket.shard_ns // SECOND_NS,
    }
    return {
        "id": bucket.id,
        "orgID": bucket.org_id,
        "type": bucket.type,
        **({"description": bucket.description} if bucket.description else {}),
        "name": bucket.name,
        **({"rp": bucket.rp} if bucket.rp else {}),
        "retentionRules": [rule],
        "createdAt": format_time(bucket.created_ns),
        "updatedAt": format_time(bucket.updated_ns),
        "links": {
            "labels": f"{path}/labels",
            "members": f"{path}/members",
            "org": f"{orgs.PATH}/{bucket.org_id}",
            "owners": f"{path}/owners",
            "self": path,
            "write": f"/api/v2/write?org={bucket.org_id}&bucket={bucket.id}",
        },
        "labels": list(attached),
    }


async def _shown(reader: Reader, found: Sequence[Bucket]) -> list[dict[str, Any]]:
    return await labels.show(reader, "buckets", found, to_json)


def _rule(document: Document) -> Document | None:
    """The one retention rule of a body, None = none given."""
    rules = document.documents("retentionRules") or []
    if len(rules) > 1:
        raise Unprocessable("buckets cannot have more than one retention rule at this time")
    return rules[0] if rules else None


# ---------------------------------------------------------------- calls


async def list_(context: Context, request: Request) -> Answer:
    page = Page.of(request)
    reader = context.records.reader()
    filters = {
        "bucket": request.arg("name"),
        "id": request.arg_id("id"),
        "org": request.arg("org"),
        "orgID": request.arg_id("orgID"),
    }
    org_id = await orgs.find_filter(reader, request)
    found = await _select(reader, request, page, filters["id"], filters["bucket"], org_id)
    shown = await _shown(reader, [bucket for bucket in found if may_read(request.caller, bucket)])
    # A page is full by what was cut, not by what is left of it: else a client stops too early.
    links = page.links(PATH, filters, len(found))
    return Answer.json({"links": links, "buckets": shown})


async def _select(reader: Reader, request: Request, page: Page, id: str, name: str, org_id: str) -> list[Bucket]:
    if id:
        bucket = await get(reader, id)
        if _hidden(request.caller, bucket):
            raise NotFound(MISSING)
        return [bucket]
    if name and org_id:
        found = await reader.find_unique(Bucket, Bucket.name_key(org_id, name))
        if found is None or _hidden(request.caller, found):
            raise NotFound(f'bucket "{name}" not found')
        return [found]
    if not name and not org_id and not page.descending:
        listed = await reader.list_all(Bucket, limit=page.offset + page.limit, after=page.after)
        return listed[page.offset :]
    if name:
        listed = await reader.list_all(Bucket, "name", name)
    elif org_id:
        listed = await reader.list_all(Bucket, "org_id", org_id)
        listed.sort(key=lambda bucket: bucket.name.encode("utf-8", "surrogateescape"))
    else:
        listed = await reader.list_all(Bucket)
    if page.descending:
        listed.reverse()
    if page.after:
        places = [place for place, bucket in enumerate(listed) if bucket.id == page.after]
        listed = listed[places[0] + 1 :] if places else []
    return listed[page.offset : page.offset + page.limit]


def _hidden(caller: Identity, bucket: Bucket) -> bool:
    return not may_read(caller, bucket) and not has_part_in(caller, bucket.org_id)


async def create(context: Context, request: Request) -> Answer:
    document = request.document(DECODE)
    org_id, name = document.id("orgID"), document.text("name") or ""
    description, rp = document.text("description") or "", document.text("rp") or ""
    rule = _rule(document) or Document(None)
    retention_s, shard_s = rule.integer("everySeconds") or 0, rule.integer("shardGroupDurationSeconds") or 0
    if org_id is None:
        raise Invalid("organization id must be provided")
    check_retention(retention_s, shard_s)
    check_name(name)
    check(request.caller, "write", "buckets", None, org_id)
    org = await orgs.get(context.records.reader(), org_id)
    bucket = make(context, org.id, name, retention_s, shard_s, description=description, rp=rp)
    await store(context, org, bucket)
    return Answer.json(to_json(bucket), 201)


async def store(context: Context, org: Org, bucket: Bucket) -> None:
    """Store a new bucket. Raises Conflict if the name is taken."""
    change = Change()
    change.require(org)
    change.create(bucket)
    await context.records.change(change, taken=f"bucket with name {bucket.name} already exists")


async def _found(context: Context, request: Request) -> tuple[Reader, Bucket]:
    reader = context.records.reader()
    return reader, await get(reader, request.id())


def check_write(identity: Identity, bucket: Bucket) -> None:
    """Raises NotFound or Unauthorized."""
    check_object(identity, "write", "buckets", bucket.id, bucket.org_id, NotFound(MISSING))


async def get_one(context: Context, request: Request) -> Answer:
    reader, bucket = await _found(context, request)
    check_read(request.caller, bucket)
    return Answer.json((await _shown(reader, [bucket]))[0])


async def patch(context: Context, request: Request) -> Answer:
    request.id()  # a bad one is told before a bad body
    document = request.document(DECODE)
    name, description = document.text("name"), document.text("description")
    rule = _rule(document)
    every_s = rule.integer("everySeconds") if rule else None
    shard_s = rule.integer("shardGroupDurationSeconds") if rule else None
    reader, bucket = await _found(context, request)
    if name is not None:
        check_read(request.caller, bucket)
    check_write(request.caller, bucket)
    if name is not None and name != bucket.name:
        if bucket.type == "system":
            raise Invalid("system buckets cannot be renamed")
        check_name(name)
    retention_ns, shard_ns = changed_retention(bucket, every_s, shard_s)
    new = bucket.changed(
        name=name,
        description=description,
        retention_ns=retention_ns,
        shard_ns=shard_ns,
        updated_ns=context.now_ns(),
    )
    change = Change()
    change.replace(bucket, new)
    if new.name != bucket.name:
        await grants.end_vanished(reader, change, bucket.org_id, [mappings.virtual_names(bucket.name)[0]])
    await context.records.change(change, taken="bucket name is not unique")
    return Answer.json((await _shown(reader, [new]))[0])


async def delete(context: Context, request: Request) -> Answer:
    reader, bucket = await _found(context, request)
    check_write(request.caller, bucket)
    change = Change()
    mapped = await reader.list_all(Dbrp, "bucket_id", bucket.id)
    await end(reader, change, [bucket])
    databases = [mappings.virtual_names(bucket.name)[0], *(mapping.database for mapping in mapped)]
    await grants.end_vanished(reader, change, bucket.org_id, databases)
    await mappings.commit(context, change)
    return NO_CONTENT
