"""Worked out on what is held while storage is asked: what is answered is as new as the question all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from common.budget import Budget
from common.errors import Invalid, Unavailable
from common.model import Bucket
from common.rpc.client import Answer
from services.query.context import QueryContext, SelectLimits
from services.query.evaluation import ahead
from services.query.evaluation.select import select_together
from services.query.influxql.parser import parse
from services.query.reading.held import Measured
from services.query.reading.reader import Reader
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.points import Point

BUCKET = bucket_of("db", "autogen")
S = 10**9


def point(second: int, value: float, host: str = "a", field: str = "v") -> Point:
    return Point("m", (("host", host),), ((field, value),), second * S)


class SlowToPlan(MemoryStorage):
    """Tells what there is after many turns of the loop, as of when it tells; ``meanwhile`` happens before that."""

    meanwhile: Callable[[], None] | None = None
    fails = False

    async def call(self, url: str, method: str, head: Any, parts: Sequence[bytes] = (), **more: Any) -> Answer:
        if method == "storage.plan":
            for _ in range(50):
                await asyncio.sleep(0)
            if self.meanwhile is not None:
                self.meanwhile()
                self.meanwhile = None
            if self.fails:
                raise Unavailable("storage does not answer")
        return await super().call(url, method, head, parts, **more)


class World:
    """A reader over a storage, and the states that questions have been worked out on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage = SlowToPlan()
        self.reader = Reader(self.storage, "memory:", Budget(1 << 30))  # type: ignore[arg-type]
        self.begun = 0
        plain = ahead.Ahead.find

        async def find(it: ahead.Ahead, bucket: Bucket, name: str) -> Measured:
            self.begun += 1
            return await plain(it, bucket, name)

        monkeypatch.setattr(ahead.Ahead, "find", find)

    def context(self) -> QueryContext:
        return make_context(self.storage, "db", reader=self.reader)

    async def ask(self, text: str, context: QueryContext | None = None) -> list[tuple[Any, ...]]:
        (statement,) = parse(text)
        rows: list[tuple[Any, ...]] = []
        async for together in select_together(statement, context or self.context()):  # type: ignore[arg-type]
            for series in together:
                columns = [np.asarray(column.values).tolist() for column in series.own_columns]
                rows += list(zip(*columns, strict=True))
        return rows

    async def settle(self, text: str) -> None:
        """Ask until nothing has changed since the question before."""
        await self.ask(text)
        await self.ask(text)
        self.storage.calls.clear()
        self.begun = 0


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(monkeypatch)
    world.storage.write(BUCKET.id, [point(1, 1.0), point(2, 2.0)])
    return world


SUM = "SELECT sum(v) FROM m"


async def test_where_nothing_changes_storage_is_asked_once_and_not_waited_for(world: World) -> None:
    await world.settle(SUM)
    assert await world.ask(SUM) == [(0, 3.0)]
    assert (world.begun, world.storage.calls) == (1, ["storage.plan"])


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (SUM, 3),
        ("SELECT v FROM m", 3),
        # The statistics of segments tell it.
        ("SELECT max(v) FROM m WHERE time < 9s AND time > 0s GROUP BY time(9s)", 0),
    ],
)
async def test_what_is_written_before_storage_answers_is_in_the_answer(world: World, text: str, rows: int) -> None:
    await world.settle(text)
    before = await world.ask(text)
    world.storage.meanwhile = lambda: world.storage.write(BUCKET.id, [point(3, 4.0)])
    context = world.context()
    after = await world.ask(text, context)
    assert world.begun == 2
    assert after != before
    assert max(row[1] for row in after) >= 4.0
    # What was worked out in vain is not counted.
    assert (context.running.cost.rows_scanned, context.running.cost.series) == (rows, 1)
    assert world.storage.calls.count("storage.plan") == 2


async def test_after_a_change_the_next_question_waits(world: World) -> None:
    await world.settle(SUM)
    world.storage.meanwhile = lambda: world.storage.write(BUCKET.id, [point(3, 4.0)])
    assert await world.ask(SUM) == [(0, 7.0)]
    begun = []
    for _ in range(3):
        assert await world.ask(SUM) == [(0, 7.0)]
        begun.append(world.begun)
    assert begun == [1, 2, 3]


async def test_a_measurement_that_goes_meanwhile_is_gone(world: World) -> None:
    await world.settle(SUM)
    world.storage.meanwhile = lambda: world.storage.buckets[BUCKET.id].clear()
    assert await world.ask(SUM) == []


async def test_rows_that_are_deleted_meanwhile_are_gone(world: World) -> None:
    await world.settle(SUM)
    world.storage.meanwhile = lambda: world.storage.delete(BUCKET.id, "m", 2 * S, 3 * S, lambda key: True)
    assert await world.ask(SUM) == [(0, 1.0)]
    # With deletes under way nothing is begun before storage has answered.
    begun = world.begun
    for _ in range(3):
        assert await world.ask(SUM) == [(0, 1.0)]
    assert world.begun == begun


async def test_an_answer_never_leaves_without_storage(world: World) -> None:
    await world.settle(SUM)
    world.storage.fails = True
    with pytest.raises(Unavailable, match="storage does not answer"):
        await world.ask(SUM)
    assert world.begun == 1


async def test_an_error_counts_only_if_nothing_changed(world: World) -> None:
    text = "SELECT v FROM m"
    world.storage.write(BUCKET.id, [point(1, 1.0, "b")])
    await world.settle(text)

    def limited() -> QueryContext:
        made = world.context()
        return QueryContext(
            made.identity, "db", "", made.now_ns, made.mappings, world.reader, limits=SelectLimits(series=1)
        )

    with pytest.raises(Invalid, match="max-select-series limit exceeded"):
        await world.ask(text, limited())

    def renew() -> None:
        world.storage.buckets[BUCKET.id].clear()
        world.storage.write(BUCKET.id, [point(5, 5.0)])
        world.storage.buckets[BUCKET.id]["m"].version = 77

    world.storage.meanwhile = renew
    world.begun = 0
    with pytest.raises(Invalid, match="max-select-series limit exceeded: \\(2/1\\)"):
        # The series that were are still in the index of the same generation.
        await world.ask(text, limited())
    assert world.begun == 1


async def test_questions_that_come_together_share_one_answer_of_storage(world: World) -> None:
    await world.settle(SUM)
    assert await asyncio.gather(*(world.ask(SUM) for _ in range(10))) == [[(0, 3.0)]] * 10
    assert (world.begun, world.storage.calls.count("storage.plan")) == (1, 2)


async def test_whoever_goes_away_leaves_nothing_behind(world: World) -> None:
    await world.settle(SUM)
    for turns in range(4):
        asking = asyncio.create_task(world.ask(SUM))
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert len(asyncio.all_tasks()) == 1
    assert await world.ask(SUM) == [(0, 3.0)]


@pytest.mark.parametrize(
    "text", ["SELECT v FROM m, m2", "SELECT v FROM /m/", "SELECT s FROM (SELECT sum(v) AS s FROM m)"]
)
async def test_several_sources_wait_for_storage(world: World, text: str) -> None:
    await world.settle(text)
    assert len(await world.ask(text)) in (1, 2)
    assert world.begun == 0
