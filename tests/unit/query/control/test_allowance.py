"""Seconds of one token: used up, given back evenly, nobody else's."""

from __future__ import annotations

import pytest

from common.errors import TooManyRequests
from services.query.control import allowance
from services.query.control.allowance import Allowance


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_token_waits_until_it_has_time_again() -> None:
    clock = Clock()
    seconds = Allowance(6, clock)
    seconds.check("a")
    seconds.spend("a", 5)
    seconds.check("a")
    seconds.spend("a", 3)
    with pytest.raises(TooManyRequests) as caught:
        seconds.check("a")
    assert caught.value.retry_after_s == 20
    seconds.check("b")
    clock.now_s += 19
    with pytest.raises(TooManyRequests):
        seconds.check("a")
    clock.now_s += 2
    seconds.check("a")
    clock.now_s += 1000
    seconds.spend("a", 5.9)
    seconds.check("a")


def test_no_limit_is_no_limit() -> None:
    seconds = Allowance(0, Clock())
    seconds.spend("a", 1e9)
    seconds.check("a")


def test_the_tokens_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "MAX_TOKENS", 3)
    seconds = Allowance(1, Clock())
    for number in range(10):
        seconds.spend(str(number), 2)
    seconds.check("0")
    with pytest.raises(TooManyRequests):
        seconds.check("9")
