"""Which passwords are taken."""

from __future__ import annotations

import pytest

from common.errors import Invalid
from services.auth.security.passwords import check_acceptable


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
