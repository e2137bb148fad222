"""Plans told as differences: whoever applies them holds what storage would tell as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.segment import decode_block, encode_block
from services.storage.reading.segments import NewSegment
from services.storage.state import removals
from services.storage.state.removals import Removals
from services.storage.storage import Storage
from tests.services.storage_parts import Calls, make_block, running, series_ids

IDS = series_ids(2)


async def follow(calls: Calls, held: dict[int, Any], version: int) -> tuple[dict[int, Any], int, bool]:
    """Ask with *version*, apply the answer; also whether it was a difference."""
    plan = await calls.plan(held=version)
    if plan is None:
        return held, version, False
    added = {entry[0]: entry[1:] for entry in plan["segments"]}
    if "gone" not in plan:
        return added, plan["version"], False
    return {id: rest for id, rest in held.items() if id not in plan["gone"]} | added, plan["version"], True


async def compact_first(storage: Storage, count: int) -> None:
    """The oldest *count* segments become one."""
    oldest = sorted(storage.state.segments(), key=lambda segment: segment.order)[:count]
    meta, chunks = await storage.segments.read_segment(oldest[-1].id)
    new = NewSegment(*encode_block(decode_block(meta, chunks), 1))
    await storage.segments.replace([segment.id for segment in oldest], [new])


async def test_differences_add_up_to_the_whole_plan(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()
        held: dict[int, Any] = {}
        version, differences = -1, 0
        for step in range(30):
            await calls.append(make_block(IDS, [step]))
            if step % 7 == 6:
                await compact_first(storage, 3)
            if step % 11 == 10:
                await storage.segments.quarantine(next(iter(storage.state.segments())).id, "to see")
            if step % 2:
                held, version, is_difference = await follow(calls, held, version)
                differences += is_difference
                assert held == {entry[0]: entry[1:] for entry in (await calls.plan())["segments"]}
        assert differences == 14
        assert await calls.plan(held=version) is None
        one_more = make_block(IDS, [99])
        await calls.append(one_more)
        assert len((await calls.plan(held=version))["segments"]) == 1
    async with running(tmp_path) as (calls, _):
        # What went before the start is not known: the whole is told.
        held, version, is_difference = await follow(calls, held, version)
        assert not is_difference
        assert held == {entry[0]: entry[1:] for entry in (await calls.plan())["segments"]}


def test_removals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "MAX_REMOVALS", 3)
    found = Removals(10)
    for number in (11, 12, 13):
        found.add(number, number * 100)
    assert found.after(9) is None
    assert found.after(10) == [1300, 1200, 1100]
    assert found.after(13) == []
    found.add(14, 1400)
    assert found.after(10) is None
    assert found.after(11) == [1400, 1300, 1200]
