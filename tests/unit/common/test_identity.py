"""Identities between services: what is sent is what arrives."""

from __future__ import annotations

import msgpack
import pytest

from common.errors import Invalid
from common.identity import REMEMBERED_BYTES, Identity, Permission, operator_permissions, owner_permissions

SCOPED = (
    Permission("read", "buckets", "b1", "o1"),
    Permission("write", "buckets", None, "o1"),
    Permission("read", "x"),
)


@pytest.mark.parametrize("permissions", [(), SCOPED, operator_permissions(), owner_permissions("o1")])
def test_an_identity_arrives_as_it_was_sent(permissions: tuple[Permission, ...]) -> None:
    sent = Identity("token", "c1", "u1", "o1", permissions, active=False, expires_ms=7)
    assert Identity.from_wire(bytes(bytearray(sent.to_wire()))) == sent


def test_permissions_that_differ_in_one_word_stay_apart() -> None:
    """The id of one is not the organization of another."""
    held = (
        Permission("read", "buckets", "a"),
        Permission("read", "buckets", None, "a"),
        Permission("write", "buckets", "a"),
    )
    again = Identity.from_wire(Identity("token", "c1", "u1", "o1", held).to_wire())
    assert again.permissions == held
    assert [again.may("read", "buckets", "a", "z"), again.may("write", "buckets", "b", "a")] == [True, False]


def test_the_same_bytes_are_the_same_object_unless_they_are_many() -> None:
    few = Identity("token", "c1", "u1", "o1", SCOPED)
    assert Identity.from_wire(few.to_wire()) is Identity.from_wire(few.to_wire())
    many = Identity("token", "c1", "u1", "o1", tuple(Permission("read", "buckets", f"{n:016x}") for n in range(200)))
    assert len(many.to_wire()) > REMEMBERED_BYTES
    assert Identity.from_wire(many.to_wire()) == many
    assert Identity.from_wire(many.to_wire()) is not Identity.from_wire(many.to_wire())


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xc1",
        b"\x90",
        msgpack.packb(7),
        msgpack.packb(["token", "c", "u", "o", True, None, 7]),
        msgpack.packb(["token", "c", "u", "o", True, None, [["read"]]]),
        Identity("token", "c", "u", "o", SCOPED).to_wire()[:-1],
        Identity("token", "c", "u", "o", SCOPED).to_wire() + b"\x00",
    ],
)
def test_what_is_no_identity_is_refused(wire: bytes) -> None:
    with pytest.raises(Invalid, match="cannot decode an identity"):
        Identity.from_wire(wire)
