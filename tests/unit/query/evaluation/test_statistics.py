"""What statistics of segments tell is what their rows tell, and then no column is read."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.budget import Budget
from common.errors import Invalid
from common.merge import merge_blocks
from common.segment import FIRST_COLUMN
from services.query.context import SelectLimits
from services.query.evaluation import ends, statistics
from services.query.evaluation.select import explain, select
from services.query.evaluation.statistics import Told
from services.query.influxql.parser import parse
from services.query.reading import units
from services.query.reading.reader import Reader
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.oracle import Question
from tests.unit.query.engine.points import Point, make_blocks
from tests.unit.query.engine.test_oracle import (
    BASE_S,
    NUMBERS,
    PHASES,
    QUESTIONS,
    SECOND_SHARD_S,
    Change,
    check,
    conditions,
    deletes,
    fields,
    make_point,
    tags,
)

S = 10**9
BUCKET = bucket_of("db", "autogen")
EXAMPLES = int(os.environ.get("TIDEGATE_ORACLE_EXAMPLES", "5000"))
PARTS = 2  # which run side by side
STRETCH_S = 10

# ---------------------------------------------------------------- against the oracle


@st.composite
def stretches(draw: Any) -> list[Point]:
    """Points within one of a few stretches of time: of several such commits some overlap and some do not."""
    first_s = draw(st.sampled_from([0, 1, 2, 3, 4])) * STRETCH_S + draw(st.sampled_from([0, SECOND_SHARD_S]))
    within = st.builds(make_point, tags, fields, st.integers(first_s, first_s + STRETCH_S - 1))
    return draw(st.lists(within, min_size=1, max_size=8))  # type: ignore[no-any-return]


calls = st.one_of(
    st.tuples(st.sampled_from(["count", "max", "min", "spread"]), st.sampled_from(NUMBERS)),
    st.tuples(st.sampled_from(["count", "max", "min"]), st.just("t")),
    st.tuples(st.just("count"), st.just("s")),
)
rarely = st.integers(0, 7).map(lambda n: n == 0)


@st.composite
def questions(draw: Any) -> Question:
    question = Question(
        columns=tuple(draw(st.lists(calls, min_size=1, max_size=3))),
        where=(draw(conditions),) if draw(rarely) else (),
        keys=("a",) if draw(rarely) else (),
        first_s=draw(st.sampled_from([None, BASE_S, BASE_S + 10, BASE_S + 13])),
        last_s=draw(st.sampled_from([None, BASE_S + 29, BASE_S + 35])),
        descending=draw(st.booleans()),
        limit=draw(st.integers(0, 3)),
        offset=draw(st.integers(0, 2)),
    )
    if draw(st.booleans()):
        return question
    width_s, offset_s = draw(st.sampled_from([7, 10, 20, 60])), draw(st.sampled_from([0, 0, 3]))
    return replace(
        question, width_s=width_s, offset_s=offset_s, last_s=question.last_s or BASE_S + 49,
        fill=draw(st.sampled_from([None, "null", "none", "previous", "linear", 0])),
    )  # fmt: skip


@st.composite
def questions_of_ends(draw: Any) -> Question:
    column = (draw(st.sampled_from(["first", "last"])), draw(st.sampled_from([*NUMBERS, "s", "t"])))
    question: Question = draw(questions())
    keys = draw(st.sampled_from([(), ("a",), ("a", "b"), ("a", "b")]))
    return replace(question, columns=(column,), keys=keys, width_s=0, fill=None)


@pytest.mark.parametrize("part", range(PARTS))
def test_what_statistics_tell_is_what_the_oracle_says(part: int) -> None:
    seen: Counter[str] = Counter()
    tell = statistics.tell

    def watched(*arguments: Any) -> Told | None:
        told = tell(*arguments)
        if told is not None:
            seen["summed" if told.summaries else "passed over"] += 1
            seen["in part"] += any(told.rest.values())
        return told

    @settings(max_examples=EXAMPLES // QUESTIONS // PARTS, deadline=None, phases=PHASES)
    @given(st.lists(st.one_of(stretches(), stretches(), stretches(), deletes), min_size=1, max_size=6),
           st.lists(questions(), min_size=QUESTIONS, max_size=QUESTIONS), st.sampled_from([1, 4]))  # fmt: skip
    def ask(changes: list[Change], asked: list[Question], small_rows: int) -> None:
        with patch.object(units, "SMALL_ROWS", small_rows), patch.object(statistics, "tell", watched):
            check(changes, asked)

    ask()
    if EXAMPLES >= 2000:  # of fewer questions none may be of one kind
        assert min(seen["summed"], seen["passed over"], seen["in part"]) > 0


@settings(max_examples=EXAMPLES // QUESTIONS // 4, deadline=None, phases=PHASES)
@given(st.lists(st.one_of(stretches(), stretches(), stretches(), deletes), min_size=1, max_size=6),
       st.lists(questions_of_ends(), min_size=QUESTIONS, max_size=QUESTIONS), st.sampled_from([1, 4]))  # fmt: skip
def test_first_and_last_are_what_the_oracle_says(changes: list[Change], asked: list[Question], small_rows: int) -> None:
    with patch.object(units, "SMALL_ROWS", small_rows), patch.object(ends, "ROWS", 2):
        check(changes, asked)


# ---------------------------------------------------------------- what is read


def row(second: int, value: float, host: str = "a", **more: float) -> Point:
    return Point("m", (("host", host),), (("v", value), *more.items()), second * S)


def stored(*commits: list[Point]) -> MemoryStorage:
    storage = MemoryStorage()
    for commit in commits:
        storage.write(BUCKET.id, commit, level=1)
    return storage


class Asked:
    """SELECTs over one storage, and which chunks they had to fetch."""

    def __init__(self, storage: MemoryStorage, limits: SelectLimits = SelectLimits(), **options: Any) -> None:
        self.storage = storage
        self.chunks: list[tuple[int, int]] = []
        plain = storage._fetch

        def fetch(head: Any) -> Any:
            self.chunks += [(id, index) for id, indexes in head["chunks"] for index in indexes]
            return plain(head)

        storage._fetch = fetch  # type: ignore[method-assign]
        reader = Reader(storage, "memory:", Budget(1 << 30))  # type: ignore[arg-type]
        self._context = replace(make_context(storage, "db", reader=reader, **options), limits=limits)

    async def rows(self, text: str) -> list[tuple[Any, ...]]:
        (statement,) = parse(text)
        found: list[tuple[Any, ...]] = []
        async for series in select(statement, self._context):  # type: ignore[arg-type]
            found += zip(*(np.asarray(each.values).tolist() for each in series.own_columns), strict=True)
        return found

    async def explained(self, text: str) -> str:
        (statement,) = parse(text)
        tables = [each async for each in explain(statement, self._context)]  # type: ignore[arg-type]
        return "\n".join(tables[0].own_columns[-1].values)  # type: ignore[arg-type]

    @property
    def segments(self) -> set[int]:
        return {id for id, _ in self.chunks}

    @property
    def columns(self) -> list[tuple[int, int]]:
        return [chunk for chunk in self.chunks if chunk[1] >= FIRST_COLUMN]


@pytest.fixture(autouse=True)
def _all_large() -> Any:
    with patch.object(units, "SMALL_ROWS", 1):
        yield


def three() -> MemoryStorage:
    return stored(
        [row(10, 1.0), row(11, 5.0, "b")], [row(20, 7.0), row(21, 2.0, "b")], [row(30, 3.0), row(31, 4.0, "b", w=9.0)]
    )


async def test_whole_segments_are_not_read_at_all() -> None:
    asked = Asked(three())
    assert await asked.rows("SELECT count(v), max(v), min(v), spread(v), count(w) FROM m") == [(0, 6, 7.0, 1.0, 6.0, 1)]
    windows = "WHERE time >= 10s AND time < 40s GROUP BY time(10s)"
    assert await asked.rows(f"SELECT max(v) FROM m {windows}") == [(10 * S, 5.0), (20 * S, 7.0), (30 * S, 4.0)]
    assert await asked.rows(f"SELECT count(w) FROM m {windows}") == [(10 * S, 0), (20 * S, 0), (30 * S, 1)]
    assert asked.chunks == []


async def test_what_the_range_a_window_or_the_retention_cuts_is_read() -> None:
    asked = Asked(three())
    assert await asked.rows("SELECT max(v), min(v) FROM m WHERE time > 10s AND time < 31s") == [(10 * S + 1, 7.0, 2.0)]
    assert asked.segments == {1, 3}
    asked = Asked(three())
    assert await asked.rows("SELECT spread(v) FROM m WHERE time >= 6s AND time < 36s GROUP BY time(15s, 6s)") == [
        (6 * S, 6.0), (21 * S, 2.0)]  # fmt: skip
    assert asked.segments == {2}
    asked = Asked(three(), now_ns=41 * S, retention_ns=30 * S)
    assert await asked.rows("SELECT count(v), max(v) FROM m") == [(0, 5, 7.0)]
    assert asked.segments == {1}


async def test_segments_that_overlap_in_time_are_read_and_merged() -> None:
    storage = three()
    storage.write(BUCKET.id, [row(20, 0.5), row(22, 0.25, "c")], level=1)
    asked = Asked(storage)
    assert await asked.rows("SELECT count(v), max(v), min(v) FROM m") == [(0, 7, 5.0, 0.25)]
    assert asked.segments == {2, 4}


async def test_a_segment_that_a_delete_touches_is_read() -> None:
    storage = three()
    storage.delete(BUCKET.id, "m", 20 * S, 21 * S, lambda key: True)
    asked = Asked(storage)
    assert await asked.rows("SELECT count(v), max(v) FROM m") == [(0, 5, 5.0)]
    assert {id for id, _ in asked.columns} == {2}


async def test_the_point_itself_is_sought_only_where_it_can_be() -> None:
    asked = Asked(three())
    assert await asked.rows("SELECT max(v) FROM m") == [(20 * S, 7.0)]
    assert asked.segments == {2}
    assert await asked.rows("SELECT min(v) FROM m WHERE time >= 20s") == [(21 * S, 2.0)]
    assert asked.segments == {2}


async def test_first_and_last_of_series_read_the_ends_only() -> None:
    with patch.object(ends, "ROWS", 1):
        asked = Asked(three())
        assert await asked.rows("SELECT last(v) FROM m GROUP BY host") == [(30 * S, 3.0), (31 * S, 4.0)]
        assert await asked.rows("SELECT last(v) FROM m WHERE host = 'a' AND time < 40s") == [(30 * S, 3.0)]
        assert asked.segments == {3}
        assert await asked.rows("SELECT first(v) FROM m WHERE host = 'b'") == [(11 * S, 5.0)]
        assert asked.segments == {1, 3}
        assert await asked.rows("SELECT first(w) FROM m WHERE host = 'b'") == [(31 * S, 9.0)]
        storage = three()
        storage.write(BUCKET.id, [row(40, 6.0)], level=1)
        asked = Asked(storage)
        # Host b has nothing in the last segment, and of both together an earlier one might decide a tie.
        assert await asked.rows("SELECT last(v) FROM m GROUP BY host") == [(40 * S, 6.0), (31 * S, 4.0)]
        assert await asked.rows("SELECT last(v) FROM m") == [(40 * S, 6.0)]
        assert asked.segments == {1, 2, 3, 4}


async def test_small_segments_are_told_of_together_or_read_together() -> None:
    with patch.object(units, "SMALL_ROWS", 100):
        asked = Asked(three())
        assert await asked.rows("SELECT count(v), max(v) FROM m") == [(0, 6, 7.0)]
        assert asked.chunks == []
        assert await asked.rows("SELECT count(v), max(v) FROM m WHERE time < 31s") == [(0, 5, 7.0)]
        assert asked.segments == {1, 2, 3}


async def test_a_field_of_another_type_in_another_shard_is_read() -> None:
    far = SECOND_SHARD_S * 7
    storage = stored([row(10, 1.5)], [Point("m", (), (("v", 2),), far * S)])
    asked = Asked(storage)
    assert await asked.rows("SELECT max(v), count(v) FROM m") == [(0, 2.0, 2)]
    assert asked.segments == {2}


async def test_counting_what_each_row_has_reads_no_column() -> None:
    asked = Asked(three())
    assert await asked.rows("SELECT count(v) FROM m GROUP BY host") == [(0, 3), (0, 3)]
    assert await asked.rows("SELECT count(v) FROM m WHERE host = 'b' AND time >= 11s AND time < 31s") == [(11 * S, 2)]
    assert await asked.rows("SELECT count(v) FROM m WHERE time >= 0 AND time < 45s GROUP BY time(15s)") == [
        (0, 2), (15 * S, 2), (30 * S, 2)]  # fmt: skip
    assert asked.segments == {1, 2, 3} and asked.columns == []
    assert await asked.rows("SELECT count(w) FROM m GROUP BY host") == [(0, 1)]
    assert [id for id, _ in asked.columns] == [3]


@pytest.mark.parametrize("text", ["SELECT count(v), max(v) FROM m WHERE time > 10s",
                                  "SELECT count(v) FROM m GROUP BY host", "SELECT max(v) FROM m"])  # fmt: skip
async def test_segments_replaced_under_the_query_count_once(text: str) -> None:
    storage = three()
    wanted = await Asked(three()).rows(text)
    plain = storage._fetch

    def fetch(head: Any) -> Any:
        storage._fetch = plain  # type: ignore[method-assign]
        commits = [[row(10, 1.0), row(11, 5.0, "b")], [row(20, 7.0), row(21, 2.0, "b")],
                   [row(30, 3.0), row(31, 4.0, "b", w=9.0)]]  # fmt: skip
        merged = merge_blocks([make_blocks(commit, BUCKET.id)[0] for commit in commits])
        storage.replace(BUCKET.id, "m", merged)
        return plain(head)

    storage._fetch = fetch  # type: ignore[method-assign]
    assert await Asked(storage).rows(text) == wanted


async def test_only_points_that_are_read_count_towards_the_limit_and_once() -> None:
    limits = SelectLimits(points=3)
    asked = Asked(three(), limits=limits)
    assert await asked.rows("SELECT count(v), max(v) FROM m") == [(0, 6, 7.0)]
    with patch.object(ends, "ROWS", 1):
        asked = Asked(three(), limits=limits)
        # A first try over the last segment finds no w for host a, and all three of its points are read.
        assert await asked.rows("SELECT last(w) FROM m WHERE host = 'a'") == []
    with pytest.raises(Invalid, match="max-select-point"):
        await Asked(three(), limits=limits).rows("SELECT mean(v) FROM m")


async def test_explain_analyze_says_how_many_segments_were_told_of() -> None:
    asked = Asked(three())
    lines = await asked.explained("EXPLAIN ANALYZE SELECT count(v), max(v) FROM m WHERE time > 10s")
    assert "segments_read: 1" in lines and "segments_told: 2" in lines and "rows_scanned: 1" in lines
    lines = await Asked(three()).explained("EXPLAIN ANALYZE SELECT mean(v) FROM m")
    assert "segments_read: 3" in lines and "segments_told: 0" in lines
