"""Durations of the first set-up."""

from __future__ import annotations

import pytest

from common.errors import Invalid
from services.auth.setup import onboarding


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("0", 0), ("0s", 0), ("7d", 604_800), ("1w", 604_800), ("72h30m", 261_000), ("1500ms", 1)],
)
def test_durations_of_the_images_settings(text: str, seconds: int) -> None:
    assert onboarding.parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["7", "d", "-1h", "1.5h", "7 d", "1y", "9" * 70 + "w", "99999999999999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        onboarding.parse_duration_s(text)
