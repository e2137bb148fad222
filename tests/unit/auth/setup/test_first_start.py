"""Set-up by the environment: all of it or nothing whatever crashes, once whoever races, and told in the audit log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from services.auth.context import Context
from services.auth.entities.authorizations import Legacy
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.entities.orgs import Org
from services.auth.entities.users import Member, User
from services.auth.security.audit import Audit
from services.auth.setup import first_admin, first_start
from services.auth.setup.first_start import FirstStart
from services.auth.v1.statements import CreateUser, DropUser
from tests.unit.auth.fake_storage import Crash, FakeStorage
from tests.unit.auth.v1.test_databases import Databases
from tests.unit.auth.world import World

ADMIN = {"v1_admin_user": "root", "v1_admin_password": "pw", "v1_database": "telegraf"}
SETUP = {
    "init_mode": "setup", "init_username": "admin", "init_password": "admin-password", "init_org": "tide",
    "init_bucket": "first", "init_admin_token": "an-operator-token",
}  # fmt: skip
ENVIRONMENTS: list[dict[str, str]] = [
    ADMIN, SETUP, {**SETUP, **ADMIN}, {**SETUP, **ADMIN, "init_org": "default"},
    {**SETUP, **ADMIN, "init_org": "default", "init_bucket": "telegraf"},
    {**SETUP, **ADMIN, "init_username": "root"}, {**SETUP, **ADMIN, "init_username": "root", "init_org": "default"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_start, "ASK_AGAIN_S", 0.001)


async def start(world: World) -> str | None:
    """A start of auth; what /ready complains of."""
    first = FirstStart(world.context)
    await first.run()
    return first.problem


def of(storage: FakeStorage, kind: type[Any]) -> list[Any]:
    return [kind.from_record(record) for (held, _), record in storage.records.items() if held == kind.KIND]


def check_whole(storage: FakeStorage, given: dict[str, str]) -> None:
    orgs = {org.name: org.id for org in of(storage, Org)}
    wanted = {given["init_org"]} if "init_org" in given else set()
    assert set(orgs) == wanted | ({"default"} if "v1_admin_user" in given else set())
    users = {user.name for user in of(storage, User)}
    assert given.get("init_username", "root") in users
    owners = [member for member in of(storage, Member) if member.resource_type == "instance"]
    assert len(owners) == 1
    if "v1_admin_user" in given:
        (admin,) = of(storage, Legacy)
        assert (admin.name, admin.org_id) == ("root", orgs["default"])
        named = {bucket.name for bucket in of(storage, Bucket) if bucket.org_id == orgs["default"]}
        mapped = {mapping.database for mapping in of(storage, Dbrp)}
        assert "telegraf" in named or ("telegraf/autogen" in named and mapped == {"telegraf"})


@pytest.mark.parametrize("given", ENVIRONMENTS)
async def test_one_batch_makes_everything_and_a_restart_nothing(given: dict[str, str]) -> None:
    world = World(**given)
    assert await start(world) is None
    check_whole(world.storage, given)
    assert world.storage.number == 1
    assert await start(World(world.storage, **given)) is None
    assert world.storage.number == 1


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("given", ENVIRONMENTS)
async def test_a_crash_leaves_all_or_nothing_and_the_next_start_has_all(given: dict[str, str], before: bool) -> None:
    storage = FakeStorage()
    storage.crash_at, storage.crash_before = 1, before
    with pytest.raises(Crash):
        await start(World(storage, **given))
    storage.crash_at = None
    assert bool(storage.records) is not before
    assert await start(World(storage, **given)) is None
    check_whole(storage, given)
    assert storage.number == 1


@pytest.mark.parametrize("given", ENVIRONMENTS)
async def test_replicas_that_race_make_it_once_and_all_get_ready(given: dict[str, str]) -> None:
    storage = FakeStorage()
    problems = await asyncio.gather(*(start(World(storage, **given)) for _ in range(5)))
    assert problems == [None] * 5
    check_whole(storage, given)
    assert storage.number == 1


async def test_storage_that_comes_late_is_waited_for() -> None:
    world = World(**ADMIN)
    world.storage.down = True
    first = FirstStart(world.context)
    running = asyncio.create_task(first.run())
    await asyncio.sleep(0.02)
    assert first.problem == "waiting for storage to set up"
    world.storage.down = False
    await running
    assert first.problem is None
    check_whole(world.storage, ADMIN)


async def test_an_instance_that_was_set_up_before_gets_its_administrator() -> None:
    world = World()
    await world.set_up()
    assert await start(World(world.storage, **ADMIN)) is None
    assert {org.name for org in of(world.storage, Org)} == {"tide", "default"}
    # The owner of the instance stays the one that there was.
    assert len([m for m in of(world.storage, Member) if m.resource_type == "instance"]) == 1


async def test_a_dropped_administrator_does_not_come_back() -> None:
    world = Databases(**ADMIN)
    assert await start(world) is None
    root = await world.identity("pw", "basic", "root", "v1")
    await world.run(CreateUser("second", "pw", admin=True), root)
    await world.run(DropUser("root"), await world.identity("pw", "basic", "second", "v1"))
    assert await start(Databases(world.storage, **ADMIN)) is None
    assert [legacy.name for legacy in of(world.storage, Legacy)] == ["second"]


async def test_a_name_that_another_one_has_is_told() -> None:
    world = await Databases().start()
    await world.run(CreateUser("root", "x"))
    problem = await start(World(world.storage, **ADMIN))
    assert problem == "first set-up failed: a name is taken (legacy)"
    assert {org.name for org in of(world.storage, Org)} == {"tide"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"v1_admin_password": ""}, "INFLUXDB_ADMIN_USER needs INFLUXDB_ADMIN_PASSWORD"),
        ({"v1_admin_password": "x" * 73}, "INFLUXDB_ADMIN_PASSWORD: passwords must be between 1 and 72 bytes long"),
        ({"v1_database": "_internal"}, "INFLUXDB_DB: bucket name"),
        ({"v1_database": "a/b"}, "INFLUXDB_DB: DBRP provided is invalid"),
    ],
)
async def test_a_value_that_cannot_be_used_is_told_and_makes_nothing(wrong: dict[str, str], words: str) -> None:
    world = World(**{**SETUP, **ADMIN, **wrong})
    problem = await start(world)
    assert problem is not None
    assert words in problem
    assert not world.storage.records


async def test_without_a_name_nothing_is_wanted() -> None:
    assert not first_admin.is_wanted(World(v1_admin_password="x", v1_database="d", v1_auth_enabled="false").settings)


async def test_both_are_audited_without_their_secrets(tmp_path: Path) -> None:
    world = World(**{**SETUP, **ADMIN})
    audit = Audit(str(tmp_path / "audit.log"))
    context = world.context
    world.context = Context(**{name: getattr(context, name) for name in Context.__slots__} | {"audit": audit})
    assert await start(world) is None
    audit._write()
    text = (tmp_path / "audit.log").read_text()
    events = {line["event"]: line for line in map(json.loads, text.splitlines())}
    assert set(events) == {"setup", "v1.first_admin"}
    assert events["setup"]["target"] == "admin"
    assert events["v1.first_admin"]["target"] == "root"
    assert {line["source"] for line in events.values()} == {"environment"}
    for secret in ("admin-password", "an-operator-token", '"pw"'):
        assert secret not in text
