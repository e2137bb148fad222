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
from services.auth.access import grants, mappings
from services.auth.context import Context
from services.auth.entities.buckets import SECOND_NS, Bucket, Dbrp
from services.auth.records.change import Change, KeyTaken, Stale
from services.auth.records.reader import Reader
from services.auth.resources import bucket_rules, orgs
from services.auth.v1.statements import AlterPolicy, CreateDatabase, CreatePolicy, DropDatabase, DropPolicy


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
        for view in mappings.with_virtual(stored.values(), known.values())
        if view.database == database and view.bucket_id in known
    ]


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


def check_names(database: str, policy: str = mappings.AUTOGEN) -> None:
    """Raises Invalid for what can't be a database with that policy."""
    mappings.check_name(database, "database")
    mappings.check_name(policy, "retentionPolicy")
    bucket_rules.check_name(f"{database}/{policy}")


def _add_policy(
    context: Context, change: Change, org_id: str, database: str, policy: str, siblings: list[Policy], *,
    default: bool, retention_s: int, shard_s: int,
) -> None:  # fmt: skip
    """Add a new bucket and its mapping to *change*; the default stays with its holder or moves, as asked."""
    bucket = bucket_rules.make(context, org_id, f"{database}/{policy}", retention_s, shard_s)
    change.create(bucket)
    if default:
        _give_up_default(change, siblings)
    else:
        _keep_default(context, change, database, siblings)
    _map(context, change, bucket, database, policy, default or not any(sibling.default for sibling in siblings))


def add_database(
    context: Context, change: Change, org_id: str, database: str, policy: str = mappings.AUTOGEN,
    retention_s: int = 0, shard_s: int = 0,
) -> None:  # fmt: skip
    """Add to *change* a database that is not there yet, with its first policy. Raises Invalid, Unprocessable."""
    check_names(database, policy)
    _add_policy(
        context, change, org_id, database, policy, [], default=True, retention_s=retention_s, shard_s=shard_s
    )  # fmt: skip


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


async def _commit(context: Context, change: Change) -> None:
    """Make the change. Raises Stale: another one made the same at this moment, which decides it anew."""
    try:
        await context.records.change(change)
    except KeyTaken as taken:
        raise Stale(f"{taken.key.partition(':')[0]} was taken at this moment") from None


# ---------------------------------------------------------------- statements


async def create_database(context: Context, identity: Identity, org_id: str, statement: CreateDatabase) -> None:
    """A database that is there already is fine, unless it is asked for with another policy."""
    reader = context.records.reader()
    need(identity, "write", "buckets", None, org_id)
    name = statement.policy or mappings.AUTOGEN
    found = await policies(reader, org_id, statement.name)
    if found:
        if statement.checked:
            _check_same(found, statement)
        return
    change = Change()
    change.require(await orgs.get(reader, org_id))
    retention_s, shard_s = _seconds(statement.duration_ns) or 0, _seconds(statement.shard_ns) or 0
    add_database(context, change, org_id, statement.name, name, retention_s, shard_s)
    await _commit(context, change)


def _check_same(found: list[Policy], statement: CreateDatabase) -> None:
    default = next((policy for policy in found if policy.default), None)
    if (
        default is None
        or default.name != (statement.policy or mappings.AUTOGEN)
        or not _is_as(default.bucket, _seconds(statement.duration_ns) or 0, _seconds(statement.shard_ns))
    ):
        raise Conflict("retention policy conflicts with an existing policy")


def _is_as(bucket: Bucket, retention_s: int, shard_s: int | None) -> bool:
    shard_s = bucket_rules.check_retention(retention_s, shard_s or 0)
    return (bucket.retention_ns, bucket.shard_ns) == (retention_s * SECOND_NS, shard_s * SECOND_NS)


async def drop_database(context: Context, identity: Identity, org_id: str, statement: DropDatabase) -> None:
    """Without such a database nothing is done, as in 1.x."""
    reader = context.records.reader()
    found = await policies(reader, org_id, statement.name)
    for policy in found:
        need(identity, "write", "buckets", policy.bucket.id, org_id)
    change = Change()
    await _drop(context, reader, change, statement.name, found)
    await grants.end(reader, change, org_id, statement.name)
    if not change.is_empty():
        await _commit(context, change)


async def _drop(context: Context, reader: Reader, change: Change, database: str, dropped: list[Policy]) -> None:
    """Add to *change* the end of policies with their data; a bucket that has another name stays under that one."""
    names = {(database, policy.name) for policy in dropped}
    ended = []
    for bucket in {policy.bucket.id: policy.bucket for policy in dropped}.values():
        mapped = [(m.database, m.retention_policy) for m in await reader.list_all(Dbrp, "bucket_id", bucket.id)]
        others = [name for name in mapped if name not in names]
        if mappings.virtual_names(bucket.name)[:2] in names:
            if others:
                await _rename(context, reader, change, bucket, "/".join(others[0]))
            else:
                ended.append(bucket)
    await bucket_rules.end(reader, change, ended, [policy.stored for policy in dropped if policy.stored is not None])


async def _rename(context: Context, reader: Reader, change: Change, bucket: Bucket, name: str) -> None:
    """Call a bucket after the policy that it still is: its old name would make a database of it for ever."""
    if bucket.type == "system":
        raise Invalid("system buckets cannot be renamed")
    if await reader.find_unique(Bucket, Bucket.name_key(bucket.org_id, name)) is not None:
        raise Conflict(f"bucket {bucket.name} is {name} too, which is also the name of another bucket: rename one")
    change.replace(bucket, dataclasses.replace(bucket, name=name, updated_ns=context.now_ns()))


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
    check_names(statement.database, statement.name)
    change = Change()
    change.require(await orgs.get(reader, org_id))
    _add_policy(
        context, change, org_id, statement.database, statement.name, siblings,
        default=statement.default, retention_s=retention_s, shard_s=shard_s or 0,
    )  # fmt: skip
    await _commit(context, change)


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
        await _commit(context, change)


def _no_policy(name: str) -> NoReturn:
    raise Invalid(f"retention policy not found: {name}")


def _altered(bucket: Bucket, statement: AlterPolicy) -> tuple[int, int]:
    """As 1.x: a new duration without a shard duration leaves the shards' as it is, and is refused if it is shorter."""
    if bucket.type == "system":
        raise Invalid("system buckets cannot be changed")
    return bucket_rules.changed_retention(bucket, _seconds(statement.duration_ns), _seconds(statement.shard_ns))


async def drop_policy(context: Context, identity: Identity, org_id: str, statement: DropPolicy) -> None:
    """Without such a database or policy nothing is done, as in 1.x."""
    reader = context.records.reader()
    found = [p for p in await policies(reader, org_id, statement.database) if p.name == statement.name]
    for policy in found:
        need(identity, "write", "buckets", policy.bucket.id, org_id)
    change = Change()
    await _drop(context, reader, change, statement.database, found)
    await grants.end_vanished(reader, change, org_id, [statement.database])
    if not change.is_empty():
        await _commit(context, change)
