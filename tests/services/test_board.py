"""A reader beside storage asks it only when something changed, and never misses a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.budget import Budget
from common.model import Bucket
from common.rpc.client import Answer, RpcClient
from services.query.reading.board import LEASE_S
from services.query.reading.reader import Reader
from tests.services.storage_parts import BUCKET, SHARD_NS, Calls, make_block, running, series_ids
from tests.services.test_deletes import delete

PLACE = Bucket(BUCKET, "", "", 0, SHARD_NS)
IDS = series_ids(4)


class Counting:
    """Passes calls on; remembers which."""

    def __init__(self, client: RpcClient) -> None:
        self._client = client
        self.methods: list[str] = []

    async def call(self, url: str, method: str, *more: Any, **others: Any) -> Answer:
        self.methods.append(method)
        return await self._client.call(url, method, *more, **others)

    def stream(self, url: str, method: str, *more: Any, **others: Any) -> Any:
        return self._client.stream(url, method, *more, **others)


@asynccontextmanager
async def reading(folder: Path, shared_memory: str) -> AsyncIterator[tuple[Calls, Counting, Reader]]:
    async with running(folder, shared_memory=str(folder.parent)) as (calls, _):
        await calls.make_bucket()
        await calls.append(make_block(IDS[:2], range(3)))
        client = Counting(calls.query)
        reader = Reader(client, calls.url, Budget(1 << 28), shared_memory)  # type: ignore[arg-type]
        for _ in range(2):
            await reader.measured(PLACE, "cpu")
            await reader.measurements(PLACE)
        client.methods.clear()
        yield calls, client, reader


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (folder := tmp_path / "data").mkdir()
    return folder


async def times(reader: Reader) -> int:
    """How many rows there are."""
    measured = await reader.measured(PLACE, "cpu")
    if measured is None:
        return 0
    _, pieces = await reader.pieces(measured, ["value"], 0, SHARD_NS)
    return sum(len(piece.times) for piece in pieces)


async def test_while_nothing_changes_storage_is_not_asked(data: Path) -> None:
    async with reading(data, str(data.parent)) as (_, client, reader):
        assert reader.sees_changes
        for _ in range(50):
            assert await times(reader) == 6
            assert [info.name for info in await reader.measurements(PLACE)] == ["cpu"]
        assert client.methods == ["storage.fetch"]


async def test_elsewhere_storage_is_asked_each_time(data: Path) -> None:
    async with reading(data, "") as (_, client, reader):
        assert not reader.sees_changes
        for _ in range(3):
            assert await reader.measured(PLACE, "cpu") is not None
            await reader.measurements(PLACE)
        assert client.methods == ["storage.plan", "storage.measurements"] * 3


async def test_every_change_is_seen_as_soon_as_it_is_acknowledged(data: Path) -> None:
    async with reading(data, str(data.parent)) as (calls, _, reader):
        assert await times(reader) == 6
        rows = 6
        for step in range(3, 40):
            await calls.append(make_block(IDS[:2], [step]))
            rows += 2
            assert await times(reader) == rows
        await calls.append(make_block(IDS, [100]))
        assert await times(reader) == rows + 4
        assert (await reader.measurements(PLACE))[0].series_count == 4
        await calls.append(make_block(IDS[:1], [1], measurement="mem", field="other"))
        assert [info.name for info in await reader.measurements(PLACE)] == ["cpu", "mem"]
        await delete(calls, start=100, stop=101)
        assert await times(reader) == rows
        await delete(calls)
        assert await times(reader) == 0
        assert [info.name for info in await reader.measurements(PLACE)] == ["mem"]


async def test_a_change_of_another_measurement_asks_for_nothing(data: Path) -> None:
    async with reading(data, str(data.parent)) as (calls, client, reader):
        for step in range(5):
            await calls.append(make_block(IDS[:1], [step], measurement="mem"))
            assert await reader.measured(PLACE, "cpu") is not None
        assert client.methods == []


async def test_a_question_after_a_pause_is_begun_before_storage_has_answered(data: Path) -> None:
    async with reading(data, str(data.parent)) as (_, client, reader):
        assert reader.unchanged(PLACE, "cpu") is None  # nobody has to be asked
        await asyncio.sleep(1.1 * LEASE_S)
        assert reader.unchanged(PLACE, "cpu") is not None
        assert await reader.measured(PLACE, "cpu") is not None
        assert client.methods == ["storage.plan"]
        assert reader.unchanged(PLACE, "cpu") is None
