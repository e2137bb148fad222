"""Wrong passwords: how many, from where, for how long."""

from __future__ import annotations

import asyncio

import pytest

from common.errors import TooManyRequests, Unauthorized, Unavailable
from services.auth.security.attempts import WINDOW_S, Attempts


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(10, 64, clock)


async def _wrong(attempts: Attempts, name: str, remote: str, count: int = 1) -> None:
    for _ in range(count):
        with pytest.raises(Unauthorized):
            async with attempts.one(name, remote):
                raise Unauthorized("no")


async def _right(attempts: Attempts, name: str, remote: str) -> None:
    async with attempts.one(name, remote):
        pass


async def test_after_ten_wrong_ones_the_right_one_waits_for_the_window(attempts: Attempts, clock: Clock) -> None:
    await _wrong(attempts, "a", "10.0.0.1", 10)
    clock.now_s += 20
    with pytest.raises(TooManyRequests) as refused:
        await _right(attempts, "a", "10.0.0.1")
    assert refused.value.retry_after_s == 40
    clock.now_s += WINDOW_S - 20
    await _right(attempts, "a", "10.0.0.1")


async def test_other_names_elsewhere_are_not_touched(attempts: Attempts) -> None:
    await _wrong(attempts, "a", "10.0.0.1", 10)
    await _right(attempts, "b", "10.0.0.2")
    for name, remote in (("b", "10.0.0.1"), ("a", "10.0.0.2")):
        with pytest.raises(TooManyRequests):
            await _right(attempts, name, remote)


async def test_who_is_known_at_an_address_is_not_locked_out_by_others(attempts: Attempts) -> None:
    await _right(attempts, "a", "10.0.0.1")
    await _wrong(attempts, "a", "10.0.0.2", 10)
    await _wrong(attempts, "b", "10.0.0.1", 10)
    await _right(attempts, "a", "10.0.0.1")


async def test_a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4(attempts: Attempts) -> None:
    for n in range(10):
        await _wrong(attempts, f"user{n}", f"2001:db8::{n}")
    with pytest.raises(TooManyRequests):
        attempts.check("other", "2001:db8::ffff")
    attempts.check("other", "2001:db8:0:1::1")
    await _wrong(attempts, "x", "::ffff:10.0.0.9", 10)
    with pytest.raises(TooManyRequests):
        attempts.check("y", "10.0.0.9")


async def test_a_flood_at_once_gets_ten(attempts: Attempts) -> None:
    async def one() -> str:
        try:
            async with attempts.one("a", "10.0.0.1"):
                await asyncio.sleep(0)
                raise Unauthorized("no")
        except (Unauthorized, TooManyRequests) as error:
            return error.code

    codes = await asyncio.gather(*(one() for _ in range(1000)))
    assert codes.count("unauthorized") == 10


async def test_many_right_ones_at_once_all_get_in(attempts: Attempts) -> None:
    await asyncio.gather(*(_right(attempts, f"telegraf{n}", "10.0.0.1") for n in range(60)))


async def test_our_own_trouble_is_not_a_wrong_password(attempts: Attempts) -> None:
    for _ in range(30):
        with pytest.raises(Unavailable):
            async with attempts.one("a", "10.0.0.1"):
                raise Unavailable("storage is away")
    await _right(attempts, "a", "10.0.0.1")


async def test_no_limit_is_no_limit() -> None:
    attempts = Attempts(0)
    await _wrong(attempts, "a", "10.0.0.1", 50)
    await _right(attempts, "a", "10.0.0.1")


async def test_a_long_name_takes_no_more_memory_than_a_short_one(attempts: Attempts) -> None:
    await _wrong(attempts, "n" * 4000, "10.0.0.1")
    assert {len(key) for key in (*attempts._wrong, *attempts._known)} == {16}
