"""Many change the same at the same time: each gets its turn."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from common.errors import Unavailable
from common.rpc.client import Answer
from services.auth.records.change import Stale
from services.auth.records.contest import settle
from tests.unit.auth.fake_storage import FakeStorage
from tests.unit.auth.world import TOKEN, World

TOKEN_HEADER = {"authorization": f"Token {TOKEN}"}
MANY = 30


class SlowStorage(FakeStorage):
    """Lets others in between a reading and the change that rests on it."""

    async def call(self, url: str, method: str, head: Any, **more: Any) -> Answer:
        await asyncio.sleep(0)
        return await super().call(url, method, head, **more)


async def test_of_many_changes_of_one_organization_none_is_refused() -> None:
    world = World(SlowStorage())
    org_id = (await world.set_up()).org.id

    async def describe(n: int) -> int:
        body = json.dumps({"description": str(n)}).encode()
        return (await world.send("PATCH", f"/api/v2/orgs/{org_id}", TOKEN_HEADER, body)).status

    assert await asyncio.gather(*map(describe, range(MANY))) == [200] * MANY


async def test_of_many_that_set_one_new_secret_none_fails_and_one_key_is_left() -> None:
    world = World(SlowStorage())
    path = f"/api/v2/orgs/{(await world.set_up()).org.id}/secrets"

    async def put(n: int) -> int:
        return (await world.send("PATCH", path, TOKEN_HEADER, json.dumps({"key": str(n)}).encode())).status

    assert await asyncio.gather(*map(put, range(MANY))) == [204] * MANY
    assert json.loads((await world.send("GET", path, TOKEN_HEADER)).body)["secrets"] == ["key"]


async def test_who_is_never_first_is_told_to_come_back() -> None:
    calls = 0

    async def overtaken() -> None:
        nonlocal calls
        calls += 1
        raise Stale

    with pytest.raises(Unavailable):
        await settle(overtaken)
    assert calls > 10
