"""The predicate of /api/v2/delete: its comparisons, its refusals with their positions, and any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InfluxError, Invalid, NotImplementedHere
from services.query.removal.predicate import Comparison, parse_predicate
from services.query.removal.request import parse_body


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("  ", []),
        ('a="b"', [("a", "b", True)]),
        ("a=b", [("a", "b", True)]),
        ("a != b-c", [("a", "b-c", False)]),
        ('"a b"="c \\" d"', [("a b", 'c " d', True)]),
        ('(a="b") AnD ((c!="d"))', [("a", "b", True), ("c", "d", False)]),
        ('a=""', [("a", "", True)]),
        ('_measurement="m" and ü="ö"', [("_measurement", "m", True), ("ü", "ö", True)]),
    ],
)
def test_comparisons(text: str, wanted: list[tuple[str, str, bool]]) -> None:
    assert parse_predicate(text) == tuple(Comparison(*each) for each in wanted)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('t="a" or t="b"', "the logical operator OR is not supported yet at position 6"),
        ('ü="a" or t="b"', "the logical operator OR is not supported yet at position 7"),
        ('t=~"a"', 'operator: "=~" at position: 1 is not supported yet'),
        ("load>3", 'invalid operator ">" at position: 4'),
        ("t='a'", 'bad tag value: "a", at position 1'),
        ("(a=b", "extra ( seen"),
        ("a=b)", "extra ) seen"),
        ("a", 'invalid operator "EOF" at position: 1'),
        ("=", "bad logical expression, at position 0"),
        ("(" * 1000, "bad logical expression, at position 100"),
    ],
)
def test_refusals(text: str, error: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_predicate(text)
    assert str(refused.value) == error


def test_fields_cannot_be_deleted() -> None:
    with pytest.raises(NotImplementedHere, match="delete by field is not supported"):
        parse_predicate('_field="x"')


@given(st.text(max_size=60) | st.text("ab=!~\"'() <>\\ANDor", max_size=40))
def test_any_text_gives_comparisons_or_an_error(text: str) -> None:
    try:
        parse_predicate(text)
    except InfluxError as error:
        assert str(error)


@given(st.binary(max_size=60))
def test_any_body_gives_a_delete_or_an_error(body: bytes) -> None:
    with pytest.raises(Invalid, match="error decoding json body: "):
        parse_body(body)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"start" 1}', "invalid character '1' after object key"),
        (b"{start: 1}", "invalid character 's' looking for beginning of object key string"),
        (
            b'{"start": 1}',
            "json: cannot unmarshal number into Go struct field deleteRequestDecode.start of type string",
        ),
    ],
)
def test_a_bad_body_is_refused_in_the_words_of_gos_decoder(body: bytes, error: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_body(body)
    assert str(caught.value) == f"error decoding json body: {error}"
