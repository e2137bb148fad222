"""The end of an organization with all that is in it.

The first batch takes away the organization, so that nobody finds it and nothing is made in it any more, with as much of
what is in it as a batch holds (buckets and their data first), and leaves a note. What is left is swept after it, at
once or, after a crash, by whichever auth comes to the note; the note goes last. Tokens stay: they see nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from common.errors import InfluxError
from common.log import get_logger
from services.auth.context import Context
from services.auth.entities.assets import Label, LabelMapping, Telegraf, Variable
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.entities.entity import Entity
from services.auth.entities.orgs import Org, OrgRemoval, Secret
from services.auth.entities.users import Member
from services.auth.records.change import Change, Stale
from services.auth.records.reader import PAGE_RECORDS, Reader

log = get_logger("org_removal")
# What is in an organization, and the type under which something may hang on it.
HELD: tuple[tuple[type[Entity], str], ...] = (
    (Bucket, "buckets"), (Telegraf, "telegrafs"), (Variable, "variables"), (Dbrp, ""), (Label, ""), (Secret, ""),
)  # fmt: skip
# Storage takes batches of 10,000 entries; what hangs on one object has at most 2 * PAGE_RECORDS, tags as many again.
FULL_BATCH = 7000
OBJECTS_AT_ONCE = 200
LOOK_EVERY_S, ASK_AGAIN_S = 60.0, 1.0


async def remove(context: Context, reader: Reader, org: Org) -> None:
    """Delete an organization; when this returns nobody finds it. Raises Stale if it was changed meanwhile."""
    change = Change()
    change.delete_once(org)
    change.create(OrgRemoval(id=org.id))
    await _add_some(reader, change, org.id)
    await context.records.change(change)
    try:
        await _sweep(context, org.id)
    except InfluxError as error:
        log.warning("the rest of a deleted organization is swept later", org_id=org.id, reason=str(error))


async def keep_sweeping(context: Context) -> None:
    """Finish what a crash, here or in another auth, has left; for ever."""
    while True:
        try:
            await sweep_all(context)
        except (InfluxError, Stale) as error:
            log.warning("cannot look for organizations that are being deleted", reason=str(error))
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            await asyncio.sleep(LOOK_EVERY_S)


async def sweep_all(context: Context) -> int:
    """Sweep what is left of deleted organizations; returns of how many."""
    notes = await context.records.reader().list_all(OrgRemoval)
    for note in notes:
        await _sweep(context, note.id)
    return len(notes)


async def _sweep(context: Context, org_id: str) -> None:
    """Several may do it at the same time: what one has deleted the other no longer finds, or deletes to no effect."""
    found = True
    while found:
        change = Change()
        found = await _add_some(context.records.reader(), change, org_id)
        if not found:
            change.delete(OrgRemoval(id=org_id))
        await context.records.change(change)


async def _add_some(reader: Reader, change: Change, org_id: str) -> bool:
    """Add to *change* the end of as much as it holds; whether anything was left."""
    before = len(change.deletes)
    for hung in await _hanging(reader, [Member.resource("orgs", org_id)]):
        change.delete(*hung)
    for kind, type in HELD:
        after, page = "", None
        while page is None or len(page) == OBJECTS_AT_ONCE:
            page = await reader.list_all(kind, "org_id", org_id, limit=OBJECTS_AT_ONCE, after=after)
            resources = [Member.resource(type, entity.id) for entity in page] if type else []
            hanging = await _hanging(reader, resources) if type else [[] for _ in page]
            for entity, hung in zip(page, hanging, strict=True):
                if change.size() >= FULL_BATCH:
                    return True
                change.delete(*hung)
                if len(hung) < PAGE_RECORDS:  # else there may be more, which is found by the object alone
                    change.delete(entity)
                    change.drop_buckets += [entity.id] if isinstance(entity, Bucket) else []
            after = page[-1].id if page else ""
    return len(change.deletes) > before


async def _hanging(reader: Reader, resources: Sequence[str]) -> list[list[Entity]]:
    """Memberships and label mappings of each of *resources*, a page of each at most."""
    members = await reader.list_each(Member, "resource", resources)
    labelled = await reader.list_each(LabelMapping, "resource", resources)
    return [[*members[resource], *labelled[resource]] for resource in resources]
