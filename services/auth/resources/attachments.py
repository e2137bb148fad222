"""What hangs on an object: memberships and label mappings; they end with it."""

from __future__ import annotations

from services.auth.entities.assets import LabelMapping
from services.auth.entities.users import Member
from services.auth.records.change import Change
from services.auth.records.reader import Reader


async def end(reader: Reader, change: Change, type: str, id: str) -> None:
    """Add to *change* the end of all that hangs on the object, of a type such as ``buckets``."""
    resource = Member.resource(type, id)
    for kind in (Member, LabelMapping):
        change.delete(*await reader.list_all(kind, "resource", resource))
