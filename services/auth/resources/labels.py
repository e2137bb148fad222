"""Labels, and labels on buckets, telegraf configurations and variables. Source: InfluxDB 2.x, "Labels"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from common.errors import Invalid, NotFound
from services.auth.context import Context
from services.auth.entities.assets import Label, LabelMapping
from services.auth.entities.entity import Entity
from services.auth.entities.users import Member
from services.auth.records.change import Change
from services.auth.records.reader import Reader
from services.auth.resources import assets, orgs
from services.auth.resources.members import Function, check_change, find_base
from services.auth.rest import ids
from services.auth.rest.request import NO_CONTENT, Answer, Request
from services.auth.security.permissions import check

PATH = "/api/v2/labels"
MISSING = "label not found"
DECODE = "failed to unmarshal json: "
E = TypeVar("E", bound=Entity)
ToJson = Callable[[E, Sequence[dict[str, Any]]], dict[str, Any]]


def to_json(label: Label) -> dict[str, Any]:
    properties = {"properties": dict(label.properties)} if label.properties else {}
    return {"id": label.id, "orgID": label.org_id, "name": label.name, **properties}


def _answer(label: Label, status: int = 200) -> Answer:
    return Answer.json({"links": {"self": f"{PATH}/{label.id}"}, "label": to_json(label)}, status)


async def get(reader: Reader, id: str) -> Label:
    """The label. Raises NotFound."""
    label = await reader.find(Label, id)
    if label is None:
        raise NotFound(MISSING)
    return label


async def show(reader: Reader, type: str, found: Sequence[E], to_json: ToJson[E]) -> list[dict[str, Any]]:
    """Objects of a *type* such as ``buckets`` as JSON, each with its labels."""
    attached = await _attached_to(reader, [Member.resource(type, entity.id) for entity in found])
    return [to_json(entity, on_it) for entity, on_it in zip(found, attached, strict=True)]


async def _attached_to(reader: Reader, resources: Sequence[str]) -> list[list[dict[str, Any]]]:
    """For each resource (``Member.resource``) its labels as JSON."""
    if not resources:
        return []
    mappings = await reader.list_each(LabelMapping, "resource", resources)
    wanted = [(Label, mapping.label_id) for found in mappings.values() for mapping in found]
    labels = await reader.find_many(wanted) if wanted else {}
    return [
        [
            to_json(label)
            for mapping in mappings[resource]
            if isinstance(label := labels.get((Label.KIND, mapping.label_id)), Label)
        ]
        for resource in resources
    ]


# ---------------------------------------------------------------- calls


async def list_(context: Context, request: Request) -> Answer:
    org_id = request.arg_id("orgID")
    reader = context.records.reader()
    found = await (reader.list_all(Label, "org_id", org_id) if org_id else reader.list_all(Label))
    shown = [to_json(label) for label in found if request.caller.may("read", "labels", label.id, label.org_id)]
    return Answer.json({"links": {"self": PATH}, "labels": shown})


async def create(context: Context, request: Request) -> Answer:
    document = request.document(DECODE)
    org_id, name = document.id("orgID"), (document.text("name") or "").strip()
    properties = document.text_map("properties") or {}
    if not name:
        raise Invalid("label name is required")
    if org_id is None:
        raise Invalid("orgID is required")
    check(request.caller, "write", "labels", None, org_id)
    org = await orgs.get(context.records.reader(), org_id)
    label = Label(id=context.ids.sortable(), org_id=org_id, name=name, properties=properties)
    change = Change()
    change.require(org)
    change.create(label)
    await _commit(context, change, name)
    return _answer(label, 201)


async def _commit(context: Context, change: Change, name: str) -> None:
    await context.records.change(change, taken=f"label with name {name} already exists")


async def _found(context: Context, request: Request, action: str) -> tuple[Reader, Label]:
    return await assets.find(context, request, Label, "labels", MISSING, action)


async def get_one(context: Context, request: Request) -> Answer:
    _, label = await _found(context, request, "read")
    return _answer(label)


async def patch(context: Context, request: Request) -> Answer:
    request.id()  # a bad one is told before a bad body
    document = request.document(DECODE)
    name, properties = document.text("name"), document.text_map("properties") or {}
    _, label = await _found(context, request, "write")
    if name is not None and not name.strip():
        raise Invalid("label name is required")
    merged = {key: value for key, value in {**label.properties, **properties}.items() if value != ""}
    new = label.changed(name=name and name.strip(), properties=merged)
    change = Change()
    change.replace(label, new)
    await _commit(context, change, new.name)
    return _answer(new)


async def delete(context: Context, request: Request) -> Answer:
    reader, label = await _found(context, request, "write")
    change = Change()
    change.delete_once(label)
    change.delete(*await reader.list_all(LabelMapping, "label_id", label.id))
    await context.records.change(change)
    return NO_CONTENT


def calls_on(type: str) -> dict[str, Function]:
    """The three functions of ``/api/v2/<type>/<id>/labels``."""

    async def list_on(context: Context, request: Request) -> Answer:
        reader, id, _ = await find_base(context, request, type)
        (attached,) = await _attached_to(reader, [Member.resource(type, id)])
        return Answer.json({"links": {"self": PATH}, "labels": attached})

    async def attach(context: Context, request: Request) -> Answer:
        document = request.document(DECODE)
        label_id = document.text("labelID") or ""
        reader, id, org_id = await find_base(context, request, type)
        check_change(request, type, id, org_id)
        if not label_id:
            raise Invalid("label id is required")
        label = await get(reader, ids.parse_id(label_id))
        if label.org_id != org_id:
            raise NotFound(MISSING)
        change = Change()
        change.require(label)
        resource = Member.resource(type, id)
        change.create(LabelMapping(id=context.ids.sortable(), label_id=label.id, resource=resource))
        await context.records.change(change, taken=f"label {label.id} is already on this resource")
        return _answer(label, 201)

    async def detach(context: Context, request: Request) -> Answer:
        reader, id, org_id = await find_base(context, request, type)
        label_id = request.id("label")
        check_change(request, type, id, org_id)
        mapping = await reader.find_unique(LabelMapping, LabelMapping.key(label_id, Member.resource(type, id)))
        if mapping is not None:
            change = Change()
            change.delete(mapping)
            await context.records.change(change)
        return NO_CONTENT

    return {"list": list_on, "attach": attach, "detach": detach}
