"""What is known of stored series: never more than was told, never over the bound."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.known_series import ID_BYTES, KnownSeries, SeriesSet

ids_lists = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), unique=True, max_size=6), min_size=1, max_size=8
)


def array(ids: list[tuple[int, int]]) -> np.ndarray:
    return np.array(ids, np.uint64).reshape(-1, 2)


@given(ids_lists)
def test_nothing_is_found_that_was_not_added(batches: list[list[tuple[int, int]]]) -> None:
    known, model = KnownSeries(1 << 20), set()
    everything = [(high, low) for high in range(6) for low in range(4)]
    for batch in batches:
        known.add("b", "m", array(batch))
        model |= set(batch)
        found = known.find("b", "m", array(everything))
        assert {one for one, hit in zip(everything, found, strict=True) if hit} <= model


def test_every_added_id_is_found() -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 1 << 63, (30_000, 2), dtype=np.uint64)
    members = SeriesSet()
    for start in range(0, len(ids), 700):
        members.add(ids[start : start + 700])
    assert len(members) == len(ids)
    assert members.find(ids).all()
    assert not members.find(ids ^ np.uint64(1)).any()
    assert len(members._runs) <= 16


def test_measurements_and_buckets_are_apart() -> None:
    known = KnownSeries(1 << 20)
    known.add("b", "m", array([(1, 1)]))
    assert known.find("b", "m", array([(1, 1), (1, 2), (2, 1)])).tolist() == [True, False, False]
    assert not known.find("b", "n", array([(1, 1)])).any()
    assert not known.find("c", "m", array([(1, 1)])).any()


def test_an_id_added_twice_counts_once() -> None:
    known = KnownSeries(1 << 20)
    known.add("b", "m", array([(1, 1), (2, 2)]))
    known.add("b", "m", array([(2, 2), (3, 3)]))
    assert len(known) == 3


def test_the_bound_drops_the_measurement_used_longest_ago() -> None:
    known = KnownSeries(4 * ID_BYTES)
    known.add("b", "old", array([(1, 1), (2, 2)]))
    known.add("b", "used", array([(3, 3), (4, 4)]))
    known.find("b", "old", array([(1, 1)]))
    known.add("b", "new", array([(5, 5)]))
    assert known.find("b", "old", array([(1, 1)])).all()
    assert not known.find("b", "used", array([(3, 3)])).any()
    assert len(known) == 3
    known.add("b", "huge", array([(n, n) for n in range(10, 20)]))
    assert len(known) == 3


def test_what_is_forgotten_is_not_found() -> None:
    known = KnownSeries(1 << 20)
    known.add("b", "m", array([(1, 1)]))
    known.add("b", "n", array([(1, 1)]))
    known.add("c", "m", array([(1, 1)]))
    known.forget("b", "m")
    assert not known.find("b", "m", array([(1, 1)])).any()
    known.forget("b", "m")
    known.forget_bucket("b")
    assert len(known) == 1
    known.forget_all()
    assert len(known) == 0
    assert not known.find("c", "m", array([(1, 1)])).any()
