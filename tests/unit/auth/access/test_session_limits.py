"""S21: how long a session lives, by a clock that is moved: unused, used and left, and used all the time."""

from __future__ import annotations

import base64

from common.errors import Unauthorized
from services.auth.entities.users import Session
from tests.system.security.figures import show
from tests.unit.auth.world import PASSWORD, USER, World

MINUTE_NS = 60 * 10**9


async def _sign_in(world: World) -> str:
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    answer = await world.send("POST", "/api/v2/signin", {"authorization": f"Basic {basic}"})
    return answer.headers["set-cookie"].partition(";")[0].partition("=")[2]


async def _lives(world: World, cookie: str) -> bool:
    try:
        await world.identity(cookie, "session")
    except Unauthorized:
        return False
    return True


async def _expires_min(world: World) -> float:
    """Minutes from now to the end of the session that lives longest, as it is kept."""
    kept = await world.context.records.reader().list_all(Session)
    return (max(session.expires_ms for session in kept) - world.context.now_ms()) / 60_000


async def _lasts_min(world: World, most_min: int) -> int:
    """The minute in which a session that is used once a minute is found dead; one more than *most_min* = never."""
    began_ns = world.shift_ns
    cookie = await _sign_in(world)
    for minute in range(1, most_min + 1):
        world.shift_ns = began_ns + minute * MINUTE_NS
        if not await _lives(world, cookie):
            return minute
    return most_min + 1


async def test_s21_an_unused_session_ends_after_its_length() -> None:
    world = World(session_length_m=60)
    await world.set_up()
    cookie = await _sign_in(world)
    minutes = await _expires_min(world)
    world.shift_ns += 60 * MINUTE_NS
    show("S21", f"unused:{minutes:.1f}min", "60min", 59.9 < minutes <= 60 and not await _lives(world, cookie))


async def test_s21_a_used_session_ends_five_minutes_after_its_last_use() -> None:
    world = World(session_length_m=1)
    await world.set_up()
    cookie = await _sign_in(world)
    world.shift_ns += MINUTE_NS // 2
    assert await _lives(world, cookie)
    minutes = await _expires_min(world)
    world.shift_ns += 5 * MINUTE_NS
    show("S21", f"idle:{minutes:.1f}min", "5min", 4.9 < minutes <= 5 and not await _lives(world, cookie))


async def test_s21_a_session_that_is_always_used_ends_at_the_absolute_limit() -> None:
    world = World(session_length_m=60, session_max_m=120)
    await world.set_up()
    minutes = await _lasts_min(world, 500)
    show("S21", f"absolute:{minutes}min", "120min", minutes == 120)


async def test_s21_without_an_absolute_limit_use_prolongs_a_session_for_ever() -> None:
    world = World(session_length_m=60)
    await world.set_up()
    minutes = await _lasts_min(world, 500)
    show("S21", f"no limit:{minutes - 1}min", "500min", minutes == 501)


async def test_a_limit_under_the_length_of_a_session_shortens_it() -> None:
    world = World(session_length_m=60, session_max_m=10)
    await world.set_up()
    await _sign_in(world)
    assert 9.9 < await _expires_min(world) <= 10


async def test_a_limit_that_is_set_later_ends_the_sessions_that_are_older() -> None:
    world = World(session_length_m=60)
    await world.set_up()
    cookie = await _sign_in(world)
    limited = World(world.storage, session_max_m=10)
    limited.shift_ns = 9 * MINUTE_NS
    assert await _lives(limited, cookie)
    limited.shift_ns = 10 * MINUTE_NS
    assert not await _lives(limited, cookie)
