"""Retention and shard lengths."""

from __future__ import annotations

import pytest

from common.errors import Unprocessable
from services.auth.resources import bucket_rules


@pytest.mark.parametrize(
    ("retention_s", "shard_s"),
    [(0, 604_800), (3600, 3600), (172_799, 3600), (172_800, 86_400), (15_551_999, 86_400), (15_552_000, 604_800)],
)
def test_default_shard_lengths(retention_s: int, shard_s: int) -> None:
    assert bucket_rules.check_retention(retention_s, 0) == shard_s


def test_a_retention_longer_than_time_itself_is_refused() -> None:
    with pytest.raises(Unprocessable):
        bucket_rules.check_retention(1 << 62, 0)
