"""What is merged next."""

from __future__ import annotations

from collections import Counter

from services.storage.compaction.levels import Limits, Merge, level_of, plan_merges
from services.storage.state.blocks import Segment

LIMITS = Limits(rows=1000, bytes=1 << 20, sources=50, blocks=8, segments=4)


def segment(
    id: int, rows: int, level: int = 0, *, order: int | None = None, shard: int = 0, measurement: int = 1
) -> Segment:
    return Segment(id, id if order is None else order, level, measurement, shard, shard + 1, 0, 1, rows, 0, rows, b"")


def ids(merges: list[Merge]) -> list[list[int]]:
    return [[each.id for each in merge.segments] for merge in merges]


def merged(merge: Merge, id: int) -> Segment:
    return segment(id, merge.rows, level_of(merge.rows), order=merge.segments[-1].order)


def test_a_few_blocks_wait_for_others():
    few = [segment(n, 10) for n in range(7)]
    assert plan_merges(few, LIMITS) == []
    assert ids(plan_merges([*few, segment(7, 10)], LIMITS)) == [list(range(8))]


def test_blocks_that_have_waited_long_are_merged_with_what_there_is():
    assert ids(plan_merges([segment(1, 10), segment(2, 10)], LIMITS, {1})) == [[1, 2]]
    assert ids(plan_merges([segment(1, 10)], LIMITS, {1})) == [[1]]


def test_measurements_and_shards_are_not_mixed():
    blocks = [segment(n, 10, shard=n % 2, measurement=n % 4 // 2) for n in range(32)]
    assert sorted(ids(plan_merges(blocks, LIMITS))) == [list(range(n, 32, 4)) for n in range(4)]


def test_only_neighbours_in_order_are_merged():
    blocks = (
        [segment(n, 10) for n in range(4)] + [segment(100, 900, 1, order=4)] + [segment(n, 10) for n in range(5, 13)]
    )
    assert ids(plan_merges(blocks, LIMITS)) == [list(range(5, 13))]


def test_results_stay_within_the_limits():
    for rows in (10, 130, 400, 700, 3000):
        for merge in plan_merges([segment(n, rows) for n in range(100)], LIMITS):
            assert len(merge.segments) == 1 or merge.rows <= LIMITS.rows
            assert len(merge.segments) <= LIMITS.sources
            assert merge.rows == rows * len(merge.segments)


def test_a_block_that_is_large_by_itself_is_taken_alone():
    assert ids(plan_merges([segment(1, 3000)], LIMITS)) == [[1]]


def test_the_parts_of_a_cut_block_are_left_alone():
    parts = [segment(n, 400, 3, order=9) for n in range(1, 4)]
    assert plan_merges([segment(0, 10, 1), *parts, segment(10, 10, 1)], LIMITS, {0, 10}) == []


def test_a_stream_of_small_blocks_does_not_keep_the_larger_waiting():
    older = [segment(n, 20, 1) for n in range(4)]
    newer = [segment(n, 1) for n in range(10, 20)]
    assert ids(plan_merges(older + newer, LIMITS)) == [list(range(10, 20)), [0, 1, 2, 3]]


def test_a_long_stream_leaves_few_segments_and_writes_each_row_a_few_times():
    limits = Limits(rows=100_000)
    living: list[Segment] = []
    written: Counter[str] = Counter()
    count, most = 20_000, 0
    for n in range(count):
        living.append(segment(n, 10))
        if n % 3:
            continue
        while merges := plan_merges(living, limits):
            for merge in merges:
                taken = {each.id for each in merge.segments}
                living = [each for each in living if each.id not in taken] + [merged(merge, merge.segments[-1].id)]
                written["rows"] += merge.rows
        most = max(most, len(living))
    assert sum(each.rows for each in living) == 10 * count
    assert most < 20
    assert written["rows"] < 10 * count * 8
