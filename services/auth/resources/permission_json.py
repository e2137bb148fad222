"""Permissions in JSON, both directions, and the names of what they reach.

Source: InfluxDB 2.x, "API tokens and v1 credentials".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from common.errors import Invalid
from common.identity import ACTIONS, RESOURCE_TYPES, Permission
from services.auth.entities.authorizations import Authorization, LastUse
from services.auth.entities.buckets import Bucket
from services.auth.entities.entity import Entity
from services.auth.entities.orgs import Org
from services.auth.entities.users import User
from services.auth.records.reader import Reader
from services.auth.rest.document import Document

NAMED: dict[str, type[Entity]] = {"buckets": Bucket, "orgs": Org, "users": User}


def read_permissions(items: list[Document]) -> list[tuple[Permission, str]]:
    """Permissions of a request's body, each with the ``name`` that scopes it (empty = none). Raises Invalid."""
    parsed = []
    for item in items:
        resource = item.document("resource")
        id, org_id = resource.id("id"), resource.id("orgID")
        parsed.append((item.text("action") or "", resource.text("type") or "", id, org_id, resource.text("name") or ""))
    for _, type, _, _, _ in parsed:
        if type not in RESOURCE_TYPES:
            raise Invalid("invalid resource type for permission: unknown resource type for permission")
    for action, _, _, _, _ in parsed:
        if action not in ACTIONS:
            raise Invalid("invalid action type for permission: unknown action for permission")
    return [(Permission(action, type, id, org_id), name) for action, type, id, org_id, name in parsed]


def permission_json(permission: Permission, names: Names) -> dict[str, Any]:
    """Names are looked up; where the object is gone both are left out."""
    kind = NAMED.get(permission.type)
    name = names.of(kind, permission.id, permission.org_id) if kind and permission.id else None
    org = names.of(Org, permission.org_id) if permission.org_id else None
    if kind and permission.id and name is None:
        org = None
    resource = {
        "type": permission.type, "id": permission.id, "orgID": permission.org_id, "name": name, "org": org,
    }  # fmt: skip
    return {"action": permission.action, "resource": {key: value for key, value in resource.items() if value}}


class Names:
    """Names of organizations, users and buckets, and the last uses, read together; without any, ids alone are shown."""

    def __init__(self, found: Mapping[tuple[str, str], Entity] = {}) -> None:
        self._found = found

    @classmethod
    async def read(cls, reader: Reader, authorizations: Iterable[Authorization]) -> Names:
        wanted: list[tuple[type[Entity], str]] = []
        for authorization in authorizations:
            wanted += [(Org, authorization.org_id), (User, authorization.user_id), (LastUse, authorization.id)]
            for permission in authorization.permissions:
                if permission.org_id:
                    wanted.append((Org, permission.org_id))
                if permission.id and permission.type in NAMED:
                    wanted.append((NAMED[permission.type], permission.id))
        return cls(await reader.find_many(wanted))

    def last_used_ms(self, id: str) -> int | None:
        """When the authorization was last used, Unix ms, if it was."""
        use = self._found.get((LastUse.KIND, id))
        return use.at_ms if isinstance(use, LastUse) else None

    def of(self, kind: type[Entity], id: str, org_id: str | None = None) -> str | None:
        """The name; with *org_id*, None for a bucket of another organization, as for one that is gone."""
        entity = self._found.get((kind.KIND, id))
        if isinstance(entity, Bucket) and org_id not in (None, entity.org_id):
            return None
        return entity.name if isinstance(entity, Bucket | Org | User) else None
