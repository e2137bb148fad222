"""Drops shards whose whole time is over (design, decision 1; queries hide what is too old to the nanosecond).

Dropped segments are retired like those that compaction replaces, and deleted from the disk by ``sweeper.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from common.tombstones import encode_choice
from services.storage.catalog.interface import Transaction
from services.storage.changes.deletes import doubt, drop_empty
from services.storage.commits.draft import Draft
from services.storage.state.measurement import Measurement
from services.storage.state.state import State

# Segments that one transaction retires.
SLICE_SEGMENTS = 1024


class ExpireShards:
    """The job of retiring a slice of expired segments, and of forgetting the field types of shards that are empty."""

    size = 0

    def __init__(self, state: State, now_ns: int) -> None:
        self._state = state
        self._now_ns = now_ns

    def is_needed(self) -> bool:
        """Whether there is anything to do; asked on the loop."""
        return next(self._expired_shards(), None) is not None

    def run(self, transaction: Transaction, draft: Draft) -> bool:
        """Returns whether there may be more."""
        at_ms = self._now_ns // 1_000_000
        room = SLICE_SEGMENTS
        reshaped: set[str] = set()
        forgotten: list[Measurement] = []
        shortened: list[Measurement] = []
        for measurement, shard_start_ns in list(self._expired_shards()):
            # What a job before this one in the group has done is seen the next time.
            if room <= 0 or draft.is_touched(measurement, shard_start_ns):
                continue
            segments = [
                segment.id
                for segment in measurement.segments.values()
                if segment.shard_start_ns == shard_start_ns and draft.find_segment(segment.id) is not None
            ]
            if room == SLICE_SEGMENTS:
                draft.number = transaction.next_number()
            taken = segments[:room]
            room -= max(1, len(taken))
            transaction.mark_replaced(taken, at_ms)
            draft.retire(taken, at_ms)
            shortened.append(measurement)
            if len(taken) == len(segments):
                transaction.delete_fields(measurement.id, shard_start_ns)
                draft.forget_fields(measurement, shard_start_ns)
                reshaped.add(measurement.bucket_id)
                forgotten.append(measurement)
        if reshaped:
            draft.tell({"number": draft.number, "tags": [f"schema:{bucket_id}" for bucket_id in sorted(reshaped)]})
        # One that has no segment left has no series left: it goes whole. Of the others some may be without rows now.
        empty = {m.id: m for m in forgotten if self._is_empty(m, draft)}
        for measurement in {m.id: m for m in shortened if m.id not in empty}.values():
            doubt(transaction, draft, measurement, encode_choice(np.ones(draft.series(measurement).count, np.bool_)))
        drop_empty(transaction, draft, list(empty.values()))
        return room <= 0

    def _is_empty(self, measurement: Measurement, draft: Draft) -> bool:
        if self._state.quarantined or draft.has_grown(measurement):
            return False
        return all(draft.find_segment(segment) is None for segment in measurement.segments)

    def _expired_shards(self) -> Iterator[tuple[Measurement, int]]:
        """Measurements and starts of their expired shards that have segments."""
        for bucket_id, contents in self._state.contents.items():
            retention_ns = self._state.buckets.get(bucket_id, 0)
            if retention_ns == 0:
                continue
            for measurement in contents.measurements.values():
                stops = {segment.shard_start_ns: segment.shard_stop_ns for segment in measurement.segments.values()}
                for shard_start_ns, shard_stop_ns in stops.items():
                    if shard_stop_ns <= self._now_ns - retention_ns:
                        yield measurement, shard_start_ns
