"""What storage holds in memory of what is on disk: measurements, field types, series, segments · pure.

All questions but those for column bytes, tag keys and records are answered from here. The state changes on the event
loop alone and only after a transaction is on disk (``Draft.publish``), so whoever reads it there sees what was
acknowledged, no less. The one writer (``commits/committer.py``) reads it in the database's thread while nothing changes
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from common import board
from common.model import FieldType
from common.tombstones import Tombstone
from services.storage.catalog.rows import Damage
from services.storage.catalog.segment_store import commit_of
from services.storage.state.blocks import Segment
from services.storage.state.measurement import Measurement
from services.storage.state.removals import Removals
from services.storage.state.series import SeriesSet


@dataclass(slots=True)
class BucketContents:
    """The measurements of a bucket, by name.

    Attributes:
        version: number of the last change of what ``storage.measurements`` answers.
        word: where its slot on the board is.
    """

    version: int
    word: int
    measurements: dict[str, Measurement] = field(default_factory=dict)

    @property
    def series_count(self) -> int:
        return sum(measurement.series.count for measurement in self.measurements.values())


@dataclass(slots=True)
class LevelZero:
    """A level-0 commit's row on disk.

    Attributes:
        held: how many of its segments are planned with, retired or quarantined; at 0 the row can go.
    """

    size: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class Retired:
    """A segment that is no longer planned with but may still be read."""

    segment: Segment
    at_ms: int


class State:
    """The whole.

    Attributes:
        on_change: told where on the board the slot of what changes is.
    """

    def __init__(self) -> None:
        self.number = 0
        self.on_change: Callable[[int], object] = _tell_nobody
        # Living buckets with their retention in ns; 0 = for ever.
        self.buckets: dict[str, int] = {}
        self.contents: dict[str, BucketContents] = {}
        self.by_id: dict[int, Measurement] = {}
        self.commits: dict[int, LevelZero] = {}
        self._living: dict[int, Segment] = {}
        self.retired: dict[int, Retired] = {}
        self.quarantined: dict[int, str] = {}
        # What is damaged beside segments, told at the start or found since.
        self.damage: list[Damage] = []
        # Commits that hold nothing any more.
        self.empty: set[int] = set()
        # Dropped measurements whose contents are still on disk: their compacted segments, (id, bytes).
        self.dropped: dict[int, list[tuple[int, int]]] = {}
        # Dictionaries that are no longer in force, and what is left of those that never were: their pieces are deleted.
        self.stale: set[int] = set()
        # Measurements with tombstones that may hide something, and those with one that doubts.
        self.unsettled: set[int] = set()
        self.settled: set[int] = set()
        self.level0_blocks = 0
        self.level0_bytes = 0

    @property
    def may_be_misled(self) -> bool:
        """Whether tables are damaged that tell which series there are."""
        return any(each.table in ("measurements", "generations", "dictionary") for each in self.damage)

    # ---- finding

    def find(self, bucket_id: str, name: str) -> Measurement | None:
        contents = self.contents.get(bucket_id)
        return None if contents is None else contents.measurements.get(name)

    def find_living(self, segment: int) -> Segment | None:
        """A segment that is planned with."""
        return self._living.get(segment)

    def find_segment(self, segment: int) -> Segment | None:
        """A segment that may be read, be it planned with or retired."""
        retired = self.retired.get(segment)
        return retired.segment if retired is not None else self._living.get(segment)

    def segments(self) -> Iterable[Segment]:
        """All segments that are planned with."""
        return self._living.values()

    # ---- changing; on the loop, after the transaction

    def set_bucket(self, bucket_id: str, retention_ns: int | None) -> None:
        if retention_ns is None:
            self.buckets.pop(bucket_id, None)
        else:
            self.buckets[bucket_id] = retention_ns

    def add_measurement(self, measurement: Measurement) -> None:
        bucket_id, number = measurement.bucket_id, measurement.version
        contents = self.contents.get(bucket_id)
        if contents is None:
            contents = self.contents[bucket_id] = BucketContents(number, board.word_of(bucket_id))
        contents.measurements[measurement.name] = measurement
        self._changed_list(contents, number)
        self._changed(measurement, number)
        self.by_id[measurement.id] = measurement

    def add_fields(
        self, measurement: Measurement, shard_start_ns: int, fields: dict[str, FieldType], number: int
    ) -> None:
        measurement.fields.setdefault(shard_start_ns, {}).update(fields)
        self._changed_list(self.contents[measurement.bucket_id], number)

    def forget_fields(self, measurement: Measurement, shard_start_ns: int, number: int) -> None:
        measurement.fields.pop(shard_start_ns, None)
        self._changed_list(self.contents[measurement.bucket_id], number)

    def set_series(self, measurement: Measurement, series: SeriesSet, number: int) -> None:
        measurement.series = series
        self._changed(measurement, number)
        self._changed_list(self.contents[measurement.bucket_id], number)

    def set_tombstones(self, measurement: Measurement, tombstones: tuple[Tombstone, ...], number: int) -> None:
        measurement.tombstones = tombstones
        self._changed(measurement, number)
        self._changed_list(self.contents[measurement.bucket_id], number)
        for noted, is_settled in ((self.settled, True), (self.unsettled, False)):
            if any(stone.is_settled is is_settled for stone in tombstones):
                noted.add(measurement.id)
            else:
                noted.discard(measurement.id)

    def renumber(
        self, measurement: Measurement, series: SeriesSet, tombstones: tuple[Tombstone, ...], number: int
    ) -> None:
        """Its dictionary has been written anew: *series* and *tombstones* with their new numbers."""
        self.stale.add(measurement.generation)
        measurement.epoch += 1
        measurement.lost_series = ()
        # What somebody holds is of other numbers: no difference leads from there to here.
        measurement.removals = Removals(number)
        self.set_series(measurement, series, number)
        self.set_tombstones(measurement, tombstones, number)

    def lose_series(self, measurement: Measurement, first: int, stop: int, number: int) -> None:
        """Serve the series *first* … *stop* − 1 no longer."""
        self._changed(measurement, number)
        self._changed_list(self.contents[measurement.bucket_id], number)
        measurement.lost_series = (*measurement.lost_series, (first, stop))
        self.damage.append(
            Damage(
                "dictionary",
                f"series {first} to {stop - 1} of measurement {measurement.name!r} in bucket {measurement.bucket_id} "
                "are not served: their tags are damaged",
            )
        )

    def add_commit(self, number: int, size: int, segments: Sequence[Segment]) -> None:
        self.commits[number] = LevelZero(size)
        for segment in segments:
            self.add_segment(segment, number)

    def add_segment(self, segment: Segment, number: int) -> None:
        measurement = self.by_id[segment.measurement]
        measurement.segments[segment.id] = segment
        self._changed(measurement, number)
        self._living[segment.id] = segment
        if segment.level == 0:
            self.commits[commit_of(segment.id)].held += 1
            self.level0_blocks += 1
            self.level0_bytes += segment.size

    def retire(self, segments: Iterable[int], at_ms: int, number: int) -> None:
        """Plan with these no longer; they stay readable until they are deleted."""
        for id in segments:
            segment = self._take(id, number)
            if segment is not None:
                self.retired[id] = Retired(segment, at_ms)

    def quarantine(self, id: int, reason: str, number: int) -> None:
        """Never read it again, nor delete it."""
        self.quarantined[id] = reason
        self.retired.pop(id, None)
        self._take(id, number)

    def forget_retired(self, segments: Iterable[int]) -> None:
        """These can't be read any more."""
        for id in segments:
            retired = self.retired.pop(id, None)
            if retired is not None and retired.segment.level == 0:
                self._let_go(id)

    def forget_commits(self, numbers: Iterable[int]) -> None:
        """These rows are deleted."""
        for number in numbers:
            self.commits.pop(number, None)
            self.empty.discard(number)

    def note_if_empty(self, number: int) -> None:
        if not self.commits[number].held:
            self.empty.add(number)

    def drop_measurement(self, measurement: Measurement, number: int) -> None:
        """Forget it with its segments, at once; what is left to delete is noted in ``dropped``."""
        contents = self.contents[measurement.bucket_id]
        self._changed_list(contents, number)
        self._changed(measurement, number)
        del contents.measurements[measurement.name]
        if not contents.measurements:
            del self.contents[measurement.bucket_id]
        retired = [id for id, retired in self.retired.items() if retired.segment.measurement == measurement.id]
        living = list(measurement.segments)
        segments = [*measurement.segments.values(), *(self.retired[id].segment for id in retired)]
        for id in living:
            segment = self._take(id, measurement.version)
            if segment is not None and segment.level == 0:
                self._let_go(id)
        self.forget_retired(retired)
        del self.by_id[measurement.id]
        self.unsettled.discard(measurement.id)
        self.settled.discard(measurement.id)
        self.stale.add(measurement.generation)
        self.dropped[measurement.id] = [(segment.id, segment.size) for segment in segments if segment.level > 0]

    def _changed(self, measurement: Measurement, number: int) -> None:
        measurement.version = number
        self.on_change(measurement.word)

    def _changed_list(self, contents: BucketContents, number: int) -> None:
        contents.version = number
        self.on_change(contents.word)

    def _take(self, id: int, number: int) -> Segment | None:
        """Out of those that are planned with."""
        segment = self._living.pop(id, None)
        if segment is None:
            return None
        measurement = self.by_id[segment.measurement]
        del measurement.segments[id]
        measurement.removals.add(number, id)
        self._changed(measurement, number)
        if segment.level == 0:
            self.level0_blocks -= 1
            self.level0_bytes -= segment.size
        return segment

    def _let_go(self, id: int) -> None:
        number = commit_of(id)
        self.commits[number].held -= 1
        self.note_if_empty(number)


def _tell_nobody(_word: int) -> None:
    """Until there is a board."""
