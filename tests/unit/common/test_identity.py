"""Identities between services: what is sent is what arrives."""

from __future__ import annotations

import msgpack
import pytest

from common.identity import Identity, Permission, operator_permissions, owner_permissions

SCOPED = (
    Permission("read", "buckets", "b1", "o1"),
    Permission("write", "buckets", None, "o1"),
    Permission("read", "x"),
)


@pytest.mark.parametrize("permissions", [(), SCOPED, operator_permissions(), owner_permissions("o1")])
def test_an_identity_arrives_as_it_was_sent(permissions: tuple[Permission, ...]) -> None:
    sent = Identity("token", "c1", "u1", "o1", permissions, active=False, expires_ms=7)
    assert Identity.from_wire(msgpack.unpackb(msgpack.packb(sent.to_wire()))) == sent


def test_permissions_that_differ_in_one_word_stay_apart() -> None:
    """Those of the wire are remembered by their words: the id of one is not the organization of another."""
    held = (
        Permission("read", "buckets", "a"),
        Permission("read", "buckets", None, "a"),
        Permission("write", "buckets", "a"),
    )
    again = Identity.from_wire(Identity("token", "c1", "u1", "o1", held).to_wire())
    assert again.permissions == held
    assert [again.may("read", "buckets", "a", "z"), again.may("write", "buckets", "b", "a")] == [True, False]
