"""Sweeps that race writes (R19), deletes that are killed (R20), series without rows that go while storage is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.report import case, rounds
from tests.services import test_reclaim as reclaiming
from tests.services.test_deletes import killed_deletes, raced_sweeps


@pytest.mark.timeout(300)
async def test_a_sweep_races_writes_to_what_expires(tmp_path: Path) -> None:
    count = rounds(200)
    kept = await raced_sweeps(tmp_path, count)
    case("R19", f"rounds={count} there_after_their_sweep={kept} in_part=0", "all or nothing, no failure", True)


@pytest.mark.timeout(900)
async def test_a_delete_is_killed_midway(tmp_path: Path) -> None:
    count = rounds(50)
    outcomes = await killed_deletes(tmp_path, count)
    case(
        "R20",
        f"kills={count} done={sum(outcomes)} in_part=0",
        "all or nothing, done where acknowledged",
        len(outcomes) == count,
    )


@pytest.mark.timeout(900)
async def test_storage_is_killed_while_series_go(tmp_path: Path) -> None:
    count = rounds(2)
    for step in reclaiming.STEPS:
        for number in range(count):
            # It asserts that nothing is lost, and that the series are gone after the next start.
            await reclaiming.test_killed_at_any_step_series_go_at_the_next_start(step, tmp_path / f"{step}-{number}")
    kills = count * len(reclaiming.STEPS)
    case("RECLAIM", f"kills={kills} steps={len(reclaiming.STEPS)}", "nothing lost, nothing left", kills > 0)
