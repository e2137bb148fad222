"""Ids, layouts, durations, password rules, permissions: what needs no storage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid, Unprocessable
from common.identity import Identity, Permission, operator_permissions
from services.auth import bucket_rules, ids, mappings, setup
from services.auth.hashing import Hasher
from services.auth.id_maker import EPOCH_MS, IdMaker, make_secret
from services.auth.jsonlayout import COMPACT, encode, format_time
from services.auth.passwords import check_acceptable
from services.auth.permissions import all_access, has_part_in


def test_later_ids_are_greater_even_when_the_clock_goes_back() -> None:
    times = iter([1_700_000_000_000] * 6000 + [1_600_000_000_000] * 10)
    maker = IdMaker(lambda: next(times))
    made = [maker.sortable() for _ in range(6010)]
    assert made == sorted(set(made))
    assert all(ids.find_id(id) == id for id in made)


def test_an_id_carries_the_millisecond_since_2017() -> None:
    assert int(IdMaker(lambda: EPOCH_MS + 5, machine=3).sortable(), 16) >> 22 == 5


def test_tokens_are_88_characters_and_never_the_same() -> None:
    made = {make_secret() for _ in range(10_000)}
    assert len(made) == 10_000
    assert {len(token) for token in made} == {88}


@given(st.text(max_size=20))
def test_any_text_is_an_id_or_invalid(text: str) -> None:
    try:
        assert len(ids.parse_id(text)) == 16
    except Invalid as error:
        assert str(error) in (ids.WRONG_LENGTH, ids.WRONG_DIGITS)


def test_json_is_laid_out_and_escaped_as_go_does_it() -> None:
    value = {"a": "<&>\u2028", "b": [], "c": {}}
    assert encode(value) == b'{\n\t"a": "\\u003c\\u0026\\u003e\\u2028",\n\t"b": [],\n\t"c": {}\n}'
    assert encode(value, COMPACT) == b'{"a":"\\u003c\\u0026\\u003e\\u2028","b":[],"c":{}}\n'


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1_500_000_000, "1970-01-01T00:00:01.5Z"), (1, "1970-01-01T00:00:00.000000001Z")],
)
def test_times_end_with_no_zeros(time_ns: int, text: str) -> None:
    assert format_time(time_ns) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("0", 0), ("0s", 0), ("7d", 604_800), ("1w", 604_800), ("72h30m", 261_000), ("1500ms", 1)],
)
def test_durations_of_the_images_settings(text: str, seconds: int) -> None:
    assert setup.parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["7", "d", "-1h", "1.5h", "7 d", "1y", "9" * 70 + "w", "99999999999999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        setup.parse_duration_s(text)


def test_a_password_has_8_to_72_bytes() -> None:
    for good in ("influxv1", "Ä" * 4, "x" * 72):
        check_acceptable(good)
    for bad in ("", "1234567", "Ä" * 37, "x" * 73):
        with pytest.raises(Invalid, match="passwords must be between 8 and 72 characters long"):
            check_acceptable(bad)


def test_a_strong_password_has_three_kinds_of_characters() -> None:
    check_acceptable("Password1", strong=True)
    with pytest.raises(Invalid, match=r"^passwords must be between .*\npasswords must contain at least three"):
        check_acceptable("weak", strong=True)


@pytest.mark.parametrize(
    ("retention_s", "shard_s"),
    [(0, 604_800), (3600, 3600), (172_799, 3600), (172_800, 86_400), (15_551_999, 86_400), (15_552_000, 604_800)],
)
def test_default_shard_lengths(retention_s: int, shard_s: int) -> None:
    assert bucket_rules.check_retention(retention_s, 0) == shard_s


def test_a_retention_longer_than_time_itself_is_refused() -> None:
    with pytest.raises(Unprocessable):
        bucket_rules.check_retention(1 << 62, 0)


def test_the_names_of_virtual_mappings() -> None:
    assert mappings.virtual_names("a") == ("a", "autogen", True)
    assert mappings.virtual_names("a/b/c") == ("a", "b/c", False)


def _identity(*permissions: Permission, org_id: str | None = None) -> Identity:
    return Identity("token", "1" * 16, "2" * 16, org_id, permissions)


def test_who_has_a_part_in_an_organization() -> None:
    ours, theirs, user = "a" * 16, "b" * 16, "c" * 16
    assert has_part_in(_identity(*operator_permissions()), theirs)
    member = _identity(*all_access(ours, user))
    assert has_part_in(member, ours)
    assert not has_part_in(member, theirs)
    assert not has_part_in(_identity(Permission("read", "users", user)), ours)
    assert not has_part_in(_identity(Permission("read", "users")), ours)


def test_hashes_differ_by_kind_and_by_key() -> None:
    one, other = Hasher(b"1" * 32), Hasher(b"2" * 32)
    assert len({one.token("x"), one.session("x"), other.token("x"), one.token("y")}) == 4
    with pytest.raises(ValueError, match="TIDEGATE_TOKEN_KEY"):
        Hasher(b"short")
