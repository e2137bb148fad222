"""Tokens and 1.x names: what the tables of cases cannot say."""

from __future__ import annotations

import json

import pytest

from services.auth.resources.authorizations import MAX_PERMISSIONS
from tests.unit.auth.world import TOKEN, World


@pytest.mark.parametrize("path", ["/api/v2/authorizations", "/private/legacy/authorizations"])
@pytest.mark.parametrize(("count", "status"), [(MAX_PERMISSIONS, 201), (MAX_PERMISSIONS + 1, 400)])
async def test_permissions_are_bounded_in_number(path: str, count: int, status: int) -> None:
    world = World()
    org_id = (await world.set_up()).org.id
    permission = {"action": "read", "resource": {"type": "buckets", "orgID": org_id}}
    body = {"orgID": org_id, "token": "name", "permissions": [permission] * count}
    answer = await world.send("POST", path, {"authorization": f"Token {TOKEN}"}, json.dumps(body).encode())
    assert answer.status == status
    if status == 400:
        text = f"authorization must not include more than {MAX_PERMISSIONS} permissions"
        assert json.loads(answer.body) == {"code": "invalid", "message": text}
