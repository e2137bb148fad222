"""Members and owners of organizations, buckets and telegraf configurations.

A user has one part in an object: member or owner. Source: InfluxDB 2.x, "Members and owners".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from common.errors import Invalid, NotFound
from services.auth.context import Context
from services.auth.entities.assets import Telegraf, Variable
from services.auth.entities.buckets import Bucket
from services.auth.entities.entity import Entity
from services.auth.entities.orgs import Org
from services.auth.entities.users import Member, User
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import users
from services.auth.rest import ids
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.permissions import check

CORRUPT = "corrupt ID provided: "
UNREADABLE = "404 page not found"
KINDS: dict[str, type[Entity]] = {"orgs": Org, "buckets": Bucket, "telegrafs": Telegraf, "variables": Variable}
Function = Callable[[Context, Request], Awaitable[Answer]]


async def find_base(context: Context, request: Request, type: str) -> tuple[Reader, str, str]:
    """The object below whose path the call is: a reader, its id and its organization's.

    Raises NotFound for one that does not exist or that the caller may not read.
    """
    id = request.id(prefix=CORRUPT)
    reader = context.records.reader()
    base = await reader.find(KINDS[type], id)
    org_id = base.org_id if isinstance(base, Bucket | Telegraf | Variable) else id
    system = isinstance(base, Bucket) and base.type == "system"
    needed = ("orgs", org_id, None) if type == "orgs" or system else (type, id, org_id)
    if base is None or not request.caller.may("read", *needed):
        raise NotFound(UNREADABLE)
    return reader, id, org_id


def check_change(request: Request, type: str, id: str, org_id: str) -> None:
    """Raises Unauthorized if the caller may not write the object."""
    check(request.caller, "write", type, id, None if type == "orgs" else org_id)


def to_json(user: User, role: str) -> dict[str, Any]:
    return {
        "role": role,
        "links": {"self": f"{users.PATH}/{user.id}"},
        "id": user.id,
        "name": user.name,
        "status": user.status,
    }


def calls(type: str, role: str) -> dict[str, Function]:
    """The three functions of ``/api/v2/<type>/<id>/members`` (or ``owners``)."""

    async def list_(context: Context, request: Request) -> Answer:
        reader, id, org_id = await find_base(context, request, type)
        if not request.caller.may("read", "orgs", org_id):
            raise NotFound("not found")
        members = await reader.list_all(Member, "resource", Member.resource(type, id))
        found = await reader.find_many((User, member.user_id) for member in members if member.role == role)
        shown = [to_json(user, role) for user in found.values() if isinstance(user, User)]
        return Answer.json({"links": {"self": f"/api/v2/{type}/{id}/{role}s"}, "users": shown})

    async def add(context: Context, request: Request) -> Answer:
        document = request.document()
        user_id = document.text("id") or ""
        reader, id, org_id = await find_base(context, request, type)
        check_change(request, type, id, org_id)
        if ids.find_id(user_id) is None:
            raise Invalid("user id missing or invalid")
        user = await users.get(reader, ids.parse_id(user_id))
        change = Change()
        change.require(user)
        change.conditions.append(["exists", KINDS[type].KIND, id])
        change.create(Member(id=context.ids.sortable(), resource_type=type, resource_id=id, user_id=user.id, role=role))
        taken = f"Unexpected error when assigning user to a resource: mapping for user {user.id} already exists"
        await context.records.change(change, taken=taken)
        return Answer.json(to_json(user, role), 201)

    async def remove(context: Context, request: Request) -> Answer:
        reader, id, org_id = await find_base(context, request, type)
        user_id = request.id("user", CORRUPT)
        check_change(request, type, id, org_id)
        member = await reader.find_unique(Member, Member.key(type, id, user_id))
        if member is not None and member.role == role:
            change = Change()
            change.delete_once(member)
            await context.records.change(change)
        return NO_CONTENT

    return {"list": list_, "add": add, "remove": remove}
