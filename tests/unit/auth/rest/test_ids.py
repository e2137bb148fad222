"""Ids as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid
from services.auth.rest import ids


@given(st.text(max_size=20))
def test_any_text_is_an_id_or_invalid(text: str) -> None:
    try:
        assert len(ids.parse_id(text)) == 16
    except Invalid as error:
        assert str(error) in (ids.WRONG_LENGTH, ids.WRONG_DIGITS)


@pytest.mark.parametrize(
    "text", ["0x23456789abcdef", "0X23456789ABCDEF", "0000000000000000", "1_23456789abcdef", "g" * 16]
)
def test_sixteen_characters_that_are_no_hex_digits_are_no_id(text: str) -> None:
    assert ids.find_id(text) is None
    with pytest.raises(Invalid, match=ids.WRONG_DIGITS):
        ids.parse_id(text)


def test_an_id_is_shown_in_lower_case() -> None:
    assert ids.parse_id("00FFabCD01234567") == "00ffabcd01234567"
