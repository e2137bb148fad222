"""1.x databases and retention policies, made of v2 buckets and mappings.

A policy is a bucket ``database/policy`` with a stored mapping. What a bucket's own name makes a database of (a virtual
mapping) counts as one here too. Source: InfluxQL reference of 1.x, "Database management"; decisions 14 and 16.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NoReturn

from common.errors import Conflict, Forbidden, Invalid
from common.identity import Identity, Permission
from services.auth import buckets, dbrp, orgs
from services.auth.context import Context
from services.auth.entities import SECOND_NS, Bucket, Dbrp, LabelMapping, Member
from services.auth.records import Change, Reader
from services.auth.statements import AlterPolicy, CreateDatabase, CreatePolicy, DropDatabase, DropPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """A retention policy of a database: its bucket, and its mapping if that one is stored."""

    name: str
    default: bool
    bucket: Bucket
    stored: Dbrp | None


def need(identity: Identity, action: str, type: str, id: str | None, org_id: str | None) -> None:
    """Raises Forbidden: in a statement it fails that statement alone, as ``insufficient permissions`` of DELETE."""
    if not identity.may(action, type, id, org_id):
        raise Forbidden(f"insufficient permissions: {Permission(action, type, id, org_id)} is needed")


async def policies(reader: Reader, org_id: str, database: str) -> list[Policy]:
    """The policies of a database, stored ones by age, then virtual ones; none = there is no such database."""
    stored = {mapping.id: mapping for mapping in await reader.list_all(Dbrp, "org_id", org_id)}
    known = {bucket.id: bucket for bucket in await reader.list_all(Bucket, "org_id", org_id)}
    return [
        Policy(view.retention_policy, view.default, known[view.bucket_id], stored.get(view.id))
        for view in dbrp.with_virtual(stored.values(), known.values())
        if view.database == database and view.bucket_id in known
    ]


async def database_buckets(reader: Reader, org_id: str) -> list[tuple[str, str]]:
    """Database and bucket id of every mapping of the organization, in the order of SHOW DATABASES."""
    stored = await reader.list_all(Dbrp, "org_id", org_id)
    known = await reader.list_all(Bucket, "org_id", org_id)
    return [(view.database, view.bucket_id) for view in dbrp.with_virtual(stored, known)]


async def visible(reader: Reader, identity: Identity, org_id: str, database: str) -> list[Policy]:
    """The policies of a database whose bucket the caller may read or write. Raises Invalid: none."""
    found = [p for p in await policies(reader, org_id, database) if _sees(identity, p.bucket)]
    if not found:
        raise Invalid(f"database not found: {database}")
    return found


def _sees(identity: Identity, bucket: Bucket) -> bool:
    return any(identity.may(action, "buckets", bucket.id, bucket.org_id) for action in ("read", "write"))


def _seconds(duration_ns: int | None) -> int | None:
    """Whole seconds, rounded up: what is shorter than one must not become "for ever"."""
    return None if duration_ns is None else -(-duration_ns // SECOND_NS)


def _check_names(database: str, policy: str) -> None:
    dbrp.check_name(database, "database")
    dbrp.check_name(policy, "retentionPolicy")
    buckets.check_name(f"{database}/{policy}")


def _add_policy(
    context: Context, change: Change, org_id: str, database: str, policy: str, siblings: list[Policy], *,
    default: bool, retention_s: int, shard_s: int,
) -> None:  # fmt: skip
    """Add a new bucket and its mapping to *change*; the default stays with its holder or moves, as asked."""
    bucket = buckets.make(context, org_id, f"{database}/{policy}", retention_s, shard_s)
    change.create(bucket)
    if default:
        _give_up_default(change, siblings)
    else:
        _keep_default(context, change, database, siblings)
    _map(context, change, bucket, database, policy, default or not any(sibling.default for sibling in siblings))


def _give_up_default(change: Change, siblings: list[Policy]) -> None:
    for sibling in siblings:
        if sibling.stored is not None and sibling.stored.default:
            change.replace(sibling.stored, dataclasses.replace(sibling.stored, default=False))


def _keep_default(context: Context, change: Change, database: str, siblings: list[Policy]) -> None:
    """Store a virtual default before a stored mapping comes beside it: that one would take its place later."""
    if not any(sibling.stored is not None and sibling.stored.default for sibling in siblings):
        for sibling in siblings:
            if sibling.default and sibling.stored is None:
                _map(context, change, sibling.bucket, database, sibling.name, True)
                change.require(sibling.bucket)


def _map(context: Context, change: Change, bucket: Bucket, database: str, policy: str, default: bool) -> None:
    change.create(
        Dbrp(
            id=context.ids.sortable(), org_id=bucket.org_id, bucket_id=bucket.id, database=database,
            retention_policy=policy, default=default,
        )
    )  # fmt: skip


# ---------------------------------------------------------------- statements


async def create_database(context: Context, identity: Identity, org_id: str, statement: CreateDatabase) -> None:
    """A database that is there already is fine, unless it is asked for with another policy."""
    reader = context.records.reader()
    need(identity, "write", "buckets", None, org_id)
    name = statement.policy or dbrp.AUTOGEN
    found = await policies(reader, org_id, statement.name)
    if found:
        if statement.checked:
            _check_same(found, statement)
        return
    _check_names(statement.name, name)
    change = Change()
    change.require(await orgs.get(reader, org_id))
    _add_policy(
        context, change, org_id, statement.name, name, [], default=True,
        retention_s=_seconds(statement.duration_ns) or 0, shard_s=_seconds(statement.shard_ns) or 0,
    )  # fmt: skip
    await dbrp.commit(context, change)


def _check_same(found: list[Policy], statement: CreateDatabase) -> None:
    default = next((policy for policy in found if policy.default), None)
    if (
        default is None
        or default.name != (statement.policy or dbrp.AUTOGEN)
        or not _is_as(default.bucket, _seconds(statement.duration_ns) or 0, _seconds(statement.shard_ns))
    ):
        raise Conflict("retention policy conflicts with an existing policy")


def _is_as(bucket: Bucket, retention_s: int, shard_s: int | None) -> bool:
    shard_s = buckets.check_retention(retention_s, shard_s or 0)
    return (bucket.retention_ns, bucket.shard_ns) == (retention_s * SECOND_NS, shard_s * SECOND_NS)


async def drop_database(context: Context, identity: Identity, org_id: str, statement: DropDatabase) -> None:
    """Without such a database nothing is done, as in 1.x."""
    reader = context.records.reader()
    found = await policies(reader, org_id, statement.name)
    for policy in found:
        need(identity, "write", "buckets", policy.bucket.id, org_id)
    await _drop(context, reader, statement.name, found)


async def _drop(context: Context, reader: Reader, database: str, dropped: list[Policy]) -> None:
    """End policies with their data, in one batch. A bucket that another database names too stays, with its data."""
    change = Change()
    ended = [policy.stored for policy in dropped if policy.stored is not None]
    for policy in dropped:
        mappings = await reader.list_all(Dbrp, "bucket_id", policy.bucket.id)
        own = dbrp.virtual_names(policy.bucket.name)[0]
        if own == database and all(mapping.database == database for mapping in mappings):
            if policy.bucket.type == "system":
                raise Invalid("system buckets cannot be deleted")
            if policy.bucket.id not in change.drop_buckets:
                await _end_bucket(reader, change, policy.bucket)
            ended += mappings
    await dbrp.remove(reader, change, ended)
    if change.deletes:
        await dbrp.commit(context, change)


async def _end_bucket(reader: Reader, change: Change, bucket: Bucket) -> None:
    change.delete_once(bucket)
    resource = Member.resource("buckets", bucket.id)
    change.delete(*await reader.list_all(Member, "resource", resource))
    change.delete(*await reader.list_all(LabelMapping, "resource", resource))
    change.drop_buckets.append(bucket.id)


async def create_policy(context: Context, identity: Identity, org_id: str, statement: CreatePolicy) -> None:
    reader = context.records.reader()
    need(identity, "write", "buckets", None, org_id)
    siblings = await policies(reader, org_id, statement.database)
    if not siblings:
        raise Invalid(f"database not found: {statement.database}")
    retention_s, shard_s = _seconds(statement.duration_ns) or 0, _seconds(statement.shard_ns)
    same = next((policy for policy in siblings if policy.name == statement.name), None)
    if same is not None:
        if not _is_as(same.bucket, retention_s, shard_s) or (statement.default and not same.default):
            raise Conflict("retention policy already exists")
        return
    _check_names(statement.database, statement.name)
    change = Change()
    change.require(await orgs.get(reader, org_id))
    _add_policy(
        context, change, org_id, statement.database, statement.name, siblings,
        default=statement.default, retention_s=retention_s, shard_s=shard_s or 0,
    )  # fmt: skip
    await dbrp.commit(context, change)


async def alter_policy(context: Context, identity: Identity, org_id: str, statement: AlterPolicy) -> None:
    reader = context.records.reader()
    siblings = await visible(reader, identity, org_id, statement.database)
    policy = next((policy for policy in siblings if policy.name == statement.name), None)
    if policy is None:
        _no_policy(statement.name)
    bucket = policy.bucket
    need(identity, "write", "buckets", bucket.id, org_id)
    retention_ns, shard_ns = _altered(bucket, statement)
    change = Change()
    if (retention_ns, shard_ns) != (bucket.retention_ns, bucket.shard_ns):
        now_ns = context.now_ns()
        change.replace(
            bucket, dataclasses.replace(bucket, retention_ns=retention_ns, shard_ns=shard_ns, updated_ns=now_ns)
        )
    if statement.default and not policy.default:
        everyone = await policies(reader, org_id, statement.database)
        _give_up_default(change, everyone)
        if policy.stored is not None:
            change.replace(policy.stored, dataclasses.replace(policy.stored, default=True))
        else:
            change.require(bucket)
            _map(context, change, bucket, statement.database, statement.name, True)
    if change.puts:
        await dbrp.commit(context, change)


def _no_policy(name: str) -> NoReturn:
    raise Invalid(f"retention policy not found: {name}")


def _altered(bucket: Bucket, statement: AlterPolicy) -> tuple[int, int]:
    """As 1.x: a new duration without a shard duration leaves the shards' as it is, and is refused if it is shorter."""
    if bucket.type == "system":
        raise Invalid("system buckets cannot be changed")
    return buckets.changed_retention(bucket, _seconds(statement.duration_ns), _seconds(statement.shard_ns))


async def drop_policy(context: Context, identity: Identity, org_id: str, statement: DropPolicy) -> None:
    """Without such a database or policy nothing is done, as in 1.x."""
    reader = context.records.reader()
    found = [p for p in await policies(reader, org_id, statement.database) if p.name == statement.name]
    for policy in found:
        need(identity, "write", "buckets", policy.bucket.id, org_id)
    await _drop(context, reader, statement.database, found)
