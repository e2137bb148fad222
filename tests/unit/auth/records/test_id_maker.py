"""Ids of new records: order and layout."""

from __future__ import annotations

from services.auth.records.id_maker import EPOCH_MS, IdMaker
from services.auth.rest import ids


def test_later_ids_are_greater_even_when_the_clock_goes_back() -> None:
    times = iter([1_700_000_000_000] * 6000 + [1_600_000_000_000] * 10)
    maker = IdMaker(lambda: next(times))
    made = [maker.sortable() for _ in range(6010)]
    assert made == sorted(set(made))
    assert all(ids.find_id(id) == id for id in made)


def test_an_id_carries_the_millisecond_since_2017() -> None:
    assert int(IdMaker(lambda: EPOCH_MS + 5, machine=3).sortable(), 16) >> 22 == 5
