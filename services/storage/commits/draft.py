"""What one transaction will have changed: seen by the jobs after it in the same group, published when it is on disk.

Jobs run in the database's thread and change a draft only; when the transaction fails the draft is thrown away, and
the state never knew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from common.model import FieldType
from common.tombstones import Tombstone
from services.storage.state.blocks import Segment
from services.storage.state.generations import generation_of
from services.storage.state.measurement import Measurement
from services.storage.state.series import SeriesSet
from services.storage.state.state import State

# What the feed tells (docs/rpc.md, "The feed").
Event = dict[str, Any]


class Draft:
    """Changes over *state*, which does not change meanwhile.

    Attributes:
        number: the number of the last change in it.
        write_ids: results of the writes in it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.number = state.number
        self.write_ids: dict[bytes, bytes | None] = {}
        self._effects: list[Callable[[State], None]] = []
        self._events: list[Event] = []
        self._buckets: dict[str, int | None] = {}
        self._retired: set[int] = set()
        self._dropped: set[int] = set()
        self._made: dict[tuple[str, str], Measurement] = {}
        self._fields: dict[tuple[int, int], dict[str, FieldType]] = {}
        self._series: dict[int, SeriesSet] = {}
        self._renumbered: set[int] = set()
        self._added: dict[int, list[Segment]] = {}
        self._tombstones: dict[int, tuple[Tombstone, ...]] = {}
        self._touched: set[tuple[int, int]] = set()  # measurement, shard start

    def publish(self, state: State) -> list[Event]:
        """Make the changes in *state*, in the order in which they were made here; returns the events to tell."""
        for effect in self._effects:
            effect(state)
        state.number = self.number
        return self._events

    # ---- seeing

    def is_living(self, bucket_id: str) -> bool:
        """Whether there is such a bucket."""
        if bucket_id in self._buckets:
            return self._buckets[bucket_id] is not None
        return bucket_id in self._state.buckets

    def find(self, bucket_id: str, name: str) -> Measurement | None:
        """The measurement; ask ``type_of`` and ``series`` for what it has."""
        made = self._made.get((bucket_id, name))
        if made is not None:
            return made
        stored = self._state.find(bucket_id, name)
        return None if stored is None or stored.id in self._dropped else stored

    def measurements(self, bucket_id: str) -> list[Measurement]:
        """All measurements of a bucket."""
        contents = self._state.contents.get(bucket_id)
        stored = [] if contents is None else [m for m in contents.measurements.values() if m.id not in self._dropped]
        return stored + [m for m in self._made.values() if m.bucket_id == bucket_id]

    def type_of(self, measurement: Measurement, shard_start_ns: int, field: str) -> FieldType | None:
        """The type that a field has in a shard; None = it is new there."""
        added = self._fields.get((measurement.id, shard_start_ns))
        if added is not None and field in added:
            return added[field]
        stored = measurement.fields.get(shard_start_ns)
        return None if stored is None else stored.get(field)

    def series(self, measurement: Measurement) -> SeriesSet:
        return self._series.get(measurement.id, measurement.series)

    def generation(self, measurement: Measurement) -> int:
        """Which numbering of its series is in force."""
        return generation_of(measurement.id, measurement.epoch + (measurement.id in self._renumbered))

    def added_segments(self, measurement: Measurement) -> list[Segment]:
        """Segments that have been added here."""
        return self._added.get(measurement.id, [])

    def tombstones(self, measurement: Measurement) -> tuple[Tombstone, ...]:
        return self._tombstones.get(measurement.id, measurement.tombstones)

    def has_grown(self, measurement: Measurement) -> bool:
        """Whether a segment of it has been added here, or it was made or dropped here."""
        here = (measurement.bucket_id, measurement.name) in self._made or measurement.id in self._dropped
        return here or any(id == measurement.id for id, _ in self._touched)

    def series_count(self, bucket_id: str) -> int:
        return sum(self.series(measurement).count for measurement in self.measurements(bucket_id))

    def find_segment(self, segment: int) -> Segment | None:
        """A segment that is planned with."""
        found = None if segment in self._retired else self._state.find_living(segment)
        return None if found is None or found.measurement in self._dropped else found

    def is_touched(self, measurement: Measurement, shard_start_ns: int) -> bool:
        """Whether something of this shard has been added here, or the measurement dropped."""
        return measurement.id in self._dropped or (measurement.id, shard_start_ns) in self._touched

    # ---- changing

    def tell(self, event: Event) -> None:
        self._events.append(event)

    def set_bucket(self, bucket_id: str, retention_ns: int | None) -> None:
        """A bucket lives, with this retention (0 = for ever); None = it does not live any more."""
        self._buckets[bucket_id] = retention_ns
        self._effects.append(lambda state: state.set_bucket(bucket_id, retention_ns))

    def add_measurement(self, measurement: Measurement) -> None:
        self._made[measurement.bucket_id, measurement.name] = measurement
        self._effects.append(lambda state: state.add_measurement(measurement))

    def drop_measurement(self, measurement: Measurement) -> None:
        number = self.number
        self._dropped.add(measurement.id)
        self._made.pop((measurement.bucket_id, measurement.name), None)
        self._effects.append(lambda state: state.drop_measurement(measurement, number))

    def add_fields(self, measurement: Measurement, shard_start_ns: int, fields: dict[str, FieldType]) -> None:
        number = self.number
        self._fields.setdefault((measurement.id, shard_start_ns), {}).update(fields)
        self._touched.add((measurement.id, shard_start_ns))
        self._effects.append(lambda state: state.add_fields(measurement, shard_start_ns, fields, number))

    def forget_fields(self, measurement: Measurement, shard_start_ns: int) -> None:
        number = self.number
        self._effects.append(lambda state: state.forget_fields(measurement, shard_start_ns, number))

    def set_series(self, measurement: Measurement, series: SeriesSet) -> None:
        number = self.number
        self._series[measurement.id] = series
        self._effects.append(lambda state: state.set_series(measurement, series, number))

    def renumber(self, measurement: Measurement, series: SeriesSet, tombstones: tuple[Tombstone, ...]) -> None:
        """Its dictionary has been written anew; once a draft."""
        number = self.number
        self._renumbered.add(measurement.id)
        self._series[measurement.id] = series
        self._tombstones[measurement.id] = tombstones
        self._effects.append(lambda state: state.renumber(measurement, series, tombstones, number))

    def set_tombstones(self, measurement: Measurement, tombstones: tuple[Tombstone, ...]) -> None:
        number = self.number
        self._tombstones[measurement.id] = tombstones
        self._effects.append(lambda state: state.set_tombstones(measurement, tombstones, number))

    def add_commit(self, number: int, size: int, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._note(segment)
        self._effects.append(lambda state: state.add_commit(number, size, segments))

    def add_segment(self, segment: Segment) -> None:
        number = self.number
        self._note(segment)
        self._effects.append(lambda state: state.add_segment(segment, number))

    def _note(self, segment: Segment) -> None:
        self._touched.add((segment.measurement, segment.shard_start_ns))
        self._added.setdefault(segment.measurement, []).append(segment)

    def retire(self, segments: Sequence[int], at_ms: int) -> None:
        number = self.number
        self._retired.update(segments)
        self._effects.append(lambda state: state.retire(segments, at_ms, number))

    def quarantine(self, segment: int, reason: str) -> None:
        number = self.number
        self._effects.append(lambda state: state.quarantine(segment, reason, number))

    def then(self, effect: Callable[[State], None]) -> None:
        """Any other change of the state."""
        self._effects.append(effect)
