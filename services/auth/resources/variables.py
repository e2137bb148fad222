"""Variables of dashboards: stored and listed. Source: InfluxDB 2.x, "Variables"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import Invalid
from services.auth.context import Context
from services.auth.entities.assets import Variable
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import assets, attachments, labels, orgs
from services.auth.rest.document import Document
from services.auth.rest.jsonlayout import COMPACT, format_time
from services.auth.rest.paging import Page
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.permissions import check

PATH = "/api/v2/variables"
ARGUMENTS = {"constant": list, "map": dict, "query": dict}


def to_json(variable: Variable, attached: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    path = f"{PATH}/{variable.id}"
    return {
        "id": variable.id,
        "orgID": variable.org_id,
        "name": variable.name,
        "description": variable.description,
        "selected": None if variable.selected is None else list(variable.selected),
        "arguments": dict(variable.arguments),
        "createdAt": format_time(variable.created_ns),
        "updatedAt": format_time(variable.updated_ns),
        "labels": list(attached),
        "links": {"self": path, "labels": f"{path}/labels", "org": f"{orgs.PATH}/{variable.org_id}"},
    }


async def _answer(reader: Reader, variable: Variable, status: int = 200) -> Answer:
    (shown,) = await labels.show(reader, "variables", [variable], to_json)
    return Answer.json(shown, status, COMPACT)


def _arguments(document: Document) -> Mapping[str, Any] | None:
    """The arguments of a body, None = none given. Raises Invalid."""
    if "arguments" not in document:
        return None
    arguments = document.document("arguments")
    type = arguments.text("type") or ""
    values = arguments.value("values")
    if type not in ARGUMENTS:
        raise Invalid(f"unknown VariableArguments type {type}")
    texts = values.values() if isinstance(values, dict) else values
    if values is not None and not (isinstance(values, ARGUMENTS[type]) and all(isinstance(t, str) for t in texts)):
        raise Invalid(f"error parsing values as VariableArguments of type {type}")
    return {"type": type, "values": values}


def _selected(document: Document) -> tuple[str, ...] | None:
    selected = document.texts("selected")
    return None if selected is None else tuple(selected)


async def _commit(context: Context, change: Change, variable: Variable) -> None:
    await context.records.change(change, taken=f"variable is not unique for key {variable.org_id}{variable.name}")


async def list_(context: Context, request: Request) -> Answer:
    page = Page.of(request)
    reader = context.records.reader()
    org_id = await orgs.find_filter(reader, request)
    found = await (reader.list_all(Variable, "org_id", org_id) if org_id else reader.list_all(Variable))
    if page.descending:
        found.reverse()
    if page.after:
        found = [v for v in found if (v.id < page.after if page.descending else v.id > page.after)]
    cut = found[page.offset : page.offset + page.limit]
    readable = [v for v in cut if request.caller.may("read", "variables", v.id, v.org_id)]
    shown = await labels.show(reader, "variables", readable, to_json)
    filters = {"org": request.arg("org"), "orgID": request.arg("orgID")}
    return Answer.json({"variables": shown, "links": page.links(PATH, filters, len(cut))}, layout=COMPACT)


async def create(context: Context, request: Request) -> Answer:
    document = request.document()
    org_id, name = document.id("orgID"), (document.text("name") or "").strip()
    description, selected = document.text("description") or "", _selected(document)
    if not name:
        raise Invalid("missing variable name")
    arguments = _arguments(document)
    if arguments is None:
        raise Invalid("missing variable arguments")
    if org_id is None:
        raise Invalid("organization id must be provided")
    check(request.caller, "write", "variables", None, org_id)
    reader = context.records.reader()
    org = await orgs.get(reader, org_id)
    now_ns = context.now_ns()
    variable = Variable(
        id=context.ids.sortable(), org_id=org_id, name=name, description=description, selected=selected,
        arguments=arguments, created_ns=now_ns, updated_ns=now_ns,
    )  # fmt: skip
    change = Change()
    change.require(org)
    change.create(variable)
    await _commit(context, change, variable)
    return await _answer(reader, variable, 201)


async def _found(context: Context, request: Request, *actions: str) -> tuple[Reader, Variable]:
    missing = f'variable not found for key "{request.id()}"'
    return await assets.find(context, request, Variable, "variables", missing, *actions)


async def get_one(context: Context, request: Request) -> Answer:
    return await _answer(*await _found(context, request, "read"))


async def patch(context: Context, request: Request) -> Answer:
    """PATCH and PUT: what is given replaces what is there."""
    request.id()  # a bad one is told before a bad body
    document = request.document()
    name, description, selected = document.text("name"), document.text("description"), _selected(document)
    arguments = _arguments(document)
    reader, old = await _found(context, request, "read", "write")
    if request.method == "PUT" and not name:
        raise Invalid("missing variable name")
    new = old.changed(
        name=(name or "").strip() or None,
        description=description,
        selected=selected,
        arguments=arguments,
        updated_ns=context.now_ns(),
    )
    change = Change()
    change.replace(old, new)
    await _commit(context, change, new)
    return await _answer(reader, new)


async def delete(context: Context, request: Request) -> Answer:
    reader, variable = await _found(context, request, "write")
    change = Change()
    change.delete_once(variable)
    await attachments.end(reader, change, "variables", variable.id)
    await context.records.change(change)
    return NO_CONTENT
