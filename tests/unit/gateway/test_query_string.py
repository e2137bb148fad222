from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid
from services.gateway.query_string import MAX_PAIRS, first_values, parse_pairs, unescape_path


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a=1&b=2", [("a", "1"), ("b", "2")]),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("=1", [("", "1")]),
        ("a=1=2", [("a", "1=2")]),
        ("a=1&&b=2&", [("a", "1"), ("b", "2")]),
        ("a=x+y%20z", [("a", "x y z")]),
        ("a%3Db=1", [("a=b", "1")]),
        ("a=%2B", [("a", "+")]),
        ("a=%25zz", [("a", "%zz")]),
        ("a=%zz&b=1", [("b", "1")]),
        ("a=1;b=2&c=3", [("c", "3")]),
        ("a=%C3%A9", [("a", "é")]),
        ("a=é+%C3%A9", [("a", "é é")]),
        ("a=%FF", [("a", "\udcff")]),
        ("a=%00", [("a", "\0")]),
    ],
)
def test_pairs_are_read_as_go_reads_them(text: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_pairs(text) == pairs


def test_the_first_of_a_name_counts() -> None:
    assert first_values(parse_pairs("db=a&db=b&db=")) == {"db": "a"}


def test_the_number_of_pairs_is_bounded() -> None:
    assert len(parse_pairs("&".join(["a=1"] * MAX_PAIRS))) == MAX_PAIRS
    with pytest.raises(Invalid, match="more than 1000 parameters"):
        parse_pairs("&".join(["a=1"] * (MAX_PAIRS + 1)))


def test_a_path_is_unescaped_once() -> None:
    assert unescape_path("/a%2Fb/%252e+c") == "/a/b/%2e+c"
    with pytest.raises(Invalid):
        unescape_path("/%2")


@given(st.text())
def test_any_text_gives_pairs(text: str) -> None:
    parse_pairs(text)


@given(st.binary())
def test_escaped_bytes_come_back(raw: bytes) -> None:
    escaped = "".join(f"%{byte:02X}" for byte in raw)
    assert parse_pairs(f"a={escaped}")[0][1].encode("utf-8", "surrogateescape") == raw
