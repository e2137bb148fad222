"""Which large segments are to be merged because their times overlap · pure.

Data that comes in the order of time leaves large segments side by side, and nothing is to be done. Data that comes
late, or again, leaves them one over the other: a query over an hour would read each. Where four or more cover one
moment they are merged, and the result is cut by time (``compactor.py``) at the halves, quarters, eighths … of the
shard, so that results of different merges fit each other and what covers a moment are thin slices of it. Neighbours
merge when the result has at least twice the rows per time of the densest, so a row is written again only about once
for each fourfold of its layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from services.storage.compaction.levels import Limits, Merge, is_full
from services.storage.state.blocks import Segment

# Layers at one moment that are looked at together; more are merged in several steps.
MAX_LAYERS = 32


def plan_all_overlaps(segments: Iterable[Segment], limits: Limits, taken: Collection[int] = ()) -> list[Merge]:
    """As ``plan_overlaps``, of all measurements and shards."""
    by_place = sorted(segments, key=lambda each: (each.measurement, each.shard_start_ns, each.order, each.id))
    return [
        merge
        for _, place in groupby(by_place, key=lambda each: (each.measurement, each.shard_start_ns))
        for merge in plan_overlaps(list(place), limits, taken)
    ]


def plan_overlaps(segments: Sequence[Segment], limits: Limits, taken: Collection[int] = ()) -> list[Merge]:
    """Merges of large segments whose times overlap.

    Args:
        segments: all of one measurement and shard, in the order in which they win.
        taken: ids of those that are merged otherwise.
    """
    parts = Counter(segment.order for segment in segments)
    # Those that are left alone otherwise: full ones, and the parts into which a result was cut.
    large = [each for each in segments if each.level > 0 and (parts[each.order] > 1 or is_full(each, limits))]
    merges: list[Merge] = []
    used = set(taken)
    for moment in _deep_moments(large, limits.segments):
        layers = [each for each in large if each.min_time_ns <= moment <= each.max_time_ns and each.id not in used]
        merge = _merge_of(layers[-MAX_LAYERS:], segments, limits, used)
        if merge is not None:
            merges.append(merge)
            used.update(segment.id for segment in merge.segments)
    return merges


def _deep_moments(large: Sequence[Segment], layers: int) -> list[int]:
    """Moments that so many segments cover, the deepest first; only those at which one begins."""
    if len(large) < layers:
        return []
    starts = np.sort(np.array([segment.min_time_ns for segment in large], np.int64))
    ends = np.sort(np.array([segment.max_time_ns for segment in large], np.int64))
    depth = np.searchsorted(starts, starts, "right") - np.searchsorted(ends, starts, "left")
    deep = np.flatnonzero(depth >= layers)
    moments: list[int] = starts[deep[np.argsort(-depth[deep], kind="stable")]].tolist()
    return list(dict.fromkeys(moments))


def _merge_of(
    layers: Sequence[Segment], segments: Sequence[Segment], limits: Limits, used: Collection[int]
) -> Merge | None:
    for window in _windows(layers, limits):
        whole = _with_those_between(window, segments)
        rows, size = sum(segment.rows for segment in whole), sum(segment.size for segment in whole)
        if rows <= limits.overlap_rows and size <= limits.overlap_bytes and not any(each.id in used for each in whole):
            return Merge(tuple(whole), rows, size)
    return None


def _windows(layers: Sequence[Segment], limits: Limits) -> Iterator[Sequence[Segment]]:
    """Neighbours among *layers* that are worth merging, the most first; where enough of them are too large together,
    fewer."""
    is_too_large = False
    for count in range(len(layers), 1, -1):
        if count < limits.segments and not is_too_large:
            return
        for start in range(len(layers) - count + 1):
            window = layers[start : start + count]
            densities = [_density(segment) for segment in window]
            if sum(densities) >= 2 * max(densities):
                rows, size = sum(segment.rows for segment in window), sum(segment.size for segment in window)
                if rows <= limits.overlap_rows and size <= limits.overlap_bytes:
                    yield window
                else:
                    is_too_large = True


def _density(segment: Segment) -> float:
    return segment.rows / (segment.max_time_ns - segment.min_time_ns + 1)


def _with_those_between(window: Sequence[Segment], segments: Sequence[Segment]) -> list[Segment]:
    """*window* and all that must go with it: what lies between them in order and touches their times would lose to
    older rows otherwise, for the result takes the place of the newest."""
    first, last = window[0].order, window[-1].order
    between = [segment for segment in segments if first < segment.order <= last]
    chosen = {segment.id: segment for segment in window}
    while True:
        low = min(segment.min_time_ns for segment in chosen.values())
        high = max(segment.max_time_ns for segment in chosen.values())
        more = [s for s in between if s.id not in chosen and s.min_time_ns <= high and s.max_time_ns >= low]
        if not more:
            return sorted(chosen.values(), key=lambda segment: (segment.order, segment.id))
        chosen.update((segment.id, segment) for segment in more)
