"""DBRP mappings: database and retention policy of 1.x → bucket; stored ones, and virtual ones that follow from bucket
names.

Permissions are those of the bucket. A mapping names its bucket's own organization. Source: InfluxDB 2.x, "DBRP
mappings".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.errors import Conflict, Invalid, NotFound
from common.identity import Identity
from services.auth import ids, orgs
from services.auth.context import Context
from services.auth.entities import Bucket, Dbrp, Org
from services.auth.permissions import check_object
from services.auth.records import Change, KeyTaken, Reader, Stale
from services.auth.request import BOOLEANS, NO_CONTENT, Answer, Request

MISSING = "unable to find DBRP"
NO_ORG = "either 'org' or 'orgID' must be provided"
TAKEN = "another DBRP mapping with same orgID, db, and rp exists"
AUTOGEN = "autogen"


@dataclass(frozen=True, slots=True)
class View:
    """A mapping as it is shown; a virtual one has its bucket's id."""

    id: str
    org_id: str
    bucket_id: str
    database: str
    retention_policy: str
    default: bool
    virtual: bool

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "database": self.database,
            "retention_policy": self.retention_policy,
            "default": self.default,
            "virtual": self.virtual,
            "orgID": self.org_id,
            "bucketID": self.bucket_id,
        }


def _view(stored: Dbrp) -> View:
    return View(
        stored.id, stored.org_id, stored.bucket_id, stored.database, stored.retention_policy, stored.default, False
    )


def virtual_names(bucket_name: str) -> tuple[str, str, bool]:
    """Database, retention policy and whether it is the default, for a bucket without a stored mapping."""
    database, slash, policy = bucket_name.partition("/")
    return (database, policy, False) if slash else (bucket_name, AUTOGEN, True)


def with_virtual(stored: Iterable[Dbrp], buckets: Iterable[Bucket]) -> list[View]:
    """Stored mappings by age, then virtual ones by bucket name.

    A stored mapping of the same database and policy hides a virtual one; a stored default makes it no default.
    """
    views = [_view(mapping) for mapping in stored]
    names = {(view.database, view.retention_policy) for view in views}
    defaults = {view.database for view in views if view.default}
    for bucket in sorted(buckets, key=lambda bucket: bucket.name.encode("utf-8", "surrogateescape")):
        database, policy, default = virtual_names(bucket.name)
        if (database, policy) not in names:
            default = default and database not in defaults
            views.append(View(bucket.id, bucket.org_id, bucket.id, database, policy, default, True))
    return views


def check_name(name: str, what: str) -> None:
    """Raises Invalid for what can't be a database or retention policy."""
    if not name or not name.isprintable() or "/" in name or "\\" in name or name in (".", ".."):
        raise Invalid(
            f"DBRP provided is invalid: {what} must contain at least one character and only be letters, numbers, "
            "'_', '-', and '.'"
        )


# ---------------------------------------------------------------- rules


async def of_database(reader: Reader, org_id: str, database: str) -> list[Dbrp]:
    """Stored mappings of a database, oldest first."""
    return [m for m in await reader.list_all(Dbrp, "org_id", org_id) if m.database == database]


async def add(
    context: Context, reader: Reader, change: Change, bucket: Bucket, database: str, policy: str, default: bool
) -> Dbrp:
    """Add to *change* a new mapping; the first one of a database is its default whatever is asked."""
    siblings = await of_database(reader, bucket.org_id, database)
    if any(sibling.retention_policy == policy for sibling in siblings):
        raise Conflict(TAKEN)
    holder = next((sibling for sibling in siblings if sibling.default), None)
    if holder is not None and default:
        change.replace(holder, dataclasses.replace(holder, default=False))
    mapping = Dbrp(
        id=context.ids.sortable(), org_id=bucket.org_id, bucket_id=bucket.id, database=database,
        retention_policy=policy, default=default or holder is None,
    )  # fmt: skip
    change.require(bucket)
    change.create(mapping)
    return mapping


async def remove(reader: Reader, change: Change, mappings: Iterable[Dbrp]) -> None:
    """Add to *change* the end of *mappings* of one organization; a default goes on to the oldest that is left."""
    gone = {mapping.id: mapping for mapping in mappings}
    for mapping in gone.values():
        change.delete_once(mapping)
    for mapping in gone.values():
        if mapping.default:
            siblings = await of_database(reader, mapping.org_id, mapping.database)
            heir = next((sibling for sibling in siblings if sibling.id not in gone), None)
            if heir is not None:
                change.replace(heir, dataclasses.replace(heir, default=True))


async def update(reader: Reader, change: Change, mapping: Dbrp, policy: str | None, default: bool | None) -> Dbrp:
    """Add to *change* another policy name, or the default taken over or handed on."""
    policy = mapping.retention_policy if policy is None else policy
    check_name(policy, "retentionPolicy")
    siblings = [m for m in await of_database(reader, mapping.org_id, mapping.database) if m.id != mapping.id]
    if any(sibling.retention_policy == policy for sibling in siblings):
        raise Conflict(TAKEN)
    default = mapping.default if default is None else default
    if mapping.default and not default:
        default = not siblings
    new = dataclasses.replace(mapping, retention_policy=policy, default=default)
    # The one that loses the default is put first: the key of the default is free for the other then.
    if new.default and not mapping.default:
        for holder in (sibling for sibling in siblings if sibling.default):
            change.replace(holder, dataclasses.replace(holder, default=False))
    change.replace(mapping, new)
    if mapping.default and not new.default:
        change.replace(siblings[0], dataclasses.replace(siblings[0], default=True))
    return new


async def commit(context: Context, change: Change) -> None:
    """Make a change of mappings. Raises Conflict if the names are taken, Stale if only the default is."""
    try:
        await context.records.change(change)
    except KeyTaken as taken:
        if taken.key.startswith("dbrp-default:"):
            raise Stale("another default was set at the same moment") from None
        raise Conflict(TAKEN) from None


# ---------------------------------------------------------------- calls


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


async def _views(reader: Reader, org_id: str) -> tuple[list[View], dict[str, Dbrp]]:
    stored = await reader.list_all(Dbrp, "org_id", org_id)
    buckets = await reader.list_all(Bucket, "org_id", org_id)
    return with_virtual(stored, buckets), {mapping.id: mapping for mapping in stored}


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
    check_name(database, "database")
    check_name(policy, "retentionPolicy")
    bucket = await reader.find(Bucket, bucket_id)
    if bucket is None or bucket.org_id != org_id:
        raise NotFound("bucket not found")
    _check_bucket(request.caller, bucket.id, org_id, "bucket not found", "read", "write")
    change = Change()
    mapping = await add(context, reader, change, bucket, database, policy, default)
    await commit(context, change)
    return Answer.json(_view(mapping).json(), 201)


def _check_bucket(caller: Identity, bucket_id: str, org_id: str, missing: str, *actions: str) -> None:
    for action in actions:
        check_object(caller, action, "buckets", bucket_id, org_id, NotFound(missing))


async def _found(context: Context, request: Request) -> tuple[Reader, View, Dbrp | None]:
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
    new = await update(reader, change, stored, policy, default)
    await commit(context, change)
    return Answer.json({"content": _view(new).json()})


async def delete(context: Context, request: Request) -> Answer:
    reader, view, stored = await _found(context, request)
    _check_bucket(request.caller, view.bucket_id, view.org_id, MISSING, "write")
    if stored is not None:
        change = Change()
        await remove(reader, change, [stored])
        await commit(context, change)
    return NO_CONTENT
