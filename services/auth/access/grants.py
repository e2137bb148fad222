"""What GRANT … ON a database gives a 1.x user: the database by its name, with the policies that it gets later.

A grant becomes permissions on buckets when it is asked for. It ends with REVOKE, and with the database: who makes
another one of that name lets nobody in. Source: InfluxQL reference of 1.x, "User management"; docs/decisions/0033.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from common.identity import Permission
from services.auth.access import mappings
from services.auth.entities.authorizations import Legacy
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.records.change import Change
from services.auth.records.reader import Reader


def effective(legacy: Legacy, policies: Iterable[tuple[str, str]]) -> tuple[Permission, ...]:
    """What a 1.x user may do. *policies*: database and bucket id of each policy of its organization."""
    actions: dict[str, list[str]] = {}
    for grant in legacy.grants:
        actions.setdefault(grant.database, []).append(grant.action)
    given = [
        Permission(action, "buckets", bucket_id, legacy.org_id)
        for database, bucket_id in policies
        for action in actions.get(database, ())
    ]
    return tuple(dict.fromkeys((*legacy.permissions, *given)))


async def expanded(reader: Reader, found: Sequence[Legacy]) -> list[Legacy]:
    """1.x users as they are shown: their grants as permissions on the buckets that there are now."""
    policies = {
        org_id: await mappings.database_buckets(reader, org_id)
        for org_id in dict.fromkeys(legacy.org_id for legacy in found if legacy.grants)
    }
    return [
        dataclasses.replace(legacy, permissions=effective(legacy, policies[legacy.org_id])) if legacy.grants else legacy
        for legacy in found
    ]


async def end_vanished(reader: Reader, change: Change, org_id: str, databases: Iterable[str]) -> None:
    """Add to *change* the end of the grants on those of *databases* that have no policy left once it is made."""
    holders = await _holders(reader, org_id, databases)
    if not holders:
        return
    gone = {id for kind, id in change.deletes if kind in (Bucket.KIND, Dbrp.KIND)}
    names = {put["id"]: put["body"]["name"] for put in change.puts if put["kind"] == Bucket.KIND}
    known = [
        dataclasses.replace(bucket, name=names.get(bucket.id, bucket.name))
        for bucket in await reader.list_all(Bucket, "org_id", org_id)
        if bucket.id not in gone
    ]
    stored = [m for m in await reader.list_all(Dbrp, "org_id", org_id) if not {m.id, m.bucket_id} & gone]
    left = {view.database for view in mappings.with_virtual(stored, known)}
    _end(change, holders, {database for database in databases if database not in left})


async def end(reader: Reader, change: Change, org_id: str, database: str) -> None:
    """Add to *change* the end of all grants on a database."""
    _end(change, await _holders(reader, org_id, [database]), {database})


async def _holders(reader: Reader, org_id: str, databases: Iterable[str]) -> dict[str, Legacy]:
    found: dict[str, Legacy] = {}
    for database in databases:
        listed = await reader.list_all(Legacy, "granted", Legacy.granted_key(org_id, database))
        found |= {legacy.id: legacy for legacy in listed}
    return found


def _end(change: Change, holders: dict[str, Legacy], databases: set[str]) -> None:
    for legacy in holders.values():
        left = tuple(grant for grant in legacy.grants if grant.database not in databases)
        if left != legacy.grants:
            change.replace(legacy, dataclasses.replace(legacy, grants=left))
