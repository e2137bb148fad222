"""Which overlapping segments are merged: what is in order is left alone, what is late ends in few layers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from common.segment import Block
from services.storage.compaction.compactor import cut_by_time
from services.storage.compaction.levels import Limits, level_of
from services.storage.compaction.overlaps import plan_overlaps
from services.storage.state.blocks import Segment

WEEK = 7 * 86_400
LIMITS = Limits()
FULL = LIMITS.rows


def segment(id: int, first: int, last: int, rows: int = FULL, *, order: int | None = None, level: int = 6) -> Segment:
    return Segment(id, id if order is None else order, level, 1, 0, WEEK, first, last, rows, 0, rows * 8, b"")


def merged(sources: Sequence[Segment], id: int) -> list[Segment]:
    """What the merge of evenly spread rows becomes, no two rows the same."""
    low, high = min(s.min_time_ns for s in sources), max(s.max_time_ns for s in sources)

    def rows(start: int, stop: int) -> int:
        shares = ((s, min(stop, s.max_time_ns + 1) - max(start, s.min_time_ns)) for s in sources)
        return sum(s.rows * max(0, share) // (s.max_time_ns + 1 - s.min_time_ns) for s, share in shares)

    found: list[Segment] = []

    def cut(start: int, stop: int) -> None:
        if stop - start > 1 and rows(start, stop) > FULL:
            cut(start, (start + stop) // 2)
            cut((start + stop) // 2, stop)
        elif rows(start, stop):
            first, last = max(start, low), min(stop - 1, high)
            count = rows(start, stop)
            found.append(segment(id + len(found), first, last, count, order=sources[-1].order, level=level_of(count)))

    cut(0, WEEK)
    return found


def compacted(arriving: Sequence[Segment]) -> tuple[list[Segment], float]:
    """What is left of segments that come one by one, and how often a row was written after its arrival."""
    living: list[Segment] = []
    written, id = 0, 10**6
    for new in arriving:
        living.append(new)
        while merges := plan_overlaps(sorted(living, key=lambda each: (each.order, each.id)), LIMITS):
            for merge in merges:
                assert merge.rows <= LIMITS.overlap_rows
                assert merge.size <= LIMITS.overlap_bytes
                taken = {each.id for each in merge.segments}
                living = [each for each in living if each.id not in taken] + merged(merge.segments, id)
                id += 1000
                written += merge.rows
    return living, written / sum(each.rows for each in arriving)


def depth(segments: Sequence[Segment], hours: int = 24) -> float:
    """How many segments a query over so many hours reads, on average over the week."""
    spans = [(at * 3600, (at + hours) * 3600) for at in range(0, 168 - hours + 1, 6)]
    touched = [sum(s.min_time_ns < stop and s.max_time_ns >= start for s in segments) for start, stop in spans]
    return sum(touched) / len(touched)


def test_what_comes_in_order_is_left_alone():
    hour = 3600
    arriving = [segment(n, n * hour - 60 * (n > 0), (n + 1) * hour) for n in range(100)]
    assert compacted(arriving) == (arriving, 0)


def test_a_backfill_in_any_order_ends_in_few_layers():
    arriving = [segment(n, 0, WEEK - 1) for n in range(64)]
    left, written = compacted(arriving)
    assert depth(arriving) == 64
    assert depth(left) < 18  # a day is 9 of them at best: 64 million rows, a seventh of the time
    assert written < 6


def test_days_in_any_order_and_again():
    draw = random.Random(1)
    days = [draw.randrange(7) for _ in range(56)]
    arriving = [segment(n, day * 86_400, (day + 1) * 86_400 - 1) for n, day in enumerate(days)]
    left, written = compacted(arriving)
    assert depth(arriving, 1) > 7
    assert depth(left, 1) < 4
    assert written < 6


def test_what_lies_between_in_order_goes_with_it():
    layers = [segment(n, 0, 1000, FULL // 3 * 2) for n in (1, 2, 3, 9)]
    small = segment(5, 500, 600, 10, level=1)
    aside = segment(6, 2000, 2100, 10, level=1)
    (merge,) = plan_overlaps([*layers[:3], small, aside, layers[3]], LIMITS)
    assert [each.id for each in merge.segments] == [1, 2, 3, 5, 9]
    assert plan_overlaps([*layers[:3], small, aside, layers[3]], LIMITS, {5}) == []


def test_a_thin_layer_does_not_make_a_dense_one_be_written_again():
    thin = [segment(n, 0, WEEK - 1, FULL * 6 // 10) for n in range(2, 5)]
    assert plan_overlaps([segment(1, 0, WEEK // 100, FULL), *thin], LIMITS) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-(2**40), 2**40)), min_size=1, unique=True), st.integers(1, 20)
)
def test_parts_hold_all_rows_and_follow_each_other_in_time(points: list[tuple[int, int]], most: int):
    points = sorted(points)
    series = sorted({series for series, _ in points})
    counts = [sum(each == one for each, _ in points) for one in series]
    ids = np.array([(0, one) for one in series], np.uint64)
    times = np.array([time for _, time in points], np.int64)
    block = Block("b", "m", -(2**41), 2**41, ids, np.cumsum([0, *counts]), times, ())
    parts = cut_by_time(block, most)
    assert all(part.rows <= most for _, part in parts)
    found = []
    for rows, part in parts:
        runs = np.repeat(part.series[:, 1], np.diff(part.offsets)).tolist()
        found += list(zip(runs, part.times.tolist(), strict=True))
        assert rows is None or np.array_equal(block.times[rows], part.times)
    assert sorted(found) == points
    assert all(left.times.max() <= right.times.min() for (_, left), (_, right) in pairwise(parts))
