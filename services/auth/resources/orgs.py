"""Organizations. Source: InfluxDB 2.x, "Organizations"."""

from __future__ import annotations

from typing import Any

from common.errors import Invalid, NotFound
from common.identity import Identity
from services.auth.context import Context
from services.auth.entities.orgs import Org
from services.auth.entities.users import OWNER, Member
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import bucket_rules, org_removal
from services.auth.rest import ids
from services.auth.rest.jsonlayout import format_time
from services.auth.rest.paging import Page, escape_query
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.permissions import check, check_object, has_part_in

PATH = "/api/v2/orgs"
MISSING = "organization not found"
DECODE = "failed to unmarshal json: "


async def get(reader: Reader, id: str) -> Org:
    """The organization. Raises NotFound."""
    org = await reader.find(Org, id)
    if org is None:
        raise NotFound(MISSING)
    return org


async def get_by_name(reader: Reader, caller: Identity, name: str) -> Org:
    """The organization of that name, if *caller* has a part in it. Raises NotFound in the words of a filter."""
    org = await reader.find_unique(Org, Org.name_key(name))
    if org is None or hidden_from(caller, org.id):
        raise NotFound(f'organization name "{name}" not found')
    return org


async def find_filter(reader: Reader, request: Request) -> str:
    """The organization that ``orgID`` or ``org`` limits a list to, empty = none. Raises Invalid, NotFound."""
    id, name = request.arg_id("orgID"), request.arg("org")
    return (await get_by_name(reader, request.caller, name)).id if name and not id else id


def hidden_from(caller: Identity, org_id: str) -> bool:
    """Whether the organization is to be as if it did not exist."""
    return not caller.may("read", "orgs", org_id) and not has_part_in(caller, org_id)


def to_json(org: Org) -> dict[str, Any]:
    path, query = f"{PATH}/{org.id}", f"?org={escape_query(org.name)}"
    return {
        "links": {
            "buckets": f"/api/v2/buckets{query}",
            "dashboards": f"/api/v2/dashboards{query}",
            "labels": f"{path}/labels",
            "logs": f"{path}/logs",
            "members": f"{path}/members",
            "owners": f"{path}/owners",
            "secrets": f"{path}/secrets",
            "self": path,
            "tasks": f"/api/v2/tasks{query}",
        },
        "id": org.id,
        "name": org.name,
        "description": org.description,
        "createdAt": format_time(org.created_ns),
        "updatedAt": format_time(org.updated_ns),
    }


# ---------------------------------------------------------------- rules


def check_name(name: str) -> None:
    """Raises Invalid for an empty name and one of blanks."""
    if not name.strip():
        raise Invalid("org name is empty")


def add(context: Context, change: Change, name: str, description: str, owner_id: str) -> Org:
    """Add to *change* an organization with its owner and its system buckets."""
    now_ns = context.now_ns()
    org = Org(id=context.ids.random(), name=name, description=description, created_ns=now_ns, updated_ns=now_ns)
    owner = Member(id=context.ids.sortable(), resource_type="orgs", resource_id=org.id, user_id=owner_id, role=OWNER)
    change.create(org, owner, *bucket_rules.system_buckets(context, org.id))
    return org


async def commit(context: Context, change: Change, name: str) -> None:
    """Make a change of organizations. Raises Conflict if *name* is taken."""
    await context.records.change(change, taken=f"organization with name {name} already exists")


# ---------------------------------------------------------------- calls


async def list_(context: Context, request: Request) -> Answer:
    page = Page.of(request)
    reader = context.records.reader()
    name, given_id, user_id = request.arg("org"), request.arg("orgID"), request.arg("userID")
    id = ids.find_id(given_id)  # a malformed one is ignored, as there
    if id:
        found = [await get(reader, id)]
        if hidden_from(request.caller, id):
            raise NotFound(MISSING)
    elif name:
        found = [await get_by_name(reader, request.caller, name)]
    elif user_id:
        members = await reader.list_all(Member, "user_id", request.arg_id("userID"))
        found = await _find_page(reader, {m.resource_id for m in members if m.resource_type == "orgs"}, page)
    elif request.caller.may("read", "orgs"):
        found = (await reader.list_all(Org, limit=page.offset + page.limit))[page.offset :]
    else:
        found = await _list_own(reader, request.caller, page)
    shown = [to_json(org) for org in found if request.caller.may("read", "orgs", org.id)]
    return Answer.json({"links": {"self": PATH}, "orgs": shown})


async def _list_own(reader: Reader, caller: Identity, page: Page) -> list[Org]:
    """The organizations that *caller*'s permissions name. Cutting the page of all of them first would leave nothing
    of it where others have made theirs before, and the list has no link to a next page."""
    named = {p.id for p in caller.permissions if p.type == "orgs" and p.id is not None}
    return await _find_page(reader, {id for id in named if caller.may("read", "orgs", id)}, page)


async def _find_page(reader: Reader, wanted: set[str], page: Page) -> list[Org]:
    many = await reader.find_many((Org, id) for id in wanted)
    found = sorted((org for org in many.values() if isinstance(org, Org)), key=lambda org: org.id)
    return found[page.offset : page.offset + page.limit]


async def create(context: Context, request: Request) -> Answer:
    document = request.document(DECODE)
    name, description = document.text("name") or "", document.text("description") or ""
    check_name(name)
    check(request.caller, "write", "orgs")
    change = Change()
    org = add(context, change, name, description, request.caller.user_id)
    await commit(context, change, name)
    return Answer.json(to_json(org), 201)


async def _found(context: Context, request: Request, action: str, missing: str = MISSING) -> tuple[Reader, Org]:
    reader = context.records.reader()
    id = request.id()
    org = await reader.find(Org, id)
    if org is None:
        raise NotFound(missing)
    check_object(request.caller, action, "orgs", id, id, NotFound(missing))
    return reader, org


async def get_one(context: Context, request: Request) -> Answer:
    _, org = await _found(context, request, "read")
    return Answer.json(to_json(org))


async def patch(context: Context, request: Request) -> Answer:
    request.id()  # a bad one is told before a bad body
    document = request.document(DECODE)
    name, description = document.text("name"), document.text("description")
    _, org = await _found(context, request, "write")
    if name is not None and not name:
        raise Invalid("org name is empty")
    new = org.changed(name=name, description=description, updated_ns=context.now_ns())
    change = Change()
    change.replace(org, new)
    await commit(context, change, new.name)
    return Answer.json(to_json(new))


async def delete(context: Context, request: Request) -> Answer:
    missing = f"error deleting organization id: {request.id()}: {MISSING}"
    reader, org = await _found(context, request, "write", missing)
    await org_removal.remove(context, reader, org)
    return NO_CONTENT
