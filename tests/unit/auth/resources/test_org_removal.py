"""Deleting an organization: nobody finds it from the first batch on, and nothing of it is left, crash or no crash."""

from __future__ import annotations

import json

import pytest

from common.errors import NotFound
from services.auth.entities.assets import Label, LabelMapping, Telegraf, Variable
from services.auth.entities.buckets import Bucket, Dbrp
from services.auth.entities.orgs import Org, Secret
from services.auth.entities.users import Member
from services.auth.records.change import Change
from services.auth.resources import org_removal
from tests.unit.auth.fake_storage import Crash, FakeStorage
from tests.unit.auth.world import TOKEN, World

TOKEN_HEADER = {"authorization": f"Token {TOKEN}"}
BUCKETS = 120


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(org_removal, "FULL_BATCH", 250)
    monkeypatch.setattr(org_removal, "OBJECTS_AT_ONCE", 20)


async def fill(world: World, buckets: int) -> Org:
    """An organization with a lot of everything, memberships past a page among it."""
    body = json.dumps({"name": "big"}).encode()
    id = json.loads((await world.send("POST", "/api/v2/orgs", TOKEN_HEADER, body)).body)["id"]
    ids = world.context.ids
    change = Change()
    for number in range(buckets):
        bucket = Bucket(id=ids.random(), org_id=id, name=f"b{number}", shard_ns=1, created_ns=1, updated_ns=1)
        change.create(bucket)
        if number < 3:
            for user in range(1_200 if number == 0 else 2):
                change.create(
                    Member(
                        id=ids.sortable(), resource_type="buckets", resource_id=bucket.id, user_id=f"{user:016x}",
                        role="member",
                    )
                )  # fmt: skip
            change.create(
                Dbrp(id=ids.sortable(), org_id=id, bucket_id=bucket.id, database=f"d{number}", retention_policy="p")
            )
    label = Label(id=ids.sortable(), org_id=id, name="l")
    telegraf = Telegraf(id=ids.sortable(), org_id=id)
    change.create(
        label,
        telegraf,
        Variable(id=ids.sortable(), org_id=id, name="v", arguments={}, created_ns=1, updated_ns=1),
        LabelMapping(id=ids.sortable(), label_id=label.id, resource=Member.resource("telegrafs", telegraf.id)),
        Secret(id=ids.sortable(), org_id=id, key="k", value="v"),
    )
    while change.puts:
        piece = Change(puts=change.puts[:4000])
        del change.puts[:4000]
        await world.context.records.change(piece)
    found = await world.context.records.reader().find(Org, id)
    assert found is not None
    return found


async def test_everything_in_it_goes_and_nothing_else() -> None:
    world = World()
    await world.set_up()
    before = set(world.storage.records)
    org = await fill(world, 20)
    other = set(world.storage.records)
    assert (await world.send("DELETE", f"/api/v2/orgs/{org.id}", TOKEN_HEADER)).status == 204
    assert len(other) > len(before)
    assert set(world.storage.records) == before
    assert len(world.storage.dropped_buckets) == 22  # the two of the system too


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("crash_at", [1, 2, 3, 4])
async def test_a_crash_leaves_it_whole_or_hidden_and_a_start_sweeps_the_rest(crash_at: int, before: bool) -> None:
    storage = FakeStorage()
    world = World(storage)
    made = await world.set_up()
    clean = set(storage.records)
    org = await fill(world, BUCKETS)
    full = set(storage.records)
    storage.crash_at, storage.crash_before = crash_at, before
    with pytest.raises(Crash):
        await org_removal.remove(world.context, world.context.records.reader(), org)
    storage.crash_at = None

    again = World(storage)  # the next process
    if crash_at == 1 and before:
        assert set(storage.records) == full
        return
    listed = await again.send("GET", f"/api/v2/orgs/{org.id}", TOKEN_HEADER)
    assert listed.status == 404
    with pytest.raises(NotFound):
        await again.resolver.mappings(org.id)
    with pytest.raises(NotFound):
        await again.resolver.bucket("", org.id, "b1")
    # The name is free at once, and what is made under it is no part of what is swept.
    body = json.dumps({"name": "big"}).encode()
    assert (await again.send("POST", "/api/v2/orgs", TOKEN_HEADER, body)).status == 201
    reborn = set(storage.records) - full
    assert await org_removal.sweep_all(again.context) == 1
    assert set(storage.records) == clean | {key for key in reborn if key[0] != "org_removal"}
    assert len(storage.dropped_buckets) == len(set(storage.dropped_buckets)) == BUCKETS + 2
    assert await org_removal.sweep_all(again.context) == 0
    assert (await again.send("GET", f"/api/v2/orgs/{made.org.id}", TOKEN_HEADER)).status == 200


async def test_storage_that_goes_away_after_the_first_batch_fails_no_delete() -> None:
    world = World()
    await world.set_up()
    clean = set(world.storage.records)
    org = await fill(world, BUCKETS)
    world.storage.down_at = 1
    assert (await world.send("DELETE", f"/api/v2/orgs/{org.id}", TOKEN_HEADER)).status == 204
    assert world.storage.down
    world.storage.down = False
    assert (await world.send("GET", f"/api/v2/orgs/{org.id}", TOKEN_HEADER)).status == 404
    assert await org_removal.sweep_all(world.context) == 1
    assert set(world.storage.records) == clean
