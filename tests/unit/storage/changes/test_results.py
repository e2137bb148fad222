"""Ids of writes: for how long one is good."""

from __future__ import annotations

import pytest

from common.errors import Invalid
from services.storage.changes.results import REMEMBERED_MS, TOLERANCE_MS, check_ids, oldest_id


@pytest.mark.parametrize(("minted_ms", "good"), [(0, True), (-REMEMBERED_MS, True), (-REMEMBERED_MS - 1, False),
                                                 (TOLERANCE_MS, True), (TOLERANCE_MS + 1, False)])  # fmt: skip
def test_ids_are_good_for_15_minutes(minted_ms: int, good: bool) -> None:
    now_ms = 10**12
    ids = [oldest_id(now_ms), oldest_id(now_ms + minted_ms)]
    if good:
        check_ids(ids, now_ms)
    else:
        with pytest.raises(Invalid):
            check_ids(ids, now_ms)
