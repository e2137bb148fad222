"""1.x databases and policies on v2 buckets and mappings: what each statement leaves behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.errors import Conflict, Forbidden, Invalid, Unprocessable
from common.identity import Identity, Permission
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.entities.users import Member
from services.auth.records.change import Change
from services.auth.v1.administration import administer
from services.auth.v1.statements import AlterPolicy, CreateDatabase, CreatePolicy, DropDatabase, DropPolicy
from tests.unit.auth.world import World

DAY_NS = 86_400 * 10**9


class Databases(World):
    """A world with short words for what these tests do."""

    async def start(self) -> Databases:
        self.made = await self.set_up()
        self.org_id = self.made.org.id
        self.admin = await self.identity()
        return self

    async def run(self, statement: Any, caller: Identity | None = None) -> list[list[Any]]:
        return await administer(self.context, caller or self.admin, statement)

    async def policies(self) -> dict[str, tuple[str, bool]]:
        """``database/policy`` → bucket's name and whether it is the default, of all mappings."""
        rows = (await self.resolver.mappings(self.org_id, confirm=True)).value
        return {f"{database}/{policy}": (bucket[2], default) for database, policy, default, _, bucket in rows}

    async def bucket(self, name: str) -> Bucket:
        found = await self.context.records.reader().find_unique(Bucket, Bucket.name_key(self.org_id, name))
        assert found is not None, name
        return found

    async def map(self, bucket: str, database: str, policy: str, default: bool = False) -> None:
        change = Change()
        change.create(
            Dbrp(
                id=self.context.ids.sortable(), org_id=self.org_id, bucket_id=(await self.bucket(bucket)).id,
                database=database, retention_policy=policy, default=default,
            )
        )  # fmt: skip
        await self.context.records.change(change)


@pytest.fixture
async def world() -> Databases:
    return await Databases().start()


async def test_a_database_is_a_bucket_and_a_default_mapping(world: Databases) -> None:
    await world.run(CreateDatabase("d", "week", 7 * DAY_NS, DAY_NS))
    assert (await world.policies())["d/week"] == ("d/week", True)
    bucket = await world.bucket("d/week")
    assert (bucket.retention_ns, bucket.shard_ns) == (7 * DAY_NS, DAY_NS)


async def test_two_who_create_a_database_at_the_same_time_make_one(world: Databases) -> None:
    await asyncio.gather(*(world.run(CreateDatabase("d")) for _ in range(8)))
    assert [name for name in await world.policies() if name.startswith("d/")] == ["d/autogen"]
    await asyncio.gather(*(world.run(CreatePolicy("d", "p", 0)) for _ in range(8)))
    assert sorted(name for name in await world.policies() if name.startswith("d/")) == ["d/autogen", "d/p"]


async def test_what_is_there_has_to_be_as_asked_only_where_it_is_asked_for(world: Databases) -> None:
    await world.run(CreateDatabase("d", "week", 7 * DAY_NS, checked=True))
    await world.run(CreateDatabase("d"))
    await world.run(CreateDatabase("d", "week", 7 * DAY_NS, checked=True))
    for other in (
        CreateDatabase("d", "week", 8 * DAY_NS, checked=True),
        CreateDatabase("d", "other", 7 * DAY_NS, checked=True),
    ):
        with pytest.raises(Conflict, match="retention policy conflicts with an existing policy"):
            await world.run(other)
    await world.run(CreatePolicy("d", "week", 7 * DAY_NS))
    with pytest.raises(Conflict, match="retention policy already exists"):
        await world.run(CreatePolicy("d", "week", 8 * DAY_NS))


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "_x", 'a"b', "a\nb"])
async def test_a_name_that_no_database_may_have_makes_nothing(world: Databases, name: str) -> None:
    before = dict(world.storage.records)
    with pytest.raises(Invalid):
        await world.run(CreateDatabase(name))
    assert world.storage.records == before


async def test_the_default_moves_and_is_handed_on(world: Databases) -> None:
    await world.run(CreateDatabase("d"))
    await world.run(CreatePolicy("d", "p", 0))
    await world.run(CreatePolicy("d", "q", 0, default=True))
    assert await defaults(world) == ["d/q"]
    await world.run(AlterPolicy("d", "p", default=True))
    assert await defaults(world) == ["d/p"]
    await world.run(DropPolicy("d", "p"))
    assert await defaults(world) == ["d/autogen"]


async def defaults(world: Databases) -> list[str]:
    return [name for name, (_, default) in (await world.policies()).items() if default and name.startswith("d/")]


async def test_altering_changes_what_is_given(world: Databases) -> None:
    await world.run(CreateDatabase("d", "p", 10 * DAY_NS, DAY_NS))
    await world.run(AlterPolicy("d", "p", duration_ns=5 * DAY_NS))
    bucket = await world.bucket("d/p")
    assert (bucket.retention_ns, bucket.shard_ns) == (5 * DAY_NS, DAY_NS)
    with pytest.raises(Unprocessable, match="shard-group duration must also be updated"):
        await world.run(AlterPolicy("d", "p", duration_ns=DAY_NS // 2))
    with pytest.raises(Invalid, match="retention policy not found: q"):
        await world.run(AlterPolicy("d", "q", duration_ns=DAY_NS))
    with pytest.raises(Invalid, match="database not found: x"):
        await world.run(AlterPolicy("x", "q", duration_ns=DAY_NS))


async def test_a_dropped_database_is_gone_with_its_data_and_what_hung_on_it(world: Databases) -> None:
    await world.run(CreateDatabase("d"))
    await world.run(CreatePolicy("d", "p", 0))
    ids = {(await world.bucket(name)).id for name in ("d/autogen", "d/p")}
    change = Change()
    change.create(
        Member(
            id=world.context.ids.sortable(), resource_type="buckets", resource_id=min(ids),
            user_id=world.made.user.id, role="member",
        )
    )  # fmt: skip
    await world.context.records.change(change)
    before = world.storage.number
    await world.run(DropDatabase("d"))
    assert world.storage.number == before + 1  # in one batch
    assert set(world.storage.dropped_buckets) == ids
    assert not [name for name in await world.policies() if name.startswith("d/")]
    assert not [1 for kind, _ in world.storage.records if kind == "dbrp"]
    assert not [1 for record in world.storage.records.values() if record[3].get("resource_id") in ids]
    await world.run(DropDatabase("d"))  # no error in 1.x


async def test_a_bucket_with_another_name_stays_under_that_one(world: Databases) -> None:
    """``first`` is a database by its name; ``alias`` is the same by a mapping."""
    await world.map("first", "alias", "autogen", default=True)
    await world.run(DropDatabase("alias"))
    assert (await world.policies())["first/autogen"] == ("first", True)
    await world.map("first", "alias", "autogen", default=True)
    await world.run(DropDatabase("first"))
    shown = await world.policies()
    assert shown["alias/autogen"] == ("alias/autogen", True)
    assert not [name for name in shown if name.startswith("first/")]
    assert world.storage.dropped_buckets == []
    await world.run(DropDatabase("alias"))
    assert len(world.storage.dropped_buckets) == 1
    assert not [name for name in await world.policies() if name.startswith("alias/")]


async def test_one_policy_of_a_bucket_with_two_is_dropped_alone(world: Databases) -> None:
    await world.run(CreateDatabase("d", "p"))
    await world.map("d/p", "d", "q")
    await world.run(DropPolicy("d", "p"))
    assert [name for name in await world.policies() if name.startswith("d/")] == ["d/q"]
    assert world.storage.dropped_buckets == []


async def test_a_bucket_whose_other_name_is_taken_is_told_and_left(world: Databases) -> None:
    await world.map("first", "alias", "autogen")
    await world.run(CreateDatabase("other"))
    other = await world.bucket("other/autogen")
    await world.send("PATCH", f"/api/v2/buckets/{other.id}", {"authorization": "Token the-operator-token"},
                     b'{"name": "alias/autogen"}')  # fmt: skip
    with pytest.raises(Conflict, match="which is also the name of another bucket"):
        await world.run(DropDatabase("first"))
    assert (await world.policies())["first/autogen"] == ("first", True)


async def test_system_buckets_are_neither_changed_nor_dropped(world: Databases) -> None:
    for statement in (DropDatabase("_monitoring"), AlterPolicy("_monitoring", "autogen", duration_ns=0)):
        with pytest.raises(Invalid, match="system buckets cannot be"):
            await world.run(statement)


async def test_each_statement_asks_for_write_on_the_bucket(world: Databases) -> None:
    await world.run(CreateDatabase("d"))
    bucket = await world.bucket("d/autogen")
    reader = Identity(
        "token", "1" * 16, world.made.user.id, world.org_id, (Permission("read", "buckets", bucket.id, world.org_id),)
    )
    before = dict(world.storage.records)
    for statement in (
        CreateDatabase("new"), CreatePolicy("d", "p", 0), AlterPolicy("d", "autogen", duration_ns=DAY_NS),
        DropPolicy("d", "autogen"), DropDatabase("d"),
    ):  # fmt: skip
        with pytest.raises(Forbidden, match="insufficient permissions"):
            await world.run(statement, reader)
    assert world.storage.records == before
