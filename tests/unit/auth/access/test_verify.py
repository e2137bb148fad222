"""Verification: what is cached, what is confirmed, what a change undoes; passwords off the loop."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from common.errors import Unauthorized, Unavailable
from services.auth.access import sessions
from services.auth.access.verify import Credential
from services.auth.resources import signin
from tests.unit.auth.world import PASSWORD, TOKEN, USER, World


@pytest.fixture
async def world() -> World:
    world = World()
    await world.set_up()
    world.tell()
    return world


async def test_an_allowance_comes_from_the_cache_and_carries_the_newest_number_told(world: World) -> None:
    await world.identity()
    reads = world.storage.reads
    world.hub.event({"number": 999, "tags": ["org:somebody-else"]})
    await world.identity()
    assert world.storage.reads == reads
    found = await world.verifier.verify(Credential("v2", "token", "", TOKEN))
    assert found.number == 999


async def test_a_refusal_is_read_at_storage_each_time(world: World) -> None:
    for _ in range(2):
        reads = world.storage.reads
        with pytest.raises(Unauthorized):
            await world.identity("unknown")
        assert world.storage.reads > reads


async def test_without_storage_an_unknown_token_is_unavailable(world: World) -> None:
    world.storage.down = True
    with pytest.raises(Unavailable):
        await world.identity()


async def test_a_name_taken_by_a_legacy_authorization_ends_a_token_behind_it(world: World) -> None:
    await world.identity(TOKEN, "basic", "anyone", "v1")
    permissions = [{"action": "read", "resource": {"type": "buckets"}}]
    org_id = (await world.identity()).org_id
    body = {"orgID": org_id, "token": "anyone", "permissions": permissions}
    made = await _json(world, "POST", "/legacy/authorizations", body)
    await _json(world, "POST", f"/legacy/authorizations/{made['id']}/password", {"password": "long-enough"})
    with pytest.raises(Unauthorized):
        await world.identity(TOKEN, "basic", "anyone", "v1")


async def test_an_answer_that_a_change_has_overtaken_is_neither_given_nor_kept(world: World) -> None:
    identity = await world.identity()
    world.caches.drop([f"auth:{identity.credential_id}"], 1000)
    with pytest.raises(Unavailable):
        await world.identity()  # all that storage says is older than the change
    assert len(world.caches.verified._cache) == 0


async def test_a_password_replaced_while_it_is_checked_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    permissions = [{"action": "read", "resource": {"type": "buckets"}}]
    body = {"orgID": (await world.identity()).org_id, "token": "telegraf", "permissions": permissions}
    path = f"/legacy/authorizations/{(await _json(world, 'POST', '/legacy/authorizations', body))['id']}/password"
    await _json(world, "POST", path, {"password": "the-old-one"})
    passwords = world.context.passwords
    matches, turns = passwords.matches, asyncio.Semaphore(0)

    async def wait_for_a_turn(password: str, stored: str | None) -> bool:
        await turns.acquire()
        return await matches(password, stored)

    monkeypatch.setattr(passwords, "matches", wait_for_a_turn)
    checking = asyncio.create_task(world.identity("the-old-one", "basic", "telegraf", "v1"))
    await asyncio.sleep(0)
    await _json(world, "POST", path, {"password": "the-new-one"})
    for _ in range(5):
        turns.release()
    with pytest.raises(Unauthorized):
        await checking
    assert (await world.identity("the-new-one", "basic", "telegraf", "v1")).kind == "legacy"


@pytest.mark.parametrize("status", ["active", "inactive"])
@pytest.mark.parametrize("has_password", [True, False])
async def test_the_time_of_a_refusal_tells_nothing_of_a_name(
    world: World, monkeypatch: pytest.MonkeyPatch, status: str, has_password: bool
) -> None:
    permissions = [{"action": "read", "resource": {"type": "buckets"}}]
    body = {"orgID": (await world.identity()).org_id, "token": "n", "permissions": permissions, "status": status}
    made = await _json(world, "POST", "/legacy/authorizations", body)
    if has_password:
        await _json(world, "POST", f"/legacy/authorizations/{made['id']}/password", {"password": "long-enough"})
    checks = []
    matches = world.context.passwords.matches

    async def count(password: str, stored: str | None) -> bool:
        checks.append(password)
        return await matches(password, stored)

    monkeypatch.setattr(world.context.passwords, "matches", count)
    for name in ("n", "nobody"):
        with pytest.raises(Unauthorized):
            await world.identity("wrong-password", "basic", name, "v1")
    assert len(checks) == 2


async def test_a_secret_over_72_bytes_is_refused_not_a_fault(world: World) -> None:
    with pytest.raises(Unauthorized):
        await world.identity("x" * 100, "basic", USER, "v1")
    assert not await world.context.passwords.matches("x" * 100, None)


async def test_one_check_serves_all_who_wait_for_it_and_is_remembered(world: World) -> None:
    passwords = world.context.passwords
    stored = await passwords.hash("right-password")
    answers = await asyncio.gather(*(passwords.matches("right-password", stored) for _ in range(200)))
    assert all(answers)
    assert await passwords.matches("right-password", stored)
    assert not await passwords.matches("wrong-password", stored)
    assert not await passwords.matches("right-password", await passwords.hash("other-password"))


async def test_the_queue_of_password_checks_is_bounded() -> None:
    world = World(max_password_checks=2)
    await world.set_up()
    passwords = world.context.passwords
    stored = await passwords.hash("right-password")
    checks = [passwords.matches(f"wrong-{number}", stored) for number in range(10)]
    answers = await asyncio.gather(*checks, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert len(refused) == 8
    assert "TIDEGATE_MAX_PASSWORD_CHECKS" in str(refused[0])


async def test_a_session_dies_unused_and_use_prolongs_it_to_five_minutes(world: World) -> None:
    cookie = await _sign_in(world)
    world.shift_ns += 58 * 60 * 10**9
    assert (await world.identity(cookie, "session")).kind == "session"
    world.shift_ns += 4 * 60 * 10**9
    await world.identity(cookie, "session")
    world.shift_ns += 6 * 60 * 10**9
    with pytest.raises(Unauthorized):
        await world.identity(cookie, "session")
    assert await sessions.sweep_once(world.context) == 1


async def test_a_user_has_a_bounded_number_of_sessions() -> None:
    world = World(max_sessions_per_user=2)
    await world.set_up()
    cookies = [await _sign_in(world) for _ in range(3)]
    with pytest.raises(Unauthorized):
        await world.identity(cookies[0], "session")
    for cookie in cookies[1:]:
        await world.identity(cookie, "session")


async def _overtake(world: World, monkeypatch: pytest.MonkeyPatch, password: str, do: Any) -> Any:
    """*do* something that checks a password; when that has been found right, an administrator sets *password*."""
    matches, user_id = world.context.passwords.matches, (await world.identity()).user_id

    async def then_set(given: str, stored: str | None) -> bool:
        right = await matches(given, stored)
        monkeypatch.setattr(world.context.passwords, "matches", matches)
        await _json(world, "POST", f"/api/v2/users/{user_id}/password", {"password": password})
        return right

    monkeypatch.setattr(world.context.passwords, "matches", then_set)
    return await do()


async def test_a_sign_in_overtaken_by_a_new_password_is_worth_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = await _overtake(world, monkeypatch, "another-password", lambda: _sign_in(world))
    with pytest.raises(Unauthorized):
        await world.identity(cookie, "session")


async def test_a_change_by_the_password_of_before_does_not_undo_one_made_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = await _sign_in(world)

    async def change() -> int:
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"cookie": f"{signin.COOKIE}={cookie}", "authorization": f"Basic {basic}"}
        body = json.dumps({"password": "the-password-of-a-thief"}).encode()
        return (await world.send("PUT", "/api/v2/me/password", headers, body)).status

    assert await _overtake(world, monkeypatch, "another-password", change) == 403
    stored = world.storage.records["password", (await world.identity()).user_id][3]["hash"]
    assert await world.context.passwords.matches("another-password", stored)


async def test_a_new_password_ends_the_users_other_sessions(world: World) -> None:
    cookie = await _sign_in(world)
    user_id = (await world.identity()).user_id
    await _json(world, "POST", f"/api/v2/users/{user_id}/password", {"password": "another-password"})
    with pytest.raises(Unauthorized):
        await world.identity(cookie, "session")


async def test_the_session_that_changes_the_password_goes_on_and_the_others_end(world: World) -> None:
    own, other = await _sign_in(world), await _sign_in(world)
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    headers = {"cookie": f"{signin.COOKIE}={own}", "authorization": f"Basic {basic}"}
    body = json.dumps({"password": "another-password"}).encode()
    assert (await world.send("PUT", "/api/v2/me/password", headers, body)).status == 204
    assert (await world.identity(own, "session")).kind == "session"
    with pytest.raises(Unauthorized):
        await world.identity(other, "session")


async def test_a_session_of_the_first_user_may_do_everything(world: World) -> None:
    identity = await world.identity(await _sign_in(world), "session")
    assert identity.may("write", "buckets", "a" * 16, "b" * 16)
    assert identity.may("read", "instance")


async def test_changes_that_race_are_decided_anew(world: World) -> None:
    org_id = (await world.identity()).org_id
    bucket = await _json(world, "POST", "/api/v2/buckets", {"orgID": org_id, "name": "raced"})
    path = f"/api/v2/buckets/{bucket['id']}"
    changes = [{"description": "d"}, {"name": "renamed"}, {"retentionRules": [{"everySeconds": 0}]}]
    await asyncio.gather(*(_json(world, "PATCH", path, change) for change in changes))
    now = await _json(world, "GET", path)
    assert (now["name"], now["description"]) == ("renamed", "d")


async def test_first_mappings_that_race_leave_one_default(world: World) -> None:
    org_id = (await world.identity()).org_id
    bucket = await _json(world, "POST", "/api/v2/buckets", {"orgID": org_id, "name": "raced"})
    body = {"orgID": org_id, "bucketID": bucket["id"], "database": "db"}
    await asyncio.gather(
        *(_json(world, "POST", "/api/v2/dbrps", {**body, "retention_policy": f"rp{n}"}) for n in range(5))
    )
    content = (await _json(world, "GET", f"/api/v2/dbrps?orgID={org_id}&db=db"))["content"]
    assert [mapping["default"] for mapping in content].count(True) == 1


async def _sign_in(world: World) -> str:
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    got = await world.send("POST", "/api/v2/signin", {"authorization": f"Basic {basic}"})
    assert got.status == 204
    return got.headers["set-cookie"].partition(";")[0].partition("=")[2]


async def _json(world: World, method: str, path: str, body: Any = None) -> Any:
    sent = b"" if body is None else json.dumps(body).encode()
    got = await world.send(method, path, {"authorization": f"Token {TOKEN}"}, sent)
    assert got.status < 300, got.body
    return json.loads(got.body) if got.body else None
