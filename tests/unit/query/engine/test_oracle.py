"""The whole of SELECT, from segments to series, against a naive oracle over the same points."""

from __future__ import annotations

import asyncio
import math
import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from common.segment import StringArray
from services.query.context import QueryContext
from services.query.evaluation.select import select
from services.query.influxql.parser import parse
from services.query.reading import units
from services.query.render.result import ResultColumn, ResultSeries
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.oracle import Answer, Question, answer
from tests.unit.query.engine.points import Point, Unsigned

EXAMPLES = int(os.environ.get("TIDEGATE_ORACLE_EXAMPLES", "5000"))
QUESTIONS = 5  # of each set of points
PARTS = 4  # which run side by side
# Explaining what matters in a failure takes longer than all the rest.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
BASE_S = 1_704_844_800  # a Wednesday; the shard ends on Thursday 00:00, one day later
SECOND_SHARD_S = 86_400
NUMBERS = ("f", "i", "u", "c")

tags = st.fixed_dictionaries({}, optional={"a": st.sampled_from("xyz"), "b": st.sampled_from("pq")})
fields = st.fixed_dictionaries(
    {},
    optional={
        "f": st.integers(-40, 40).map(lambda n: n / 4),
        "i": st.integers(-9, 9),
        "u": st.integers(0, 9).map(Unsigned),
        "c": st.integers(-9, 9),
        "s": st.sampled_from(["", "k", "m", "z"]),
        "t": st.booleans(),
    },
).filter(bool)
seconds = st.one_of(st.integers(0, 40), st.integers(86_390, 86_420))


def make_point(tags: dict[str, str], fields: dict[str, Any], second: int) -> Point:
    """The field c is an integer in the first shard and a float in the second."""
    if second >= SECOND_SHARD_S and "c" in fields:
        fields = fields | {"c": fields["c"] / 2}
    return Point("m", tuple(sorted(tags.items())), tuple(fields.items()), (BASE_S + second) * 10**9)


@dataclass(frozen=True)
class Delete:
    """Of the series with a = *tag* (None = all) from *first_s* on, for *seconds*."""

    tag: str | None
    first_s: int
    seconds: int

    @property
    def range_ns(self) -> tuple[int, int]:
        return (BASE_S + self.first_s) * 10**9, (BASE_S + self.first_s + self.seconds) * 10**9

    def hides(self, point: Point) -> bool:
        start_ns, stop_ns = self.range_ns
        return start_ns <= point.time_ns < stop_ns and self.tag in (None, dict(point.tags).get("a"))

    def takes(self, key: bytes) -> bool:
        return self.tag is None or f"a={self.tag}".encode() in key.split(b",")


points = st.builds(make_point, tags, fields, seconds)
deletes = st.builds(Delete, st.sampled_from([None, "x", "y"]), seconds, st.sampled_from([1, 5, 50, 100_000]))
Change = list[Point] | Delete
changes = st.lists(
    st.one_of(st.lists(points, min_size=1, max_size=12), st.lists(points, min_size=1, max_size=12), deletes),
    min_size=1, max_size=5,
)  # fmt: skip
conditions = st.one_of(
    st.tuples(st.sampled_from(["a", "b", "nosuch"]), st.sampled_from(["=", "!="]), st.sampled_from(["x", "p", ""])),
    st.tuples(st.sampled_from(NUMBERS), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
              st.one_of(st.integers(-5, 5), st.integers(-20, 20).map(lambda n: n / 4))),
    st.tuples(st.just("s"), st.sampled_from(["=", "!="]), st.sampled_from(["", "k", "z"])),
    st.tuples(st.just("t"), st.sampled_from(["=", "!="]), st.booleans()),
)  # fmt: skip
calls = st.one_of(
    st.tuples(
        st.sampled_from(["count", "sum", "mean", "median", "stddev", "spread", "max", "min", "first", "last", "p50",
                         "p90.5"]),
        st.sampled_from(NUMBERS),
    ),
    st.tuples(st.sampled_from(["count", "first", "last"]), st.sampled_from(["s", "t"])),
    st.tuples(st.sampled_from(["max", "min"]), st.just("t")),
)  # fmt: skip
raw_columns = st.lists(st.sampled_from([*NUMBERS, "s", "t", "a", "b"]), min_size=1, max_size=4, unique=True).filter(
    lambda names: any(name not in "ab" for name in names)
)


@st.composite
def questions(draw: Any) -> Question:
    raw = draw(st.booleans())
    question = Question(
        columns=tuple(draw(raw_columns) if raw else draw(st.lists(calls, min_size=1, max_size=3))),
        where=tuple(draw(st.lists(conditions, max_size=2))),
        keys=draw(st.sampled_from([(), ("a",), ("a", "b"), ("b",)])),
        first_s=draw(st.one_of(st.none(), st.integers(0, 30).map(lambda s: BASE_S + s))),
        last_s=draw(st.one_of(st.none(), st.integers(20, 60).map(lambda s: BASE_S + s))),
        descending=draw(st.booleans()),
        limit=draw(st.integers(0, 3)),
        offset=draw(st.integers(0, 2)),
    )
    if raw or draw(st.booleans()):
        return question
    return replace(
        question,
        width_s=draw(st.sampled_from([1, 7, 10, 60])),
        offset_s=draw(st.integers(0, 9)),
        last_s=question.last_s or BASE_S + 45,
        fill=draw(st.sampled_from([None, "null", "none", "previous", "linear", 0, 3, -1.5])),
    )


def values_of(column: ResultColumn) -> list[Any]:
    assert not isinstance(column.values, StringArray)
    values = column.values.tolist() if isinstance(column.values, np.ndarray) else list(column.values)
    if column.valid is None:
        return values
    return [value if there else None for value, there in zip(values, column.valid.tolist(), strict=True)]


async def ask(context: QueryContext, text: str) -> Answer:
    found: dict[tuple[str, ...], list[Any]] = {}
    (statement,) = parse(text)
    async for series in select(statement, context):  # type: ignore[arg-type]
        assert isinstance(series, ResultSeries)
        key = tuple(value for _, value in series.tags)
        found.setdefault(key, []).extend(zip(*(values_of(column) for column in series.own_columns), strict=True))
    return list(found.items())


def alike(got: Any, wanted: Any) -> bool:
    if type(got) is not type(wanted):
        return False
    return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9) if isinstance(got, float) else bool(got == wanted)


def settled(question: Question, points: list[Point]) -> Question:
    """The question without what is not told: which rows of equal times LIMIT leaves, which of them comes first."""
    times = Counter(point.time_ns for point in points)
    unique = {(point.tags, point.time_ns) for point in points}
    tied = len(unique) > len(times)
    raw = isinstance(question.columns[0], str)
    loose = any(not isinstance(c, str) and c[0] in ("first", "last") for c in question.columns) and not question.width_s
    if tied and loose:
        return replace(question, columns=(("count", "f"),))
    return replace(question, limit=0, offset=0) if raw and tied else question


def loosened(rows: list[Any], question: Question) -> list[Any]:
    """Rows in an order that equal times don't change; percentile's own time depends on which equal value it takes."""
    if not question.width_s and len(set(question.columns)) == 1 and question.columns[0][0][0] == "p":
        rows = [row[1:] for row in rows]
    if not isinstance(question.columns[0], str):
        return rows
    return sorted(rows, key=lambda row: (row[0], repr(row[1:])))


# One point with every field in each shard: a name that no point has is a tag, which the oracle does not know.
COMPLETE = [
    Point(
        "m",
        (("a", "x"),),
        (("f", 0.5), ("i", 1), ("u", Unsigned(2)), ("c", c), ("s", "k"), ("t", True)),
        (BASE_S + second) * 10**9,
    )
    for second, c in ((5, 1), (SECOND_SHARD_S, 1.5))
]


@settings(max_examples=EXAMPLES // QUESTIONS // PARTS, deadline=None, phases=PHASES)
@given(changes, st.lists(questions(), min_size=QUESTIONS, max_size=QUESTIONS),
       st.sampled_from([1, 4, units.SMALL_ROWS]))  # fmt: skip
@pytest.mark.parametrize("part", range(PARTS))
def test_select_answers_as_the_oracle_does(
    part: int, changes: list[Change], asked: list[Question], small_rows: int
) -> None:
    # What counts as a large segment decides how many pieces a shard is read in.
    with patch.object(units, "SMALL_ROWS", small_rows):
        check(changes, asked)


def check(changes: list[Change], asked: list[Question]) -> None:
    """One set of points, to which several questions are put one after the other: later ones find the caches warm."""
    storage, bucket_id = MemoryStorage(), bucket_of("db", "autogen").id
    there: list[Point] = []
    for number, change in enumerate([COMPLETE, *changes]):
        if isinstance(change, Delete):
            storage.delete(bucket_id, "m", *change.range_ns, change.takes)
            there = [point for point in there if not change.hides(point)]
        else:
            storage.write(bucket_id, change, level=number % 2)
            there += change
    asked = [settled(question, there) for question in asked]

    async def ask_all() -> list[Answer]:
        context = make_context(storage, "db")
        return [await ask(context, question.text) for question in asked]

    for question, got in zip(asked, asyncio.run(ask_all()), strict=True):
        compare(question, got, answer(there, question))


def compare(question: Question, got: Answer, wanted: Answer) -> None:
    assert [key for key, _ in got] == [key for key, _ in wanted], (question.text, got, wanted)
    for (_, got_rows), (_, wanted_rows) in zip(got, wanted, strict=True):
        got_rows, wanted_rows = loosened(got_rows, question), loosened(wanted_rows, question)
        assert len(got_rows) == len(wanted_rows), (question.text, got_rows, wanted_rows)
        for got_row, wanted_row in zip(got_rows, wanted_rows, strict=True):
            assert len(got_row) == len(wanted_row)
            assert all(map(alike, got_row, wanted_row)), (question.text, got_row, wanted_row)
