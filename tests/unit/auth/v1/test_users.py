"""1.x users and what is granted to them, over records in memory; what an auth that remembers answers sees of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from common.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, Unavailable
from common.identity import Identity, Permission
from services.auth.entities.authorizations import LastUse, Legacy
from services.auth.entities.users import Password
from services.auth.v1 import users
from services.auth.v1.statements import (
    CreateDatabase,
    CreatePolicy,
    CreateUser,
    DropDatabase,
    DropPolicy,
    DropUser,
    Grant,
    Revoke,
    SetPassword,
    ShowGrants,
    ShowUsers,
)
from tests.unit.auth.v1.test_databases import Databases
from tests.unit.auth.world import TOKEN

TOKEN_HEADER = {"authorization": f"Token {TOKEN}"}
READ, WRITE = ("read",), ("write",)


@pytest.fixture
async def world() -> Databases:
    world = await Databases().start()
    await world.run(CreateDatabase("d"))
    await world.run(CreateUser("u", "p"))
    return world


async def user(world: Databases, password: str = "p", name: str = "u") -> Identity:
    """As a replica sees it that has heard of all changes."""
    world.tell()
    return await world.identity(password, "basic", name, "v1")


async def reach(world: Databases, action: str = "read") -> set[str]:
    """The buckets on which the user may do *action*."""
    identity, buckets = await user(world), (await world.resolver.mappings(world.org_id, confirm=True)).value
    return {bucket[2] for *_, bucket in buckets if identity.may(action, "buckets", bucket[0], bucket[1])}


async def rest(world: Databases, method: str, path: str, body: Any = None) -> Any:
    got = await world.send(method, path, TOKEN_HEADER, b"" if body is None else json.dumps(body).encode())
    assert got.status < 300, got.body
    return json.loads(got.body) if got.body else None


async def grants(world: Databases) -> list[list[Any]]:
    return await world.run(ShowGrants("u"))


async def test_nothing_is_left_of_a_dropped_user(world: Databases) -> None:
    (legacy,) = await world.context.records.reader().list_all(Legacy)
    world.context.uses.note({legacy.id: 1})
    await world.context.uses.write(world.context.records)
    kinds = (Legacy, Password, LastUse)
    assert len(await world.context.records.reader().find_many((kind, legacy.id) for kind in kinds)) == len(kinds)
    await world.run(DropUser("u"))
    assert not await world.context.records.reader().find_many((kind, legacy.id) for kind in kinds)


async def test_a_grant_reaches_the_policies_that_come_later(world: Databases) -> None:
    await world.run(Grant("u", "d", READ))
    assert await reach(world) == {"d/autogen"}
    await world.run(CreatePolicy("d", "p", 0))
    assert await reach(world) == {"d/autogen", "d/p"}
    assert await reach(world, "write") == set()
    # By the v2 API too, whichever way a policy comes to the database.
    await rest(world, "POST", "/api/v2/buckets", {"orgID": world.org_id, "name": "d/q"})
    first = (await world.bucket("first")).id
    mapping = {"orgID": world.org_id, "bucketID": first, "database": "d", "retention_policy": "r"}
    made = await rest(world, "POST", "/api/v2/dbrps", mapping)
    assert await reach(world) == {"d/autogen", "d/p", "d/q", "first"}
    assert await grants(world) == [["d", "READ"], ["first", "READ"]]
    await rest(world, "DELETE", f"/api/v2/dbrps/{made['id']}?orgID={world.org_id}")
    assert await reach(world) == {"d/autogen", "d/p", "d/q"}
    await world.run(Grant("u", "d"))
    assert await grants(world) == [["d", "ALL PRIVILEGES"]]


async def test_a_grant_is_shown_as_permissions(world: Databases) -> None:
    await world.run(Grant("u", "d", READ))
    await world.run(CreatePolicy("d", "p", 0))
    listed = await rest(world, "GET", "/legacy/authorizations?token=u")
    one = await rest(world, "GET", f"/legacy/authorizations/{listed['authorizations'][0]['id']}")
    for shown in (listed["authorizations"][0], one):
        assert [(p["action"], p["resource"]["name"]) for p in shown["permissions"]] == [
            ("read", "d/autogen"),
            ("read", "d/p"),
        ]
    await rest(world, "PATCH", f"/legacy/authorizations/{one['id']}", {"description": "mine"})
    assert await reach(world) == {"d/autogen", "d/p"}


async def test_a_revoked_grant_is_gone_for_later_policies_too(world: Databases) -> None:
    await world.run(Grant("u", "d"))
    await world.run(CreatePolicy("d", "p", 0))
    await world.run(Revoke("u", "d", WRITE))
    await world.run(CreatePolicy("d", "q", 0))
    assert await reach(world) == {"d/autogen", "d/p", "d/q"}
    assert await reach(world, "write") == set()
    assert await grants(world) == [["d", "READ"]]
    await world.run(Revoke("u", "d"))
    assert await reach(world) == set()
    assert await grants(world) == []


async def test_a_dropped_database_takes_its_grants_along(world: Databases) -> None:
    await world.run(Grant("u", "d"))
    await world.run(DropDatabase("d"))
    await world.run(CreateDatabase("d"))
    assert await reach(world) == set()
    assert await grants(world) == []


async def test_the_last_policy_takes_the_grants_along_whichever_way_it_goes(world: Databases) -> None:
    async def drop_policies() -> None:
        await world.run(DropPolicy("d", "autogen"))
        await world.run(DropPolicy("d", "p"))

    async def delete_buckets() -> None:
        for name in ("d/p", "d/autogen"):
            await rest(world, "DELETE", f"/api/v2/buckets/{(await world.bucket(name)).id}")

    async def rename_and_unmap() -> None:
        await world.run(DropPolicy("d", "p"))
        await rest(world, "PATCH", f"/api/v2/buckets/{(await world.bucket('d/autogen')).id}", {"name": "elsewhere"})
        assert await reach(world) == {"elsewhere"}  # the mapping holds it
        found = await rest(world, "GET", f"/api/v2/dbrps?orgID={world.org_id}&db=d")
        for mapping in found["content"]:
            await rest(world, "DELETE", f"/api/v2/dbrps/{mapping['id']}?orgID={world.org_id}")

    for end in (drop_policies, delete_buckets, rename_and_unmap):
        await world.run(CreateDatabase("d"))
        await world.run(CreatePolicy("d", "p", 0))
        await world.run(Grant("u", "d"))
        assert await reach(world) == {"d/autogen", "d/p"}
        await end()
        await world.run(CreateDatabase("d"))
        assert await reach(world) == set(), end.__name__
        await world.run(DropDatabase("d"))


async def test_a_renamed_bucket_ends_the_grants_on_the_database_that_it_was(world: Databases) -> None:
    await world.run(Grant("u", "first"))
    bucket = await world.bucket("first")
    await rest(world, "PATCH", f"/api/v2/buckets/{bucket.id}", {"name": "second"})
    await rest(world, "POST", "/api/v2/buckets", {"orgID": world.org_id, "name": "first"})
    assert await reach(world) == set()


async def test_a_grant_and_the_end_of_its_database_at_the_same_time_leave_no_grant(world: Databases) -> None:
    for _ in range(10):
        await world.run(CreateDatabase("x"))
        done = await asyncio.gather(world.run(Grant("u", "x")), world.run(DropDatabase("x")), return_exceptions=True)
        assert not isinstance(done[1], BaseException)
        await world.run(CreateDatabase("x"))
        assert await reach(world) == set()
        await world.run(DropDatabase("x"))


async def test_who_may_not_give_every_bucket_gives_what_there_is_now(world: Databases) -> None:
    bucket = await world.bucket("d/autogen")
    giver = Identity(
        "token", "1" * 16, world.made.user.id, world.org_id,
        (
            *(Permission(a, "buckets", bucket.id, world.org_id) for a in ("read", "write")),
            *(Permission(a, "authorizations", None, world.org_id) for a in ("read", "write")),
            *(Permission(a, "users", world.made.user.id) for a in ("read", "write")),
        ),
    )  # fmt: skip
    await world.run(Grant("u", "d"), giver)
    await world.run(CreatePolicy("d", "p", 0))
    assert await reach(world) == {"d/autogen"}
    await world.run(Grant("u", "d"), giver)  # of the other policy the giver knows nothing
    assert await reach(world) == {"d/autogen"}
    with pytest.raises(Invalid, match="database not found: first"):
        await world.run(Grant("u", "first"), giver)
    with pytest.raises(Forbidden):
        await world.run(Grant("u"), giver)
    await world.run(Revoke("u", "d"), giver)
    assert await reach(world) == set()


async def test_what_cannot_be_revoked_is_told(world: Databases) -> None:
    permissions = [{"action": "read", "resource": {"type": "buckets", "orgID": world.org_id}}]
    await rest(world, "POST", "/legacy/authorizations", {"token": "wide", "orgID": world.org_id,
                                                         "permissions": permissions})  # fmt: skip
    with pytest.raises(Invalid, match="holds a permission on more than this database"):
        await world.run(Revoke("wide", "d"))
    # The same bucket by another database: what is left reaches it.
    await world.map("d/autogen", "alias", "p")
    await world.run(Grant("u", "alias"))
    await world.run(Grant("u", "d"))
    with pytest.raises(Invalid, match="holds a permission on more than this database"):
        await world.run(Revoke("u", "d"))


async def test_an_administrator_made_a_common_user_keeps_its_grants(world: Databases) -> None:
    await world.run(Grant("u", "d", WRITE))
    await world.run(Grant("u"))
    assert ["u", True] in await world.run(ShowUsers())
    assert await grants(world) == []
    await world.run(Revoke("u", "d"))  # an administrator stays one, as in 1.x
    assert (await user(world)).may("write", "buckets", None, world.org_id)
    await world.run(Grant("u", "d", WRITE))
    await world.run(Revoke("u"))
    assert await grants(world) == [["d", "WRITE"]]


async def test_a_user_is_made_once_and_its_password_and_rank_count(world: Databases) -> None:
    await world.run(CreateUser("u", "p"))
    for other in (CreateUser("u", "q"), CreateUser("u", "p", admin=True)):
        with pytest.raises(Conflict, match="user already exists"):
            await world.run(other)
    results = await asyncio.gather(
        *(world.run(CreateUser("racing", f"p{n}")) for n in range(4)), return_exceptions=True
    )
    assert [result for result in results if not isinstance(result, BaseException)] == [[]]
    assert all(isinstance(r, Conflict) for r in results if isinstance(r, BaseException))


async def test_a_dropped_user_and_an_old_password_are_refused(world: Databases) -> None:
    await user(world)
    await world.run(SetPassword("u", "q"))
    with pytest.raises(Unauthorized):
        await user(world)
    await user(world, "q")
    await world.run(DropUser("u"))
    with pytest.raises(Unauthorized):
        await user(world, "q")
    assert not [1 for kind, _ in world.storage.records if kind in (Legacy.KIND,)]
    for statement in (DropUser("u"), SetPassword("u", "x"), Grant("u"), Revoke("u"), ShowGrants("u")):
        with pytest.raises(NotFound, match="user not found"):
            await world.run(statement)


@pytest.mark.parametrize("size", [0, 73])
async def test_a_password_of_a_wrong_size_changes_nothing(world: Databases, size: int) -> None:
    before = dict(world.storage.records)
    for statement in (CreateUser("new", "x" * size), SetPassword("u", "x" * size)):
        with pytest.raises(Invalid, match="passwords must be between 1 and 72 bytes long"):
            await world.run(statement)
    assert world.storage.records == before
    users.check_password("x" * 72)


async def test_storage_that_is_away_is_no_answer(world: Databases) -> None:
    world.storage.down = True
    for statement in (CreateUser("n", "p"), Grant("u", "d"), ShowUsers(), DropUser("u")):
        with pytest.raises(Unavailable):
            await world.run(statement)


async def test_no_password_is_ever_in_a_record(world: Databases) -> None:
    await world.run(CreateUser("n", "a password in clear"))
    assert "a password in clear" not in str(world.storage.records)
    assert len([1 for kind, _ in world.storage.records if kind == Password.KIND]) == 3
