"""Deletes: tombstones made, coalesced, and settled once compaction has worked them in (design, decision 4).

A delete writes one row a measurement, whatever the amount of data: it is visible at once and whole, for it is one
transaction. What is hidden goes from the disk when compaction rewrites the segments that hold it. A delete of all that
a measurement holds drops it, with its field types and its series; series that lost their last row go with
``sweep/reclaim.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import Gone, Invalid, Unavailable
from common.model import MAX_TIME_NS, MIN_TIME_NS
from common.tombstones import Tombstone, check_choice, encode_all, unite
from services.storage.catalog.interface import Transaction
from services.storage.commits.draft import Draft
from services.storage.state.generations import measurement_of
from services.storage.state.measurement import Measurement
from services.storage.state.state import State

MAX_MEASUREMENTS = 100_000
# Of one measurement: past these compaction has to work some in first.
MAX_TOMBSTONES = 500
MAX_TOMBSTONE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """What is deleted of one measurement.

    Attributes:
        generation: of the dictionary that the choice of series is of; −1 where it is of all series.
    """

    name: str
    generation: int
    series: bytes


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """A delete, its form checked; half open."""

    bucket_id: str
    start_ns: int
    stop_ns: int
    targets: tuple[Target, ...]


def decode_delete(head: Any, parts: Sequence[bytes]) -> DeleteRequest:
    """Check the form of a delete. Raises Invalid."""
    match head:
        case {"bucket_id": str(bucket_id), "start_ns": int(start), "stop_ns": int(stop), "measurements": list(entries)}:
            pass
        case _:
            raise Invalid("cannot delete: the head has no known form")
    if len(entries) > MAX_MEASUREMENTS or not start >= MIN_TIME_NS or not stop <= MAX_TIME_NS + 1:
        raise Invalid("cannot delete: too many measurements, or times out of range")
    choices = iter(parts)
    targets = tuple(_decode_target(entry, choices) for entry in entries)
    if next(choices, None) is not None or len({target.name for target in targets}) != len(targets):
        raise Invalid("cannot delete: a part or a measurement too many")
    return DeleteRequest(bucket_id, start, stop, targets)


def _decode_target(entry: Any, choices: Iterator[bytes]) -> Target:
    match entry:
        case [str(name), None]:
            return Target(name, -1, encode_all())
        case [str(name), int(generation)]:
            choice = next(choices, b"")
            check_choice(choice)
            return Target(name, generation, choice)
    raise Invalid("cannot delete: a measurement has no known form")


class Delete:
    """The job of one delete."""

    def __init__(self, request: DeleteRequest) -> None:
        self._request = request
        self.size = sum(len(target.series) for target in request.targets)

    def run(self, transaction: Transaction, draft: Draft) -> dict[str, Any]:
        """Returns the head of the answer.

        Raises:
            Unavailable: too much waits for compaction.
            Gone: series are chosen by numbers that they do not have any more.
        """
        request = self._request
        found = [(target, m) for target in request.targets if (m := self._find(draft, target)) is not None]
        if request.start_ns >= request.stop_ns or not found:
            return {"number": draft.number}
        for target, measurement in found:
            _check_room(draft, measurement, target)
        number = draft.number = transaction.next_number()
        dropped = []
        for target, measurement in found:
            stone = Tombstone(number, request.start_ns, request.stop_ns, target.series)
            if stone.is_whole and _covers_all(stone, measurement, draft):
                dropped.append(measurement)
            else:
                add_tombstone(transaction, draft, measurement, stone)
        drop(transaction, draft, dropped)
        draft.tell({"number": number, "tags": [f"schema:{request.bucket_id}"]})
        return {"number": number}

    def _find(self, draft: Draft, target: Target) -> Measurement | None:
        measurement = draft.find(self._request.bucket_id, target.name)
        if measurement is None or target.generation in (-1, draft.generation(measurement)):
            return measurement
        if measurement_of(target.generation) == measurement.id:
            raise Gone(f"the series of measurement {target.name!r} have other numbers now")
        # What was dropped and made again meanwhile is newer than this delete began.
        return None


def _check_room(draft: Draft, measurement: Measurement, target: Target) -> None:
    held = draft.tombstones(measurement)
    size = len(target.series) + sum(len(stone.series) for stone in held)
    if len(held) >= MAX_TOMBSTONES or size > MAX_TOMBSTONE_BYTES:
        raise Unavailable(
            f"cannot delete: {len(held)} deletes in measurement {measurement.name!r} wait for compaction",
            retry_after_s=5,
        )


def _covers_all(stone: Tombstone, measurement: Measurement, draft: Draft) -> bool:
    """Whether nothing of the measurement is left; where something was added in this group, only of all of time."""
    if stone.covers(MIN_TIME_NS, MAX_TIME_NS):
        return True
    return not draft.has_grown(measurement) and all(
        stone.covers(segment.min_time_ns, segment.max_time_ns) for segment in measurement.segments.values()
    )


def drop(transaction: Transaction, draft: Draft, measurements: Sequence[Measurement]) -> None:
    """Drop measurements: forgotten at once, deleted from the disk later, in slices."""
    transaction.drop_measurements([measurement.id for measurement in measurements])
    for measurement in measurements:
        draft.drop_measurement(measurement)


def add_tombstone(transaction: Transaction, draft: Draft, measurement: Measurement, stone: Tombstone) -> None:
    """Add *stone*, in the place of older ones that say no more."""
    held = draft.tombstones(measurement)
    # With nothing written since they were made, older ones may as well be of now.
    newest = max((segment.applied for segment in measurement.segments.values()), default=0)
    is_quiet = not draft.has_grown(measurement)
    kept: list[Tombstone] = []
    gone: list[int] = []
    for old in held:
        united = _united(old, stone) if is_quiet and old.number > newest else None
        if united is None and _says_more(old, stone):
            kept.append(old)
            continue
        stone = united or stone
        gone.append(old.number)
    transaction.delete_tombstones(measurement.id, gone)
    transaction.add_tombstone(measurement.id, stone)
    draft.set_tombstones(measurement, (*kept, stone))


def doubt(transaction: Transaction, draft: Draft, measurement: Measurement, choice: bytes) -> None:
    """Note with the number of *draft* that the series in *choice* may have no rows left, beside those in doubt."""
    held = draft.tombstones(measurement)
    settled = [stone for stone in held if stone.is_settled]
    stone = Tombstone(draft.number, 0, 0, unite([*(each.series for each in settled), choice]))
    transaction.delete_tombstones(measurement.id, [each.number for each in settled])
    transaction.add_tombstone(measurement.id, stone)
    draft.set_tombstones(measurement, (*(each for each in held if not each.is_settled), stone))


def _says_more(old: Tombstone, new: Tombstone) -> bool:
    """Whether *old* hides, or doubts, anything that *new* does not."""
    same = new.is_whole or new.series == old.series
    return not same or not (old.is_settled or new.covers(old.start_ns, old.stop_ns - 1))


def _united(old: Tombstone, new: Tombstone) -> Tombstone | None:
    """One that says what both say, with the number of *new*; None when there is none."""
    if old.is_settled:
        return None
    if (old.start_ns, old.stop_ns) == (new.start_ns, new.stop_ns):
        return Tombstone(new.number, new.start_ns, new.stop_ns, unite((old.series, new.series)))
    if old.series == new.series and old.start_ns <= new.stop_ns and old.stop_ns >= new.start_ns:
        start_ns, stop_ns = min(old.start_ns, new.start_ns), max(old.stop_ns, new.stop_ns)
        return Tombstone(new.number, start_ns, stop_ns, new.series)
    return None


class SettleDeletes:
    """The job of settling tombstones that hide nothing any more, and of dropping measurements that are empty."""

    size = 0

    def __init__(self, state: State) -> None:
        self._state = state

    def is_needed(self) -> bool:
        """Whether there is anything to do; asked on the loop."""
        return any(
            self._is_empty(measurement) or len(_working(measurement)) < _count_working(measurement.tombstones)
            for measurement in self._unsettled()
        )

    def run(self, transaction: Transaction, draft: Draft) -> None:
        empty = []
        for measurement in self._unsettled():
            # What a job before this one in the group has done is seen the next time.
            if draft.has_grown(measurement) or draft.tombstones(measurement) is not measurement.tombstones:
                continue
            if self._is_empty(measurement):
                empty.append(measurement)
                continue
            working = _working(measurement)
            done = [stone for stone in measurement.tombstones if stone not in working]
            if len(working) == _count_working(measurement.tombstones):
                continue
            draft.number = transaction.next_number()
            settled = Tombstone(done[-1].number, 0, 0, unite(stone.series for stone in done))
            transaction.delete_tombstones(measurement.id, [stone.number for stone in done])
            transaction.add_tombstone(measurement.id, settled)
            stones = sorted((settled, *working), key=lambda stone: stone.number)
            draft.set_tombstones(measurement, tuple(stones))
        drop_empty(transaction, draft, empty)

    def _is_empty(self, measurement: Measurement) -> bool:
        # A damaged segment is kept, and might be one of it.
        return not measurement.segments and not self._state.quarantined

    def _unsettled(self) -> list[Measurement]:
        return [self._state.by_id[id] for id in self._state.unsettled]


def _working(measurement: Measurement) -> list[Tombstone]:
    """Tombstones that may hide rows of some segment."""
    return [
        stone
        for stone in measurement.tombstones
        if any(
            stone.number > segment.applied and stone.touches(segment.min_time_ns, segment.max_time_ns)
            for segment in measurement.segments.values()
        )
    ]


def _count_working(stones: Sequence[Tombstone]) -> int:
    return sum(not stone.is_settled for stone in stones)


def drop_empty(transaction: Transaction, draft: Draft, empty: Sequence[Measurement]) -> None:
    """Drop measurements that have no segments; says so on the feed."""
    if empty:
        draft.number = transaction.next_number()
        drop(transaction, draft, empty)
        buckets = sorted({measurement.bucket_id for measurement in empty})
        draft.tell({"number": draft.number, "tags": [f"schema:{bucket_id}" for bucket_id in buckets]})
