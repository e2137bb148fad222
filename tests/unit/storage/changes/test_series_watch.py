"""The warning at 80 % of the series that a bucket may hold: a gauge, and one line in the log."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from services.storage.changes.series_watch import SeriesWatch
from services.storage.state.measurement import Measurement
from services.storage.state.state import State
from tests.services.storage_parts import BUCKET, make_block, running, series_ids


def state_with(series: int) -> State:
    state = State()
    measurement = Measurement(1, BUCKET, "cpu", 1)
    measurement.series = measurement.series.with_added(series_ids(series))
    state.add_measurement(measurement)
    return state


@pytest.mark.parametrize(("limit", "warned"), [(0, False), (10, True), (11, False)])
def test_it_is_said_from_80_percent_on(limit: int, warned: bool) -> None:
    watch = SeriesWatch(limit)
    with capture_logs() as logs:
        watch.look(state_with(8))
    assert len(logs) == len(watch.near) == warned


def test_it_is_said_once_until_there_is_room_again() -> None:
    watch = SeriesWatch(10)
    counts = []
    for series in (7, 8, 9, 10, 8, 7, 9):
        with capture_logs() as logs:
            watch.look(state_with(series))
        counts.append(len(logs))
    assert counts == [0, 1, 0, 0, 0, 0, 1]
    watch.look(State())
    assert not watch.near


async def test_metrics_show_it(tmp_path: Path) -> None:
    near = f'tidegate_storage_bucket_series_near_limit{{bucket="{BUCKET}"}}'
    async with running(tmp_path, max_series_per_bucket=5) as (calls, _), aiohttp.ClientSession() as session:
        await calls.make_bucket()
        for count, value in ((3, "0.0"), (4, "1.0")):
            await calls.append(make_block(series_ids(4)[:count], [count]))
            async with session.get(f"{calls.url}/metrics") as response:
                lines = (await response.text()).splitlines()
            assert f"{near} {value}" in lines
            assert f'tidegate_storage_bucket_series{{bucket="{BUCKET}"}} {count}.0' in lines
        assert "tidegate_storage_max_series_per_bucket 5.0" in lines
