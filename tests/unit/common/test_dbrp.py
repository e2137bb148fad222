"""The rule from database and retention policy to a bucket."""

from __future__ import annotations

import pytest

from common.dbrp import MappingTable
from common.identity import Identity, Permission

ORG = "00000000000000aa"
A, B, C = (f"{n:016x}" for n in (1, 2, 3))


def wire(database: str, policy: str, default: bool, virtual: bool, bucket: str) -> list[object]:
    return [database, policy, default, virtual, [bucket, ORG, f"b{bucket}", 0, 604_800_000_000_000]]


def holder(*permissions: Permission) -> Identity:
    return Identity("token", "1", "2", ORG, permissions)


EVERYTHING = holder(Permission("read", "buckets", None, ORG), Permission("write", "buckets", None, ORG))


@pytest.mark.parametrize(
    ("database", "policy", "expected"),
    [
        ("mydb", "", A),
        ("mydb", "autogen", A),
        ("mydb", "other", None),
        ("a", "b/c", B),
        ("a", "", None),
        ("a/b/c", "", None),
        ("", "", None),
    ],
)
def test_virtual_mappings_serve_their_own_names(database: str, policy: str, expected: str | None) -> None:
    table = MappingTable.from_wire([wire("mydb", "autogen", True, True, A), wire("a", "b/c", False, True, B)])
    found = table.find(database, policy, EVERYTHING)
    assert (found.bucket.id if found else None) == expected


def test_a_stored_default_wins_over_the_virtual_one() -> None:
    stored, virtual = wire("db", "week", True, False, B), wire("db", "autogen", True, True, A)
    for order in ([stored, virtual], [virtual, stored]):
        found = MappingTable.from_wire(order).find("db", "", EVERYTHING)
        assert found is not None
        assert found.bucket.id == B


def test_a_named_policy_reaches_a_mapping_that_is_not_the_default() -> None:
    table = MappingTable.from_wire([wire("db", "week", True, False, B), wire("db", "autogen", False, True, A)])
    found = table.find("db", "autogen", EVERYTHING)
    assert found is not None
    assert found.bucket.id == A


@pytest.mark.parametrize(
    ("permissions", "found"),
    [
        ([Permission("write", "buckets", A, ORG)], True),
        ([Permission("read", "buckets", A, ORG)], True),
        ([Permission("write", "buckets", B, ORG)], False),
        ([Permission("write", "buckets", None, "00000000000000bb")], False),
        ([], False),
    ],
)
def test_a_mapping_is_seen_by_who_may_read_or_write_its_bucket(permissions: list[Permission], found: bool) -> None:
    table = MappingTable.from_wire([wire("db", "autogen", True, True, A)])
    assert (table.find("db", "", holder(*permissions)) is not None) is found


def test_an_inactive_token_sees_nothing() -> None:
    identity = Identity("token", "1", "2", ORG, EVERYTHING.permissions, active=False)
    assert MappingTable.from_wire([wire("db", "autogen", True, True, A)]).find("db", "", identity) is None


def test_the_mappings_of_a_database_are_listed_stored_first() -> None:
    table = MappingTable.from_wire([wire("db", "week", True, False, B), wire("db", "autogen", False, True, A)])
    assert [mapping.retention_policy for mapping in table.of_database("db")] == ["week", "autogen"]
    assert table.of_database("none") == ()
