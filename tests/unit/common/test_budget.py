from __future__ import annotations

import pytest

from common.budget import Budget
from common.errors import Unavailable


def test_past_the_limit_it_refuses_with_a_time_to_come_back_and_counts_nothing() -> None:
    budget = Budget(100)
    budget.take(60)
    with pytest.raises(Unavailable, match="TIDEGATE_MEMORY_BYTES") as caught:
        budget.take(41)
    assert caught.value.retry_after_s == 1
    assert budget.used_bytes == 60
    budget.take(40)


def test_what_was_held_is_given_back_whatever_happens() -> None:
    budget = Budget(100)
    with pytest.raises(ValueError), budget.held(100):
        raise ValueError
    assert budget.used_bytes == 0
