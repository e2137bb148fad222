"""Pressure: appends wait, then are refused."""

from __future__ import annotations

import asyncio

import pytest

from common.errors import Unavailable
from services.storage.changes.pressure import Pressure


async def test_pressure_slows_down_and_then_refuses() -> None:
    for load in (0.0, 1.0, 1.01):
        await Pressure(lambda load=load: load).wait()
    with pytest.raises(Unavailable) as caught:
        await Pressure(lambda: 3.0).wait()
    assert caught.value.retry_after_s
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Pressure(lambda: 2.0).wait(), 0.01)
