"""Token values, and how storage keeps them."""

from __future__ import annotations

import pytest

from services.auth.security.hashing import Hasher, make_secret


def test_tokens_are_88_characters_and_never_the_same() -> None:
    made = {make_secret() for _ in range(10_000)}
    assert len(made) == 10_000
    assert {len(token) for token in made} == {88}


def test_hashes_differ_by_kind_and_by_key() -> None:
    one, other = Hasher(b"1" * 32), Hasher(b"2" * 32)
    assert len({one.token("x"), one.session("x"), other.token("x"), one.token("y")}) == 4
    with pytest.raises(ValueError, match="TIDEGATE_TOKEN_KEY"):
        Hasher(b"short")
