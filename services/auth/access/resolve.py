"""Names → buckets, for ingest and query: ``auth.bucket`` and ``auth.mappings``.

No permission is asked here: the caller checks. Refusals were read at storage. Source: InfluxDB 2.x, "Writing"
(resolution) and "DBRP mappings" (virtual ones); docs/rpc.md.
"""

from __future__ import annotations

from typing import Any

from common.errors import Invalid, NotFound
from services.auth.access import mappings
from services.auth.access.caches import Caches, Found
from services.auth.context import Context
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.entities.orgs import Org
from services.auth.records.reader import Reader
from services.auth.rest import ids


class Resolver:
    """Finds buckets and mappings, through the cache."""

    def __init__(self, context: Context, caches: Caches) -> None:
        self._context = context
        self._caches = caches

    async def bucket(self, org: str, org_id: str, bucket: str) -> Found[list[Any]]:
        """The bucket that a client of the v2 API means, as ``Bucket.wire``; a bucket of another organization does not
        exist. Raises Invalid or NotFound with the texts of a v2 write."""
        key = (org, org_id, bucket)
        found = self._caches.buckets.find(key)
        if found is None:
            reader = self._context.records.reader()
            owner = await find_org(reader, org, org_id)
            wanted = await _find_bucket(reader, owner, bucket)
            tags = (*owner.tags(), f"bucket:{wanted.id}", f"name:bucket:{wanted.name}")
            found = Found(wanted.wire(), reader.number, tags)
            self._caches.buckets.put(key, found)
        return found

    async def mappings(self, org_id: str, confirm: bool = False) -> Found[list[Any]]:
        """All mappings of an organization: stored ones by age, then virtual ones by bucket name; *confirm* = read at
        storage. Raises NotFound ``organization not found``."""
        found = None if confirm else self._caches.mappings.find(org_id)
        if found is None:
            reader = self._context.records.reader()
            if not ids.find_id(org_id) or await reader.find(Org, org_id) is None:
                raise NotFound("organization not found")
            stored = await reader.list_all(Dbrp, "org_id", org_id)
            buckets = {bucket.id: bucket for bucket in await reader.list_all(Bucket, "org_id", org_id)}
            rows = [
                [m.database, m.retention_policy, m.default, m.virtual, buckets[m.bucket_id].wire()]
                for m in mappings.with_virtual(stored, buckets.values())
                if m.bucket_id in buckets
            ]
            found = Found(rows, reader.number, (f"org:{org_id}", f"dbrp:{org_id}"))
            self._caches.mappings.put(org_id, found)
        return found


async def find_org(reader: Reader, org: str, org_id: str) -> Org:
    """The organization of the parameters ``orgID`` (wins) and ``org``, a name or an id."""
    if org_id:
        found = await reader.find(Org, ids.parse_id(org_id))
    elif not org:
        raise Invalid("Please provide either orgID or org")
    elif (id := ids.find_id(org)) is not None:
        found = await reader.find(Org, id)
    else:
        found = await reader.find_unique(Org, Org.name_key(org))
        if found is None:
            raise NotFound(f'organization name "{org}" not found')
    if found is None:
        raise NotFound("organization not found")
    return found


async def _find_bucket(reader: Reader, org: Org, text: str) -> Bucket:
    """By id, then by name."""
    if not text:
        raise NotFound("bucket not found")
    id = ids.find_id(text)
    found = await reader.find(Bucket, id) if id else None
    if found is None or found.org_id != org.id:
        found = await reader.find_unique(Bucket, Bucket.name_key(org.id, text))
    if found is None:
        raise NotFound(f'bucket "{text}" not found')
    return found
