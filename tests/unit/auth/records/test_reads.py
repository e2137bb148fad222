"""Reads of records that are wanted at one time travel together, each with its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from common.errors import Unavailable
from services.auth.records.reads import CALLS, READS_PER_CALL, Answers, JoinedReads, Read


class Played:
    """Storage that answers each read with its own id; ``hold`` keeps it waiting."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.error: Exception | None = None

    async def ask(self, reads: Sequence[Read]) -> Answers:
        number = len(self.calls)
        self.calls.append(len(reads))
        await self.hold.wait()
        if self.error is not None:
            raise self.error
        return number, [[read[2]] if read[2] else [] for read in reads]


async def test_what_is_wanted_at_one_time_is_one_call() -> None:
    played = Played()
    reads = JoinedReads(played.ask)
    found = await asyncio.gather(*(reads.one(["id", "user", str(n)]) for n in range(20)), reads.one(["id", "user", ""]))
    assert found == [*((0, [str(n)]) for n in range(20)), (0, [])]
    assert played.calls == [21]


async def test_what_comes_while_calls_are_under_way_waits_for_one_of_them_and_sees_a_later_number() -> None:
    played = Played()
    played.hold.clear()
    reads = JoinedReads(played.ask)
    first = []
    for n in range(CALLS):
        first.append(asyncio.create_task(reads.one(["id", "user", str(n)])))
        while len(played.calls) <= n:
            await asyncio.sleep(0)
    later = [asyncio.create_task(reads.one(["id", "user", str(n)])) for n in range(READS_PER_CALL + 1)]
    await asyncio.sleep(0.01)
    assert played.calls == [1] * CALLS
    played.hold.set()
    await asyncio.gather(*first)
    assert [(await one)[0] for one in later] == [CALLS] * READS_PER_CALL + [CALLS + 1]
    assert played.calls == [1] * CALLS + [READS_PER_CALL, 1]


@pytest.mark.parametrize("error", [Unavailable("cannot reach storage"), RuntimeError("a fault")])
async def test_all_who_wait_are_told_that_it_failed_and_the_next_are_asked(error: Exception) -> None:
    played = Played()
    played.error = error
    reads = JoinedReads(played.ask)
    found: list[Any] = await asyncio.gather(
        *(reads.one(["id", "user", str(n)]) for n in range(5)), return_exceptions=True
    )
    expected = "cannot reach storage" if isinstance(error, Unavailable) else "internal error"
    assert [str(one) for one in found] == [expected] * 5
    played.error = None
    assert await reads.one(["id", "user", "1"]) == (1, ["1"])


async def test_one_who_goes_away_takes_nobody_along() -> None:
    played = Played()
    played.hold.clear()
    reads = JoinedReads(played.ask)
    tasks = [asyncio.create_task(reads.one(["id", "user", str(n)])) for n in range(3)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    played.hold.set()
    assert [(await task)[1] for task in (tasks[0], tasks[2])] == [["0"], ["2"]]
    assert tasks[1].cancelled()
