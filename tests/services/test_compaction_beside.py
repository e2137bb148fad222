"""R18: writers and readers beside compaction see what they would see without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.errors import Gone
from services.storage.compaction import compaction as module
from tests.faults.report import case
from tests.services.storage_parts import Calls, make_block, running, series_ids

# At least so many reads and merges: on a busy machine the process that merges takes a while to start.
WRITERS, READERS, READS, MERGES = 8, 4, 120, 3
TIMES = range(6)
Key = tuple[int, int]


async def read(calls: Calls) -> dict[Key, int]:
    """All points, planned again where a segment has been replaced meanwhile."""
    while True:
        try:
            return await calls.points()
        except Gone:
            continue


async def test_readers_beside_compaction_see_every_acknowledged_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    ids = series_ids(3 * WRITERS)
    sent: dict[Key, int] = {}
    acknowledged: dict[Key, int] = {}
    wrong: list[str] = []
    reads = 0

    async with running(tmp_path) as (calls, storage):
        await calls.make_bucket()

        def merges() -> float:
            return sum(
                sample.value
                for metric in storage._registry.collect()
                if metric.name == "tidegate_storage_compactions"
                for sample in metric.samples
                if sample.name.endswith("_total")
            )

        def goes_on() -> bool:
            return reads < READS or merges() < MERGES

        async def write(number: int) -> None:
            """Each round's values are greater than those of the round before."""
            own = ids[3 * number : 3 * number + 3]
            step = 0
            while goes_on():
                step += 1
                times = [time for time in TIMES if (time + step) % 3]
                points = {(int(high), time): step for high in own[:, 0] for time in times}
                sent.update(points)
                answer = await calls.append(make_block(own, times, [step] * len(points)))
                assert "number" in answer
                acknowledged.update(points)

        async def look() -> None:
            nonlocal reads
            while goes_on():
                reads += 1
                least = dict(acknowledged)
                found = await read(calls)
                wrong.extend(
                    f"{key}: {found.get(key)}, acknowledged {value}"
                    for key, value in least.items()
                    if not value <= found.get(key, -1) <= sent[key]
                )
                wrong.extend(f"nobody wrote {key}" for key in found.keys() - sent.keys())

        await asyncio.gather(*(write(number) for number in range(WRITERS)), *(look() for _ in range(READERS)))
        assert await read(calls) == acknowledged
    case("R18", f"reads={reads} wrong={wrong[:3]} merges={merges():g}", "0 wrong", not wrong)
