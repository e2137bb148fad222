"""What labels, telegraf configurations and variables have in common: an organization's objects, found by their id."""

from __future__ import annotations

from typing import TypeVar

from common.errors import NotFound
from services.auth.context import Context
from services.auth.entities.assets import Label, Telegraf, Variable
from services.auth.records.reader import Reader
from services.auth.rest.request import Request
from services.auth.security.permissions import check_object

A = TypeVar("A", Label, Telegraf, Variable)


async def find(
    context: Context, request: Request, kind: type[A], type: str, missing: str, *actions: str
) -> tuple[Reader, A]:
    """The object that the path names.

    Args:
        type: the type of resource that permissions name, such as ``labels``.
        missing: what is told where there is none, or none that the caller may know of.

    Raises:
        Invalid: the path holds no id.
        NotFound: with the text *missing*.
        Unauthorized: the caller may not do *actions* on it.
    """
    reader = context.records.reader()
    found = await reader.find(kind, request.id())
    if found is None:
        raise NotFound(missing)
    for action in actions:
        check_object(request.caller, action, type, found.id, found.org_id, NotFound(missing))
    return reader, found
