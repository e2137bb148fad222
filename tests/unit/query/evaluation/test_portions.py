"""What is worked out in portions answers as the whole does, and holds no more than its portions."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.budget import Budget
from common.errors import Unavailable
from services.query.evaluation.portions import Room, count_rows, group_batches, time_slices
from services.query.evaluation.select import select
from services.query.influxql.parser import parse
from services.query.reading import units
from services.query.reading.reader import Reader
from services.query.reading.units import Segment
from services.query.render.result import ResultSeries
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.oracle import Question
from tests.unit.query.engine.points import Point
from tests.unit.query.engine.test_oracle import check, points, questions

S = 10**9
BUCKET = bucket_of("db", "autogen")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(points, min_size=1, max_size=12), min_size=1, max_size=4), questions(),
       st.sampled_from([1, 4]), st.sampled_from([60, 400, 2_000]))  # fmt: skip
def test_portions_answer_as_the_oracle_does(
    commits: list[list[Point]], question: Question, small_rows: int, room: int
) -> None:
    with patch.object(units, "SMALL_ROWS", small_rows), patch.object(Room, "of", lambda _: Room(room, room, room)):
        check([*commits], [question])


def segment(rows: int, first_ns: int, last_ns: int) -> Segment:
    return Segment(1, 1, {"rows": rows, "time": [first_ns, last_ns]}, {})


segments = st.builds(
    lambda rows, first, width: segment(rows, first, first + width),
    st.integers(1, 100_000), st.integers(-(10**18), 10**18), st.sampled_from([0, 1, 10**6, 10**12]),
)  # fmt: skip


@given(st.lists(segments, max_size=20), st.integers(-(10**18), 10**18), st.integers(0, 2 * 10**18),
       st.integers(1, 50_000))  # fmt: skip
def test_slices_follow_each_other_and_hold_all_that_is_asked_for(
    found: list[Segment], start_ns: int, width_ns: int, most_rows: int
) -> None:
    slices = time_slices(found, start_ns, start_ns + width_ns, most_rows)
    assert [stop for _, stop in slices[:-1]] == [start for start, _ in slices[1:]]
    assert all(start < stop for start, stop in slices)
    for each in found:
        first, stop = max(each.min_ns, start_ns), min(each.max_ns + 1, start_ns + width_ns)
        assert first >= stop or slices[0][0] <= first < stop <= slices[-1][1]


def test_slices_have_about_as_many_rows_as_they_may() -> None:
    found = [segment(1_000_000, n * 10**12, (n + 2) * 10**12) for n in range(20)]
    slices = time_slices(found, 0, 10**15, 100_000)
    rows = [count_rows(found, *each) for each in slices]
    assert sum(rows) == pytest.approx(20_000_000, rel=0.01)
    assert max(rows) < 110_000


def test_groups_are_taken_together_as_far_as_there_is_room() -> None:
    of_series = np.array([0, 0, 1, 2, 2, 2, 3])
    wanted = np.array([True, True, True, True, True, True, False])
    assert group_batches(of_series, wanted, 10.0, 30) == [(0, 2), (2, 3)]
    assert group_batches(of_series, wanted, 10.0, 5) == [(0, 1), (1, 2), (2, 3)]


def stored(series: int = 20, seconds: int = 500) -> MemoryStorage:
    """Seven days of rows in ten segments of all series."""
    storage = MemoryStorage()
    for part in range(10):
        storage.write(BUCKET.id, [
            Point("m", (("h", f"h{n}"),), (("v", float(second)), ("w", n)), (part * seconds + second) * S)
            for n in range(series)
            for second in range(seconds // 10)
        ])  # fmt: skip
    return storage


async def told(storage: MemoryStorage, text: str, reader: Reader) -> list[ResultSeries]:
    (statement,) = parse(text)
    context = make_context(storage, "db", reader=reader)
    return [series async for series in select(statement, context)]  # type: ignore[arg-type]


def rows_of(answer: list[ResultSeries]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for series in answer:
        columns = [np.asarray(column.values).tolist() for column in series.own_columns]
        found.setdefault((series.name, series.tags), []).extend(zip(*columns, strict=True))
    return {key: sorted(rows, key=repr) for key, rows in found.items()}


@pytest.mark.parametrize("text", [
    "SELECT * FROM m", "SELECT v FROM m GROUP BY *", "SELECT v, w FROM m WHERE h = 'h3'",
    "SELECT v FROM m WHERE w > 15",
    "SELECT v, w FROM m ORDER BY time DESC", "SELECT v FROM m GROUP BY h ORDER BY time DESC",
    "SELECT mean(v) FROM m WHERE time >= 0 AND time < 5000s GROUP BY time(100s), h", "SELECT sum(v) FROM m GROUP BY h",
    "SELECT sum(v) FROM m WHERE h = 'h3'", "SELECT max(v), w FROM m GROUP BY h", "SELECT v FROM m WHERE time > 100s",
    "SELECT sum(w) FROM (SELECT v, w FROM m WHERE v > 3) GROUP BY h",
    "SELECT count(v), sum(v), mean(w), min(v), max(v), first(v), last(v), spread(v), mean(v) FROM m",
    "SELECT max(w) FROM m", "SELECT first(v) FROM m WHERE h = 'h3'", "SELECT last(v) FROM m", "SELECT min(w) FROM m",
    "SELECT mean(v) + max(w) FROM m WHERE w > 3 GROUP BY h ORDER BY time DESC",
    "SELECT last(v), count(w) FROM m WHERE time >= 0 AND time < 7000s GROUP BY time(10m) fill(previous)",
    "SELECT difference(mean(v)) FROM m WHERE time >= 700s AND time < 5000s GROUP BY time(10s), h",
])  # fmt: skip
async def test_portions_and_the_whole_agree(text: str) -> None:
    storage = stored()
    whole = await told(storage, text, Reader(storage, "memory:", Budget(1 << 30)))  # type: ignore[arg-type]
    with patch.object(units, "SMALL_ROWS", 1), patch.object(Room, "of", lambda _: Room(4_000, 9_000, 30_000)):
        reader = Reader(storage, "memory:", Budget(1 << 30))  # type: ignore[arg-type]
        portions = await told(storage, text, reader)
    assert rows_of(portions) == rows_of(whole)
    # What goes on says so: the renderers join what belongs together.
    ends = [series for series in portions if not series.continues]
    assert len(ends) == len(rows_of(whole))
    reader._cache.make_room(1 << 40)
    assert reader.budget.used_bytes < 10_000


@pytest.mark.parametrize(("limit", "offset"), [(1, 0), (7, 0), (60, 30), (0, 9_990), (5, 9_998), (5, 20_000)])
@pytest.mark.parametrize("order", ["", " ORDER BY time DESC"])
async def test_limit_and_offset_count_over_all_portions(limit: int, offset: int, order: str) -> None:
    storage = stored(series=1, seconds=10_000)
    text = f"SELECT v FROM m{order}" + (f" LIMIT {limit}" if limit else "") + (f" OFFSET {offset}" if offset else "")
    with patch.object(Room, "of", lambda _: Room(4_000, 4_000, 4_000)):
        answer = await told(storage, text, Reader(storage, "memory:", Budget(1 << 30)))  # type: ignore[arg-type]
    times = [time for series in answer for time in np.asarray(series.own_columns[0].values).tolist()]
    every = [(part * 10_000 + second) * S for part in range(10) for second in range(1_000)]
    every = every[::-1] if order else every
    assert times == every[offset:][: limit or None]


async def test_a_limit_ends_the_reading() -> None:
    storage = stored()
    with patch.object(units, "SMALL_ROWS", 1), patch.object(Room, "of", lambda _: Room(4_000, 4_000, 4_000)):
        await told(storage, "SELECT v FROM m LIMIT 3", Reader(storage, "memory:", Budget(1 << 30)))  # type: ignore[arg-type]
    assert storage.calls.count("storage.fetch") == 1


async def test_an_answer_larger_than_the_memory_is_told() -> None:
    storage = stored(series=40, seconds=2_000)
    budget = Budget(300_000)
    with patch.object(units, "SMALL_ROWS", 1):
        reader = Reader(storage, "memory:", budget)  # type: ignore[arg-type]
        for text in ("SELECT v, w FROM m", "SELECT v, w FROM m GROUP BY h", "SELECT sum(v) FROM m GROUP BY h"):
            answer = await told(storage, text, reader)
            assert sum(series.rows for series in answer) == (40 if "sum" in text else 80_000)
            assert budget.used_bytes <= budget.limit_bytes
        # One group of more rows than fit: its partial results do.
        (one,) = await told(storage, "SELECT mean(v), max(v), first(w), spread(w), count(w) FROM m", reader)
        values = [np.asarray(column.values).tolist() for column in one.own_columns[1:]]
        assert values == [[99.5], [199.0], [0], [39], [80_000]]
        with pytest.raises(Unavailable):
            await told(storage, "SELECT median(v) FROM m", reader)


async def test_whoever_stops_reading_gives_the_memory_back() -> None:
    storage = stored()
    with patch.object(Room, "of", lambda _: Room(4_000, 4_000, 4_000)):
        reader = Reader(storage, "memory:", Budget(1 << 30))  # type: ignore[arg-type]
        (statement,) = parse("SELECT v FROM m")
        answer: Any = select(statement, make_context(storage, "db", reader=reader))  # type: ignore[arg-type]
        await anext(answer)
        await answer.aclose()
    await asyncio.sleep(0)
    reader._cache.make_room(1 << 40)
    assert reader.budget.used_bytes < 10_000
