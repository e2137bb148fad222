"""The list of organizations of whoever may not read all of them."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.auth.world import TOKEN, World

PATH = "/api/v2/orgs"
# Over one page of them.
OTHERS = 24


async def _ask(world: World, method: str, path: str, body: dict[str, Any] | None = None, token: str = TOKEN) -> Any:
    packed = b"" if body is None else json.dumps(body).encode()
    answer = await world.send(method, path, {"authorization": f"Token {token}"}, packed)
    assert answer.status in (200, 201), answer.body
    return json.loads(answer.body)


async def _names(world: World, token: str, query: str = "") -> list[str]:
    answer = await _ask(world, "GET", PATH + query, token=token)
    return [org["name"] for org in answer["orgs"]]


async def test_it_holds_its_own_however_many_others_there_are() -> None:
    world = World()
    first = (await world.set_up()).org.id
    made = [await _ask(world, "POST", PATH, {"name": f"o{n:02}"}) for n in range(OTHERS)]
    made.sort(key=lambda org: str(org["id"]))
    own = made[-3:]
    permissions = [{"action": "read", "resource": {"type": "orgs", "id": org["id"]}} for org in own]
    permissions.append({"action": "write", "resource": {"type": "orgs", "id": made[0]["id"]}})
    permissions.append({"action": "read", "resource": {"type": "buckets", "orgID": first}})
    body = {"orgID": first, "permissions": permissions}
    token = (await _ask(world, "POST", "/api/v2/authorizations", body))["token"]
    names = [org["name"] for org in own]
    assert await _names(world, token) == names
    assert await _names(world, token, "?limit=2") == names[:2]
    assert await _names(world, token, "?limit=2&offset=2") == names[2:]
    assert len(await _names(world, TOKEN)) == 20
    assert len(await _names(world, TOKEN, "?offset=20")) == OTHERS + 1 - 20


async def test_a_token_without_a_word_on_organizations_sees_none() -> None:
    world = World()
    org_id = (await world.set_up()).org.id
    body = {"orgID": org_id, "permissions": [{"action": "read", "resource": {"type": "buckets", "orgID": org_id}}]}
    token = (await _ask(world, "POST", "/api/v2/authorizations", body))["token"]
    assert await _names(world, token) == []
