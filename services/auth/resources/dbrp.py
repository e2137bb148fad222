"""DBRP mappings over HTTP: ``/api/v2/dbrps``. Permissions are those of the bucket.

Source: InfluxDB 2.x, "DBRP mappings".
"""

from __future__ import annotations

from common.errors import Invalid, NotFound
from common.identity import Identity
from services.auth.access import grants, mappings
from services.auth.context import Context
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.entities.orgs import Org
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import orgs
from services.auth.rest import ids
from services.auth.rest.request import BOOLEANS, NO_CONTENT, Answer, Request
from services.auth.security.permissions import check_object

MISSING = "unable to find DBRP"
NO_ORG = "either 'org' or 'orgID' must be provided"


async def _org_id(reader: Reader, caller: Identity, name: str, id: str) -> str:
    """The id of the organization of a call; one given as an id need not exist: nothing will be found in it."""
    if id:
        return ids.parse_id(id, f'invalid org ID "{id}": ')
    if not name:
        raise Invalid(NO_ORG)
    org = await reader.find_unique(Org, Org.name_key(name))
    if org is None or orgs.hidden_from(caller, org.id):
        raise NotFound(f'invalid org "{name}": organization not found')
    return org.id


async def _views(reader: Reader, org_id: str) -> tuple[list[mappings.View], dict[str, Dbrp]]:
    stored = await reader.list_all(Dbrp, "org_id", org_id)
    buckets = await reader.list_all(Bucket, "org_id", org_id)
    return mappings.with_virtual(stored, buckets), {mapping.id: mapping for mapping in stored}


async def list_(context: Context, request: Request) -> Answer:
    reader = context.records.reader()
    if not request.arg("orgID") and not request.arg("org"):
        raise Invalid(NO_ORG)  # before any other parameter
    id, bucket_id = request.arg("id"), request.arg("bucketID")
    wanted = {
        "id": ids.parse_id(id, f'invalid DBRP ID "{id}": ') if id else "",
        "bucket_id": ids.parse_id(bucket_id, f'invalid bucket ID "{bucket_id}": ') if bucket_id else "",
        "database": request.arg("db"),
        "retention_policy": request.arg("rp"),
    }
    default = BOOLEANS.get(request.arg("default")) if request.arg("default") else None
    if request.arg("default") and default is None:
        raise Invalid("invalid default parameter")
    org_id = await _org_id(reader, request.caller, request.arg("org"), request.arg("orgID"))
    views, _ = await _views(reader, org_id)
    content = [
        view.json()
        for view in views
        if all(not value or getattr(view, name) == value for name, value in wanted.items())
        and default in (None, view.default)
        and request.caller.may("read", "buckets", view.bucket_id, view.org_id)
    ]
    return Answer.json({"content": content})


async def create(context: Context, request: Request) -> Answer:
    document = request.document("invalid json structure: ")
    org_name, org_id = document.text("org") or "", document.text("orgID") or ""
    bucket_id = document.text("bucketID") or ""
    database, policy = document.text("database") or "", document.text("retention_policy") or ""
    default = bool(document.flag("default"))
    if not org_name and not org_id:
        raise Invalid(NO_ORG)
    bucket_id = ids.parse_id(bucket_id, f'invalid bucket ID "{bucket_id}": ')
    reader = context.records.reader()
    org_id = await _org_id(reader, request.caller, org_name, org_id)
    mappings.check_name(database, "database")
    mappings.check_name(policy, "retentionPolicy")
    bucket = await reader.find(Bucket, bucket_id)
    if bucket is None or bucket.org_id != org_id:
        raise NotFound("bucket not found")
    _check_bucket(request.caller, bucket.id, org_id, "bucket not found", "read", "write")
    change = Change()
    mapping = await mappings.add(context, reader, change, bucket, database, policy, default)
    await mappings.commit(context, change)
    return Answer.json(mappings.view_of(mapping).json(), 201)


def _check_bucket(caller: Identity, bucket_id: str, org_id: str, missing: str, *actions: str) -> None:
    for action in actions:
        check_object(caller, action, "buckets", bucket_id, org_id, NotFound(missing))


async def _found(context: Context, request: Request) -> tuple[Reader, mappings.View, Dbrp | None]:
    reader = context.records.reader()
    org_id = await _org_id(reader, request.caller, request.arg("org"), request.arg("orgID"))
    given = request.params["id"]
    id = ids.parse_id(given, f'invalid DBRP ID "{given}": ')
    views, stored = await _views(reader, org_id)
    view = next((view for view in views if view.id == id), None)
    if view is None:
        raise NotFound(MISSING)
    return reader, view, stored.get(id)


async def get(context: Context, request: Request) -> Answer:
    _, view, _ = await _found(context, request)
    _check_bucket(request.caller, view.bucket_id, view.org_id, MISSING, "read")
    return Answer.json({"content": view.json()})


async def patch(context: Context, request: Request) -> Answer:
    document = request.document("invalid json structure: ")
    policy, default = document.text("retention_policy"), document.flag("default")
    reader, view, stored = await _found(context, request)
    _check_bucket(request.caller, view.bucket_id, view.org_id, MISSING, "read", "write")
    if stored is None:
        raise NotFound(MISSING)
    change = Change()
    new = await mappings.update(reader, change, stored, policy, default)
    await mappings.commit(context, change)
    return Answer.json({"content": mappings.view_of(new).json()})


async def delete(context: Context, request: Request) -> Answer:
    reader, view, stored = await _found(context, request)
    _check_bucket(request.caller, view.bucket_id, view.org_id, MISSING, "write")
    if stored is not None:
        change = Change()
        await mappings.remove(reader, change, [stored])
        await grants.end_vanished(reader, change, stored.org_id, [stored.database])
        await mappings.commit(context, change)
    return NO_CONTENT
