"""Tables of series: values found by their place, patterns looked at once."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from services.query.engine import frame
from services.query.engine.frame import SeriesTable, lower_bounds, table_of_tags
from services.query.engine.vectors import Mask
from services.query.reading.series_index import SeriesIndex


def index_of(*keys: bytes, index: SeriesIndex | None = None) -> SeriesIndex:
    index = index or SeriesIndex()
    first = index.count
    index.extend([(np.array([[first + n, 7] for n in range(len(keys))], np.uint64), keys)])
    return index


@pytest.mark.parametrize("table", [
    index_of(b"a=x,b=1", b"a=y", b"b=1").table,
    table_of_tags([{"a": "x", "b": "1"}, {"a": "y"}, {"b": "1"}]),
])  # fmt: skip
def test_series_that_have_a_value(table: SeriesTable) -> None:
    assert table.having("a", "x").tolist() == [True, False, False]
    assert table.having("a", "").tolist() == [False, False, True]
    assert table.having("b", "1").tolist() == [True, False, True]
    assert table.having("b", "x").tolist() == [False, False, False]


def test_a_value_that_came_later_is_in_the_new_table_only() -> None:
    index = index_of(b"a=x")
    before = index.table
    index_of(b"a=late", index=index)
    assert before.having("a", "late").tolist() == [False]
    assert index.table.having("a", "late").tolist() == [False, True]


def test_a_pattern_is_matched_once_as_long_as_there_is_room() -> None:
    table = index_of(b"a=x1", b"a=x2", b"a=y").table
    asked: list[str] = []

    def match(words: NDArray[Any], found: str) -> Mask:
        asked.append(found)
        return np.array([word.startswith(found) for word in words])

    def ask(text: str) -> list[bool]:
        return table.matching("a", text, lambda words: match(words, text))[table.codes["a"]].tolist()

    assert [ask("x"), ask("x"), ask("y")] == [[True, True, False], [True, True, False], [False, False, True]]
    assert asked == ["x", "y"]
    with patch.object(frame, "MAX_MATCHES_BYTES", 8):
        assert ask("z") == [False, False, False]
        ask("x")
    assert asked == ["x", "y", "z", "x"]


def test_few_ranges_and_many_are_searched_alike() -> None:
    values = np.sort(np.random.default_rng(1).integers(0, 100, 500))
    bounds = np.sort(np.random.default_rng(2).integers(0, 500, 200))
    starts, ends = bounds[:-1], bounds[1:]
    many = lower_bounds(values, starts, ends, np.int64(50))
    with patch.object(frame, "FEW_RUNS", 1_000):
        assert lower_bounds(values, starts, ends, np.int64(50)).tolist() == many.tolist()
