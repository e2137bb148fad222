"""Choices of series and what tombstones hide, against sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid
from common.tombstones import (
    Tombstone,
    check_choice,
    choice_mask,
    count_chosen,
    covers_all,
    encode_all,
    encode_choice,
    is_chosen,
    pending,
    unite,
)

COUNT = 300
chosen = st.sets(st.integers(0, COUNT - 1))


def choice_of(numbers: set[int], count: int = COUNT) -> bytes:
    mask = np.zeros(count, np.bool_)
    mask[list(numbers)] = True
    choice = encode_choice(mask)
    check_choice(choice)
    return choice


@given(chosen)
def test_a_choice_holds_what_was_chosen_and_no_later_series(numbers: set[int]) -> None:
    choice = choice_of(numbers)
    assert set(np.flatnonzero(choice_mask(choice, 2 * COUNT)).tolist()) == numbers
    assert not is_chosen(choice, np.array([-1, COUNT + 8, 1 << 40])).any()
    assert count_chosen(choice, COUNT) == len(numbers)


@given(st.lists(chosen, min_size=1, max_size=5))
def test_choices_unite_as_sets_do(several: list[set[int]]) -> None:
    united = unite(map(choice_of, several))
    assert set(np.flatnonzero(choice_mask(united, COUNT)).tolist()) == set().union(*several)
    assert unite([united, encode_all()]) == encode_all()
    for count in (COUNT, 1 + max(set().union(*several), default=0)):
        inside = [choice_of({n for n in numbers if n < count}, count) for numbers in several]
        assert covers_all(inside, count) is (set().union(*several) >= set(range(count)))
    assert covers_all([encode_all()], COUNT)


def test_a_choice_of_one_in_a_million_is_small() -> None:
    assert len(choice_of({7}, 1_000_000)) == 5
    assert len(choice_of(set(range(0, 1_000_000, 2)), 1_000_000)) == 125_001


@pytest.mark.parametrize("choice", [b"", b"\x00\x00", b"\x01abc", b"\x03"])
def test_other_bytes_are_no_choice(choice: bytes) -> None:
    with pytest.raises(Invalid):
        check_choice(choice)


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3))
def test_a_tombstone_is_pending_where_it_is_later_and_rows_may_lie_in_its_range(
    start: int, stop: int, first: int, length: int
) -> None:
    stone = Tombstone(5, start, stop, encode_all())
    last = first + length
    overlaps = any(start <= time < stop for time in range(first, last + 1))
    assert bool(pending([stone], 4, first, last)) is overlaps
    assert not pending([stone], 5, first, last)
    assert stone.covers(first, last) is all(start <= time < stop for time in (first, last))
