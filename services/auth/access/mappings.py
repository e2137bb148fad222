"""DBRP mappings: database and retention policy of 1.x → bucket; stored ones, and virtual ones that follow from bucket
names.

A mapping names its bucket's own organization. Source: InfluxDB 2.x, "DBRP mappings".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.errors import Conflict, Invalid
from services.auth.context import Context
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.records.change import Change, KeyTaken, Stale
from services.auth.records.reader import Reader

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


def view_of(stored: Dbrp) -> View:
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
    views = [view_of(mapping) for mapping in stored]
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


async def database_buckets(reader: Reader, org_id: str) -> list[tuple[str, str]]:
    """Database and bucket id of every mapping of the organization, in the order of SHOW DATABASES."""
    stored = await reader.list_all(Dbrp, "org_id", org_id)
    known = await reader.list_all(Bucket, "org_id", org_id)
    return [(view.database, view.bucket_id) for view in with_virtual(stored, known)]


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
