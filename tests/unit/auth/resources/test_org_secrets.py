"""Secrets of organizations: unreadable in storage, bound to their place, and sealed anew under another key."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import CannotStart
from common.rpc import wire
from services.auth.entities.orgs import Secret
from services.auth.records.change import Change
from services.auth.resources.org_secrets import seal_all
from services.auth.security.sealing import CannotOpen, Sealer
from tests.unit.auth.fake_storage import FakeStorage
from tests.unit.auth.world import TOKEN, World

OLD, NEW = "the old key of 32 bytes or some more", "the new key of 32 bytes or some more"
VALUE = "a value that nobody may read"
TOKEN_HEADER = {"authorization": f"Token {TOKEN}"}


@given(st.text(), st.text())
def test_what_is_sealed_opens_at_its_place(value: str, place: str) -> None:
    value, place = (text.encode("utf-8", "replace").decode() for text in (value, place))
    sealer = Sealer([b"k" * 32])
    sealed = sealer.seal(value, place)
    assert sealer.open(sealed, place) == value
    assert sealer.is_current(sealed)
    with pytest.raises(CannotOpen):
        sealer.open(sealed, place + "x")


def test_equal_values_do_not_look_equal() -> None:
    sealer = Sealer([b"k" * 32])
    assert sealer.seal(VALUE, "p") != sealer.seal(VALUE, "p")


def test_what_was_tampered_with_or_cut_does_not_open() -> None:
    sealer = Sealer([b"k" * 32])
    sealed = sealer.seal(VALUE, "p")
    for at in range(len(sealed)):
        other = "A" if sealed[at] != "A" else "B"
        with pytest.raises(CannotOpen):
            sealer.open(sealed[:at] + other + sealed[at + 1 :], "p")
        with pytest.raises(CannotOpen):
            sealer.open(sealed[:at], "p")


@pytest.mark.parametrize("length", [28, 29, 30])
def test_no_other_spelling_of_the_same_bytes_opens(length: int) -> None:
    """Base64 leaves up to four bits of its last character unused, and its decoder skips what is not of its alphabet."""
    sealer = Sealer([b"k" * 32])
    sealed = sealer.seal("v" * length, "p")
    last = len(sealed.rstrip("=")) - 1
    others = [sealed[:last] + char + sealed[last + 1 :] for char in string.ascii_letters + string.digits + "-_"]
    for other in [*others, sealed + "=", sealed + "\n", sealed[:-4] + " " + sealed[-4:]]:
        if other != sealed:
            with pytest.raises(CannotOpen):
                sealer.open(other, "p")


@pytest.mark.parametrize("keys", [[], [b"short"], [b"k" * 32, b"short"]])
def test_keys_that_are_too_short_do_not_start(keys: list[bytes]) -> None:
    with pytest.raises(CannotStart, match="TIDEGATE_SECRETS_KEY"):
        Sealer(keys)


async def put(world: World, secrets: dict[str, str]) -> None:
    made = json.loads((await world.send("GET", "/api/v2/orgs", TOKEN_HEADER)).body)["orgs"][0]["id"]
    got = await world.send("PATCH", f"/api/v2/orgs/{made}/secrets", TOKEN_HEADER, json.dumps(secrets).encode())
    assert got.status == 204


def stored(storage: FakeStorage) -> list[Secret]:
    return [Secret.from_record(record) for (kind, _), record in storage.records.items() if kind == "secret"]


def opened(storage: FakeStorage, *keys: str) -> dict[str, str]:
    sealer = Sealer([key.encode() for key in keys])
    return {secret.key: sealer.open(secret.sealed, secret.place) for secret in stored(storage)}


def has_value(storage: FakeStorage) -> bool:
    return any(VALUE.encode() in wire.encode_head(record) for record in storage.records.values())


async def test_storage_holds_no_value() -> None:
    world = World(secrets_key=OLD)
    await world.set_up()
    await put(world, {"k": VALUE, "other": "x"})
    await put(world, {"k": f"{VALUE}, changed"})
    assert not has_value(world.storage)
    assert opened(world.storage, OLD) == {"k": f"{VALUE}, changed", "other": "x"}


async def test_what_an_earlier_release_kept_readable_is_sealed_at_the_start() -> None:
    world = World(secrets_key=OLD)
    made = await world.set_up()
    change = Change()
    change.puts += [
        {"kind": "secret", "id": f"{n:016x}", "body": {"org_id": made.org.id, "key": f"k{n}", "value": VALUE},
         "unique": [Secret.name_key(made.org.id, f"k{n}")], "indexes": {"org_id": made.org.id}}
        for n in range(450)
    ]  # fmt: skip
    await world.context.records.change(change)
    assert has_value(world.storage)
    assert await seal_all(world.context) == (450, 0)
    assert not has_value(world.storage)
    assert opened(world.storage, OLD) == {f"k{n}": VALUE for n in range(450)}
    assert await seal_all(world.context) == (0, 0)
    await put(world, {"k1": "new"})
    assert opened(world.storage, OLD)["k1"] == "new"


async def test_a_key_is_rotated_by_a_start_with_both() -> None:
    world = World(secrets_key=OLD)
    await world.set_up()
    await put(world, {"a": VALUE, "b": VALUE})
    rotating = World(world.storage, secrets_key=f"{NEW},{OLD}")
    assert await seal_all(rotating.context) == (2, 0)
    assert opened(world.storage, NEW) == {"a": VALUE, "b": VALUE}


async def test_a_lost_key_is_told_and_nothing_is_thrown_away() -> None:
    world = World(secrets_key=OLD)
    await world.set_up()
    await put(world, {"a": VALUE})
    other = World(world.storage, secrets_key=NEW)
    assert await seal_all(other.context) == (0, 1)
    assert opened(world.storage, OLD) == {"a": VALUE}
    await put(other, {"a": "given anew"})
    assert opened(world.storage, NEW) == {"a": "given anew"}


async def test_more_than_storage_changes_at_once_is_refused_in_words_of_the_api() -> None:
    world = World()
    path = f"/api/v2/orgs/{(await world.set_up()).org.id}/secrets"
    answer = await world.send("PATCH", path, TOKEN_HEADER, json.dumps({f"k{n}": "" for n in range(10_001)}).encode())
    assert answer.status == 413
    assert json.loads(answer.body)["message"] == "too many objects are changed at once: ask for fewer"
    assert json.loads((await world.send("GET", path, TOKEN_HEADER)).body)["secrets"] == []
