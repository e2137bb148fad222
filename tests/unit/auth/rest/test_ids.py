"""Ids as text."""

from __future__ import annotations

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
