"""Series sets: exact membership, numbers in order of arrival."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.storage.state.series import SeriesSet, decode_ids, spans_of

# Few different halves, so that ids often share one.
ids = st.tuples(st.integers(0, 3) | st.just((1 << 64) - 1), st.integers(0, 5))
batches = st.lists(st.lists(ids, max_size=8), max_size=8)


def as_array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2)


@given(batches, st.lists(ids, min_size=1))
def test_a_set_finds_what_a_dict_finds(added: list[list[tuple[int, int]]], asked: list[tuple[int, int]]) -> None:
    series, model = SeriesSet(), {}
    for batch in added:
        fresh = [id for id in dict.fromkeys(batch) if id not in model]
        series = series.with_added(as_array(fresh))
        model.update({id: len(model) + n for n, id in enumerate(fresh)})
    assert series.count == len(model)
    assert series.find(as_array(asked)).tolist() == [model.get(id, -1) for id in asked]


def test_an_id_that_came_twice_is_found_where_it_came_first() -> None:
    series = SeriesSet().with_added(as_array([(5, 1), (2, 1), (5, 2), (5, 1), (2, 1)]))
    assert series.find(as_array([(2, 1), (5, 1), (5, 2)])).tolist() == [1, 0, 2]


def test_a_set_has_few_runs_and_about_20_bytes_a_series() -> None:
    random = np.random.default_rng(0)
    series = SeriesSet()
    for _ in range(1000):
        series = series.with_added(random.integers(0, 1 << 64, (50, 2), np.uint64))
    assert len(series.runs) <= 16
    assert sum(run.high.nbytes + run.low.nbytes + run.sequence.nbytes for run in series.runs) == 20 * 50_000


def test_ids_come_back_by_their_numbers() -> None:
    ids = as_array([(9, 9), (1, 2), (1, 1)])
    series = SeriesSet().with_added(ids[:1]).with_added(ids[1:])
    assert series.find(ids).tolist() == [0, 1, 2]
    assert np.array_equal(series.ids(0, 3), ids)
    assert np.array_equal(series.ids(1, 2), ids[1:2])
    assert np.array_equal(decode_ids(ids.astype("<u8").tobytes()), ids)


def test_a_lost_series_is_found_no_more_and_comes_again_under_another_number() -> None:
    ids = as_array([(1, 1), (2, 2), (3, 3), (4, 4)])
    series = SeriesSet().with_added(ids[:3]).without(np.array([1])).with_added(ids[[3, 1]])
    assert series.find(ids).tolist() == [0, 4, 2, 3]
    assert series.count == 5
    assert np.array_equal(series.ids(0, 5), ids[[0, 1, 2, 3, 1]])
    # As a start finds them: all at once.
    again = SeriesSet().with_added(series.ids(0, 5))
    assert again.doubles().tolist() == [1]
    assert again.without(again.doubles()).find(ids).tolist() == [0, 4, 2, 3]


def test_ascending_numbers_as_ranges() -> None:
    assert spans_of(np.zeros(0, np.int64)) == []
    assert spans_of(np.array([3])) == [(3, 4)]
    assert spans_of(np.array([0, 1, 2, 5, 8, 9])) == [(0, 3), (5, 6), (8, 10)]
