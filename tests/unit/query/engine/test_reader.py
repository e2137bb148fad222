"""The reader keeps what it has: only differences are asked for, and what was replaced is planned anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from common.budget import Budget
from common.errors import Unavailable, Unprocessable
from common.merge import merge_blocks
from common.model import MAX_TIME_NS, MIN_TIME_NS
from common.rpc.client import Answer
from services.query.evaluation.select import select
from services.query.influxql.parser import parse
from services.query.reading import units
from services.query.reading.columns import UNITS_TOGETHER
from services.query.reading.reader import Reader
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.points import Point, make_blocks

BUCKET = bucket_of("db", "autogen")
S = 10**9


def point(host: str, second: int, value: float, field: str = "v") -> Point:
    return Point("m", (("host", host),), ((field, value),), second * S)


def reader_of(storage: MemoryStorage, budget: int = 1 << 30) -> Reader:
    return Reader(storage, "memory:", Budget(budget))  # type: ignore[arg-type]


async def ask(storage: MemoryStorage, reader: Reader, text: str, **options: Any) -> list[tuple[Any, ...]]:
    (statement,) = parse(text)
    rows: list[tuple[Any, ...]] = []
    async for series in select(statement, make_context(storage, "db", reader=reader, **options)):  # type: ignore[arg-type]
        columns = [np.asarray(column.values).tolist() for column in series.own_columns]
        rows += list(zip(*columns, strict=True))
    return rows


async def test_a_repeated_query_asks_only_whether_anything_changed() -> None:
    storage = MemoryStorage()
    storage.write(BUCKET.id, [point("a", 1, 1.0), point("b", 1, 2.0)])
    reader = reader_of(storage)
    for _ in range(3):
        assert await ask(storage, reader, "SELECT sum(v) FROM m") == [(0, 3.0)]
    assert storage.calls == ["storage.plan", "storage.series", "storage.fetch", "storage.plan", "storage.plan"]


async def test_a_new_commit_is_seen_and_only_it_is_fetched() -> None:
    storage = MemoryStorage()
    storage.write(BUCKET.id, [point("a", 1, 1.0)])
    storage.write(BUCKET.id, [point("a", 2, 1.0)])
    reader = reader_of(storage)
    await ask(storage, reader, "SELECT sum(v) FROM m")
    storage.write(BUCKET.id, [point("a", 2, 5.0), point("c", 3, 7.0)])
    fetched: list[Any] = []
    plain = storage._fetch

    def spy(head: Any) -> Any:
        fetched.extend(id for id, _ in head["chunks"])
        return plain(head)

    storage._fetch = spy  # type: ignore[method-assign]
    assert await ask(storage, reader, "SELECT v FROM m") == [(1 * S, 1.0), (2 * S, 5.0), (3 * S, 7.0)]
    assert fetched == [3]


async def test_another_field_of_held_rows_is_read_by_itself() -> None:
    storage = MemoryStorage()
    storage.write(BUCKET.id, [point("a", 1, 1.0), point("a", 1, 9.0, "w"), point("a", 2, 8.0, "w")])
    reader = reader_of(storage)
    assert await ask(storage, reader, "SELECT v FROM m") == [(1 * S, 1.0)]
    assert await ask(storage, reader, "SELECT w FROM m") == [(1 * S, 9.0), (2 * S, 8.0)]
    assert await ask(storage, reader, "SELECT sum(v), sum(w) FROM m") == [(0, 1.0, 17.0)]


async def test_segments_replaced_under_a_query_are_planned_anew() -> None:
    storage = MemoryStorage()
    for second in range(4):
        storage.write(BUCKET.id, [point("a", second, float(second))])
    reader = reader_of(storage)
    measured = await reader.measured(BUCKET, "m")
    assert measured is not None
    blocks = [make_blocks([point("a", second, float(second))], BUCKET.id)[0] for second in range(4)]
    storage.replace(BUCKET.id, "m", merge_blocks(blocks))
    _, pieces = await reader.pieces(measured, ["v"], MIN_TIME_NS, MAX_TIME_NS + 1)
    assert [len(piece.times) for piece in pieces] == [4]


class SlowStorage(MemoryStorage):
    """Answers some method only after the loop has had many turns, and knows how many were under way at most."""

    slow = "storage.fetch"
    under_way = most = 0

    async def call(self, url: str, method: str, head: Any, parts: Sequence[bytes] = (), **more: Any) -> Answer:
        if method != self.slow:
            return await super().call(url, method, head, parts, **more)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(20):
                await asyncio.sleep(0)
            return await super().call(url, method, head, parts, **more)
        finally:
            self.under_way -= 1


def slow_storage(monkeypatch: pytest.MonkeyPatch) -> SlowStorage:
    """Six large segments of one shard, each a unit of its own."""
    monkeypatch.setattr(units, "SMALL_ROWS", 10)
    storage = SlowStorage()
    for n in range(6):
        storage.write(BUCKET.id, [point(f"h{n}", second, 1.0) for second in range(20)])
    return storage


@pytest.mark.parametrize(("budget", "most"), [(1 << 20, UNITS_TOGETHER), (10_000, 1)])
async def test_units_of_a_shard_are_read_together_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch, budget: int, most: int
) -> None:
    storage = slow_storage(monkeypatch)
    reader = reader_of(storage, budget)
    measured = await reader.measured(BUCKET, "m")
    assert measured is not None
    _, pieces = await reader.pieces(measured, ["v"], MIN_TIME_NS, MAX_TIME_NS + 1)
    hosts = measured.table.values("host")
    assert [str(hosts[piece.series[0]]) for piece in pieces] == [f"h{n}" for n in range(6)]
    assert storage.most == most


async def test_ranges_that_take_turns_are_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = slow_storage(monkeypatch)
    reader = reader_of(storage)
    looked: list[int] = []
    overlapping = units.overlapping
    monkeypatch.setattr(units, "overlapping", lambda some: looked.append(len(some)) or overlapping(some))
    storage.write(BUCKET.id, [Point("far", (("host", "a"),), (("v", 1.0),), s * S) for s in range(20)])
    storage.write(BUCKET.id, [Point("far", (("host", "a"),), (("v", 1.0),), (3_600 + s) * S) for s in range(20)])
    for _ in range(3):
        for start, stop, rows in ((0, 100, 20), (3_600, 3_700, 20), (0, 3_700, 40)):
            measured = await reader.measured(BUCKET, "far")
            assert measured is not None
            _, pieces = await reader.pieces(measured, ["v"], start * S, stop * S)
            assert sum(len(piece.times) for piece in pieces) == rows
    assert looked == [1, 1, 2]


async def test_when_one_of_several_units_is_gone_the_others_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = slow_storage(monkeypatch)
    reader = reader_of(storage)
    measured = await reader.measured(BUCKET, "m")
    assert measured is not None
    blocks = [make_blocks([point(f"h{n}", s, 1.0) for s in range(20)], BUCKET.id)[0] for n in range(6)]
    storage.replace(BUCKET.id, "m", merge_blocks(blocks))
    _, pieces = await reader.pieces(measured, ["v"], MIN_TIME_NS, MAX_TIME_NS + 1)
    assert [len(piece.times) for piece in pieces] == [120]
    assert storage.under_way == 0
    reader.make_room(reader.budget.limit_bytes)
    assert reader.budget.used_bytes < 10_000  # nothing is held any more but the series


async def test_queries_that_come_together_share_a_plan() -> None:
    storage = storage_slow_to_plan()
    reader = reader_of(storage)
    await ask(storage, reader, "SELECT v FROM m")
    storage.calls.clear()
    answers = await asyncio.gather(*(ask(storage, reader, "SELECT v FROM m") for _ in range(20)))
    assert all(answer == [(1 * S, 1.0)] for answer in answers)
    assert storage.calls.count("storage.plan") == 2
    assert storage.most == 1


async def test_whoever_leaves_while_a_plan_is_under_way_leaves_the_others_theirs() -> None:
    storage = storage_slow_to_plan()
    reader = reader_of(storage)
    for leaves in (0, 1, 2):
        asked = [asyncio.create_task(ask(storage, reader, "SELECT v FROM m")) for _ in range(3)]
        await asyncio.sleep(0)
        asked[leaves].cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found.pop(leaves), asyncio.CancelledError)
        assert found == [[(1 * S, 1.0)]] * 2
    assert storage.under_way == 0


async def test_a_plan_that_fails_does_so_for_those_who_share_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_slow_to_plan()
    reader = reader_of(storage)
    whole = MemoryStorage.call
    failures = [1, 0, 1, 1, 0]  # the first one's, that of the three behind it, and so on

    async def fails(self: MemoryStorage, url: str, method: str, head: Any, *more: Any, **named: Any) -> Answer:
        if method == "storage.plan" and failures.pop(0):
            raise Unavailable("storage does not answer")
        return await whole(self, url, method, head, *more, **named)

    monkeypatch.setattr(MemoryStorage, "call", fails)
    for good in (3, 0):
        found = await asyncio.gather(
            *(ask(storage, reader, "SELECT v FROM m") for _ in range(4)), return_exceptions=True
        )
        assert sum(answer == [(1 * S, 1.0)] for answer in found) == good
        assert sum(isinstance(answer, Unavailable) for answer in found) == 4 - good
    assert await ask(storage, reader, "SELECT v FROM m") == [(1 * S, 1.0)]


def storage_slow_to_plan() -> SlowStorage:
    storage = SlowStorage()
    storage.slow = "storage.plan"
    storage.write(BUCKET.id, [point("a", 1, 1.0)])
    return storage


async def test_an_unknown_measurement_and_an_empty_bucket_give_nothing() -> None:
    storage = MemoryStorage()
    reader = reader_of(storage)
    assert await ask(storage, reader, "SELECT v FROM m") == []
    assert await ask(storage, reader, "SELECT v FROM /./") == []


async def test_points_past_the_retention_are_not_seen() -> None:
    storage = MemoryStorage()
    now = 1_704_844_800
    storage.write(BUCKET.id, [point("a", now - 50, 1.0), point("a", now - 7200, 2.0)])
    rows = await ask(storage, reader_of(storage), "SELECT sum(v) FROM m", now_ns=now * S, retention_ns=3600 * S)
    assert rows == [(0, 1.0)]


async def test_what_does_not_fit_the_budget_is_refused_and_leaves_nothing_behind() -> None:
    storage = MemoryStorage()
    storage.write(BUCKET.id, [point("a", second, 1.0) for second in range(2000)])
    reader = reader_of(storage, budget=20_000)
    with pytest.raises(Unavailable):
        await ask(storage, reader, "SELECT sum(v) FROM m")
    assert reader.budget.used_bytes < 1_000


async def test_columns_give_way_to_others_when_the_cache_is_full() -> None:
    storage = MemoryStorage()
    for name in ("v", "w", "x"):
        storage.write(BUCKET.id, [point("a", second, 1.0, name) for second in range(2000)])
    for name in "pqr":
        points = [Point(name, (), (("v", 1.0),), second * S) for second in range(2000)]
        storage.write(BUCKET.id, points)
    reader = reader_of(storage, budget=400_000)
    for _ in range(2):
        for name in "pqr":
            assert await ask(storage, reader, f"SELECT sum(v) FROM {name}") == [(0, 2000.0)]
        assert await ask(storage, reader, "SELECT sum(v), sum(w), sum(x) FROM m") == [(0, 2000.0, 2000.0, 2000.0)]
    assert reader.budget.used_bytes <= 400_000


async def test_an_absurd_number_of_windows_is_refused_before_it_is_made() -> None:
    storage = MemoryStorage()
    storage.write(BUCKET.id, [point("a", 1, 1.0), point("a", 1_700_000_000, 1.0)])
    with pytest.raises(Unprocessable, match="max-select-buckets"):
        await ask(storage, reader_of(storage), "SELECT mean(v) FROM m WHERE time >= 0 GROUP BY time(1ms)")


async def test_a_dropped_measurement_of_the_same_name_is_another_one() -> None:
    storage = MemoryStorage()
    storage.write(BUCKET.id, [point("a", 1, 1.0), point("b", 1, 1.0)])
    reader = reader_of(storage)
    assert await ask(storage, reader, "SELECT sum(v) FROM m") == [(0, 2.0)]
    del storage.buckets[BUCKET.id]["m"]
    assert await ask(storage, reader, "SELECT sum(v) FROM m") == []
    storage.write(BUCKET.id, [point("b", 1, 5.0)])
    assert await ask(storage, reader, "SELECT v FROM m WHERE host = 'b'") == [(1 * S, 5.0)]
