"""1.x administration over two real auths and the real storage: what one does the other knows; and a clean stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.errors import InfluxError, Unauthorized
from common.identity import Identity
from tests.services.test_auth import FIRST_START, Parts, eventually, parts, set_up

__all__ = ["parts"]  # the fixture
WITHIN_S = 1.0


class Two:
    """Statements go to the first auth, questions to both."""

    def __init__(self, parts: Parts, urls: list[str], operator: bytes) -> None:
        self.parts, self.urls, self.operator = parts, urls, operator
        self.worst_ms = 0.0

    async def run(self, type: str, **members: Any) -> Any:
        head = {"identity": self.operator, "statement": {"type": type, **members}}
        return (await self.parts.query.call(self.urls[0], "auth.administer", head)).head["rows"]

    async def soon(self, check: Callable[[str], Awaitable[bool]]) -> None:
        """It holds at the first at once, at the second within a second."""
        began = time.monotonic()
        assert await check(self.urls[0])
        while not await check(self.urls[1]):
            assert time.monotonic() - began < WITHIN_S
            await asyncio.sleep(0.001)
        self.worst_ms = max(self.worst_ms, (time.monotonic() - began) * 1000)

    async def user(self, url: str, password: str = "p") -> Identity | None:
        try:
            found = await self.parts.verify(url, password, "basic", "u", "v1")
        except Unauthorized:
            return None
        return Identity.from_wire(found["identity"])

    async def buckets(self, url: str, database: str) -> list[str]:
        head = {"org_id": Identity.from_wire(self.operator).org_id, "confirm": False}
        rows = (await self.parts.query.call(url, "auth.mappings", head)).head["mappings"]
        return [bucket[0] for name, _, _, _, bucket in rows if name == database]

    async def reaches(self, url: str, action: str, count: int) -> bool:
        identity = await self.user(url)
        ids = await self.buckets(url, "d")
        return identity is not None and count == sum(identity.may(action, "buckets", id, identity.org_id) for id in ids)


@pytest.fixture
async def two(parts: Parts) -> Two:
    urls = [await parts.start_auth(**FIRST_START), await parts.start_auth()]
    operator = await set_up(parts, urls[0])
    org_id = Identity.from_wire(operator["identity"]).org_id
    await eventually(lambda: parts.query.call(urls[1], "auth.mappings", {"org_id": org_id}))
    return Two(parts, urls, operator["identity"])


async def test_each_statement_is_seen_by_the_other_auth(two: Two) -> None:
    for url in two.urls:
        assert await two.buckets(url, "d") == []  # what there is not is remembered too
    for _ in range(3):
        await two.run("create_database", name="d")
        await two.soon(lambda url: _has(two.buckets(url, "d"), 1))
        await two.run("create_user", name="u", password="p")
        await two.soon(lambda url: _is(two.user(url), True))
        await two.run("grant", user="u", database="d", actions=["read"])
        await two.soon(lambda url: two.reaches(url, "read", 1))
        await two.run("create_retention_policy", database="d", name="p", duration_ns=0)
        await two.soon(lambda url: two.reaches(url, "read", 2))
        assert not await two.reaches(two.urls[1], "write", 1)
        await two.run("revoke", user="u", database="d", actions=["read", "write"])
        await two.soon(lambda url: two.reaches(url, "read", 0))
        await two.run("set_password", name="u", password="q")
        await two.soon(lambda url: _is(two.user(url), False))
        await two.soon(lambda url: _is(two.user(url, "q"), True))
        await two.run("drop_user", name="u")
        await two.soon(lambda url: _is(two.user(url, "q"), False))
        await two.run("drop_database", name="d")
        await two.soon(lambda url: _has(two.buckets(url, "d"), 0))
    print(f"CASE V1-REPLICAS seen by the other auth within {two.worst_ms:.1f} ms {WITHIN_S * 1000:.0f} PASS")


async def _has(found: Awaitable[list[str]], count: int) -> bool:
    return len(await found) == count


async def _is(found: Awaitable[Identity | None], known: bool) -> bool:
    return (await found is not None) is known


async def test_the_same_statement_at_both_at_the_same_time_is_done_once(two: Two) -> None:
    async def run(url: str, type: str, **members: Any) -> Any:
        head = {"identity": two.operator, "statement": {"type": type, **members}}
        return await two.parts.query.call(url, "auth.administer", head)

    for number in range(5):
        name = f"r{number}"
        await asyncio.gather(*(run(url, "create_database", name=name) for url in two.urls * 2))
        assert len(await two.buckets(two.urls[0], name)) == 1
        made = await asyncio.gather(
            *(run(url, "create_user", name=name, password=f"p{n}") for n, url in enumerate(two.urls)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, InfluxError) for result in made) == 1
        await run(two.urls[0], "create_user", name=f"{name}x", password="p")
        # Neither of two grants at the same time is lost.
        await asyncio.gather(
            *(
                run(url, "grant", user=f"{name}x", database=name, actions=[action])
                for url, action in zip(two.urls, ("read", "write"), strict=True)
            )
        )
        assert await two.run("show_grants", user=f"{name}x") == [[name, "ALL PRIVILEGES"]]


async def test_replicas_that_start_together_set_up_once_and_all_get_ready(parts: Parts) -> None:
    given = {**FIRST_START, "v1_admin_user": "root", "v1_admin_password": "pw", "v1_database": "telegraf"}
    urls = await asyncio.gather(*(parts.start_auth(**given) for _ in range(3)))
    operator = await set_up(parts, urls[0])
    rows: list[Any] = []
    for url in urls:
        await eventually(partial(parts.verify, url, "pw", "basic", "root", "v1"))
        admin = (await parts.verify(url, "pw", "basic", "root", "v1"))["identity"]
        head = {"identity": admin, "statement": {"type": "show_users"}}
        rows.append((await parts.query.call(url, "auth.administer", head)).head["rows"])
    assert rows == [[["root", True]]] * 3
    assert Identity.from_wire(operator["identity"]).org_id != Identity.from_wire(admin).org_id
    orgs = (await parts.json(urls[1], "GET", "/api/v2/orgs"))["orgs"]
    assert sorted(org["name"] for org in orgs) == ["default", FIRST_START["init_org"]]


async def test_the_last_uses_are_written_at_a_clean_stop(parts: Parts) -> None:
    url = await parts.start_auth(**FIRST_START)
    operator = await set_up(parts, url)
    token_id, used_ms = Identity.from_wire(operator["identity"]).credential_id, 1_750_000_000_000
    await parts.gateway.call(url, "auth.used", {"used": {token_id: used_ms}})
    await parts.auths.pop().stop()
    again = await parts.start_auth()
    shown = await parts.json(again, "GET", f"/api/v2/authorizations/{token_id}")
    assert shown["lastUsedAt"] == "2025-06-15T15:06:40Z"


async def test_a_secret_is_nowhere_in_the_data_folder(parts: Parts, tmp_path: Path) -> None:
    url = await parts.start_auth(**FIRST_START)
    await set_up(parts, url)
    org_id = (await parts.json(url, "GET", "/api/v2/orgs"))["orgs"][0]["id"]
    await parts.json(url, "PATCH", f"/api/v2/orgs/{org_id}/secrets", {"name-of-it": "the value of the secret"})
    await parts.auths.pop().stop()
    await parts.stop_storage()
    found = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"name-of-it" in text for text in found)
    assert not any(b"the value of the secret" in text for text in found)
    assert (tmp_path / "secrets.key").stat().st_mode & 0o777 == 0o600
