"""A commit of blocks: checked against what is stored, then stored, in one go (docs/rpc.md, "storage.append").

Storage has the last word on field types and series: what can't be stored as it is makes the whole append a ``retry``,
which says what has to change, and nothing is stored. The checks are array operations on the ids; there is no loop
over rows, nor over series that are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InternalError, Invalid
from common.model import FieldType
from common.segment import DamagedChunk, SeriesIds, StringArray, decode_dictionary_arrays, encode_dictionary_arrays
from services.storage.catalog.interface import Transaction
from services.storage.catalog.rows import BlockRow
from services.storage.catalog.segment_store import segment_id
from services.storage.changes.append_request import AppendRequest, NewSeries, Place
from services.storage.changes.results import decode_result
from services.storage.commits.draft import Draft
from services.storage.reading.dictionary import lose_series, take_strings
from services.storage.state.blocks import Segment, segment_of
from services.storage.state.measurement import Measurement
from services.storage.state.series import SeriesSet


@dataclass(slots=True)
class _Growth:
    """What an append adds to the dictionary of one measurement.

    Attributes:
        ids: the series that storage has not and has room for, each once.
        piece: those with their keys, as ``encode_dictionary`` gives it.
        refused: ids of those that it has no room for.
    """

    ids: SeriesIds
    piece: bytes
    refused: SeriesIds


@dataclass(slots=True)
class _Retry:
    """Reasons not to store an append as it is."""

    known: list[list[Any]] = field(default_factory=list)
    conflicts: list[list[Any]] = field(default_factory=list)
    unknown: list[list[Any]] = field(default_factory=list)
    over_limit: list[list[Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def encode(self, limit: int) -> dict[str, Any]:
        """Those reasons that there are, as on the wire; empty when there is none."""
        reasons = {name: getattr(self, name) for name in ("known", "conflicts", "unknown", "over_limit", "gone")}
        found = {name: value for name, value in reasons.items() if value}
        return {**found, "limit": limit} if self.over_limit else found


class Append:
    """The job of storing one append.

    Args:
        max_series_per_bucket: 0 = no limit.
    """

    def __init__(self, request: AppendRequest, max_series_per_bucket: int) -> None:
        self._request = request
        self._limit = max_series_per_bucket
        self.size = len(request.data) + sum(len(new.piece) + new.ids.nbytes for new in request.new_series)

    def run(self, transaction: Transaction, draft: Draft) -> dict[str, Any]:
        """Check, then store. Returns the head of the answer."""
        transaction.require_space(self.size)
        retry = _Retry()
        self._check_writes(transaction, draft, retry)
        self._check_buckets(draft, retry)
        if not retry.gone:
            fields = self._check_types(draft, retry)
            growth = self._check_series(transaction, draft, retry)
        reasons = retry.encode(self._limit)
        if reasons:
            return {"retry": reasons}
        return {"number": self._store(transaction, draft, fields, growth)}

    # ---- checks

    def _check_writes(self, transaction: Transaction, draft: Draft, retry: _Retry) -> None:
        ids = [id for id, _ in self._request.writes]
        if len(set(ids)) != len(ids):
            raise Invalid("cannot append: two writes have one id")
        found = transaction.find_results(ids)
        found.update((id, draft.write_ids[id]) for id in ids if id in draft.write_ids)
        retry.known = [[id, decode_result(found[id])] for id in ids if id in found]

    def _check_buckets(self, draft: Draft, retry: _Retry) -> None:
        named = {block.bucket_id for block in self._request.blocks} | {new.place[0] for new in self._request.new_series}
        retry.gone = sorted(bucket_id for bucket_id in named if not draft.is_living(bucket_id))

    def _check_types(self, draft: Draft, retry: _Retry) -> dict[tuple[Place, int], dict[str, FieldType]]:
        """Types against those in force; returns those that are new, by place and shard."""
        fresh: dict[tuple[Place, int], dict[str, FieldType]] = {}
        for index, block in enumerate(self._request.blocks):
            place = (block.bucket_id, block.measurement)
            measurement = draft.find(*place)
            added = fresh.setdefault((place, block.shard_start_ns), {})
            for name, type in block.fields:
                known = None if measurement is None else draft.type_of(measurement, block.shard_start_ns, name)
                winner = added.setdefault(name, type) if known is None else known
                if winner is not type:
                    retry.conflicts.append([index, name, int(winner)])
        return fresh

    def _check_series(self, transaction: Transaction, draft: Draft, retry: _Retry) -> dict[Place, _Growth]:
        """Ids against the dictionary; returns what the dictionary grows by."""
        growth = self._growth(transaction, draft)
        for index, (block, ids) in enumerate(zip(self._request.blocks, self._request.ids, strict=True)):
            place = (block.bucket_id, block.measurement)
            measurement = draft.find(*place)
            missing = (
                np.arange(len(ids)) if measurement is None else np.flatnonzero(draft.series(measurement).find(ids) < 0)
            )
            grown = growth.get(place)
            if grown is not None and len(missing):
                refused = missing[SeriesSet().with_added(grown.refused).find(ids[missing]) >= 0]
                if len(refused):
                    retry.over_limit.append([index, encode_positions(refused)])
                sent = SeriesSet().with_added(np.concatenate((grown.ids, grown.refused)))
                missing = missing[sent.find(ids[missing]) < 0]
            if len(missing):
                retry.unknown.append([index, encode_positions(missing)])
        return growth

    def _growth(self, transaction: Transaction, draft: Draft) -> dict[Place, _Growth]:
        growth: dict[Place, _Growth] = {}
        room: dict[str, int] = {}
        for new in self._request.new_series:
            bucket_id = new.place[0]
            if new.place in growth:
                raise Invalid("cannot append: two dictionaries of one measurement")
            fresh = self._fresh(transaction, draft, new)
            if bucket_id not in room:
                room[bucket_id] = self._limit - draft.series_count(bucket_id) if self._limit else len(fresh)
            taken = len(fresh) if not self._limit else max(0, min(len(fresh), room[bucket_id]))
            room[bucket_id] -= taken
            growth[new.place] = _Growth(new.ids[fresh[:taken]], _piece(new, fresh[:taken]), new.ids[fresh[taken:]])
        return growth

    def _fresh(self, transaction: Transaction, draft: Draft, new: NewSeries) -> NDArray[np.int64]:
        """Positions of the series that are not stored, each series once, in order. Raises InternalError when a
        series came with another key than the one that is stored."""
        measurement = draft.find(*new.place)
        series = SeriesSet() if measurement is None else draft.series(measurement)
        sequence = series.find(new.ids)
        stored = np.flatnonzero(sequence >= 0)
        if measurement is not None and len(stored):
            lost = verify_keys(transaction, draft, measurement, sequence[stored], take_strings(new.keys, stored))
            if lost:
                lose_series(transaction, draft, measurement, lost)
                sequence = draft.series(measurement).find(new.ids)
        fresh = np.flatnonzero(sequence < 0)
        among = SeriesSet().with_added(new.ids[fresh])
        first = among.find(new.ids[fresh])
        # Of two entries with one id `find` gives the same one.
        doubles = np.flatnonzero(first != np.arange(len(fresh)))
        if not same_strings(take_strings(new.keys, fresh[doubles]), take_strings(new.keys, fresh[first[doubles]])):
            raise InternalError(f"two series of measurement {new.place[1]!r} have one id")
        return np.delete(fresh, doubles)

    # ---- storing

    def _store(
        self,
        transaction: Transaction,
        draft: Draft,
        fields: dict[tuple[Place, int], dict[str, FieldType]],
        growth: dict[Place, _Growth],
    ) -> int:
        request = self._request
        number = draft.number = transaction.next_number()
        reshaped: set[str] = set()
        measurements = {
            place: self._measurement(transaction, draft, place, reshaped)
            for place in dict.fromkeys(
                [(block.bucket_id, block.measurement) for block in request.blocks] + list(growth)
            )
        }
        for place, grown in growth.items():
            _grow(transaction, draft, measurements[place], grown)
        for (place, shard_start_ns), types in fields.items():
            if types:
                measurement = measurements[place]
                transaction.add_fields((measurement.id, shard_start_ns, name, type) for name, type in types.items())
                draft.add_fields(measurement, shard_start_ns, types)
                reshaped.add(place[0])
        if request.blocks:
            segments = list(self._segments(number, measurements))
            rows = [BlockRow(s.measurement, s.offset, s.size, s.meta) for s in segments]
            transaction.add_commit(number, rows, request.data)
            draft.add_commit(number, len(request.data), segments)
        transaction.add_results(request.writes)
        draft.write_ids.update(request.writes)
        if reshaped:
            draft.tell({"number": number, "tags": [f"schema:{bucket_id}" for bucket_id in sorted(reshaped)]})
        return number

    def _measurement(self, transaction: Transaction, draft: Draft, place: Place, reshaped: set[str]) -> Measurement:
        measurement = draft.find(*place)
        if measurement is None:
            measurement = Measurement(transaction.add_measurement(*place), *place, draft.number)
            draft.add_measurement(measurement)
            reshaped.add(place[0])
        return measurement

    def _segments(self, number: int, measurements: dict[Place, Measurement]) -> Iterator[Segment]:
        offset = 0
        for index, block in enumerate(self._request.blocks):
            id = segment_id(number, index)
            yield segment_of(block, id, id, measurements[block.bucket_id, block.measurement].id, offset)
            offset += block.size


def _grow(transaction: Transaction, draft: Draft, measurement: Measurement, grown: _Growth) -> None:
    if not len(grown.ids):
        return
    series = draft.series(measurement)
    ids = np.ascontiguousarray(grown.ids, "<u8").tobytes()
    transaction.add_series(draft.generation(measurement), series.count, len(grown.ids), ids, grown.piece)
    draft.set_series(measurement, series.with_added(grown.ids))


def _piece(new: NewSeries, chosen: NDArray[np.int64]) -> bytes:
    """The dictionary piece of the *chosen* ones of *new*."""
    if len(chosen) == len(new.ids):
        return new.piece
    return encode_dictionary_arrays(new.ids[chosen], take_strings(new.keys, chosen))


def verify_keys(
    transaction: Transaction, draft: Draft, measurement: Measurement, sequence: NDArray[np.int64], keys: StringArray
) -> list[tuple[int, int]]:
    """Raises InternalError unless the series with these sequence numbers are stored with these keys; returns ranges
    of series whose keys are damaged."""
    lost: list[tuple[int, int]] = []
    generation = draft.generation(measurement)
    for first, count, piece in transaction.read_dictionary(generation, int(sequence.min()), int(sequence.max())):
        here = np.flatnonzero((sequence >= first) & (sequence < first + count))
        if len(here):
            try:
                _, stored = decode_dictionary_arrays(piece)
            except DamagedChunk:
                lost.append((first, first + count))
                continue
            if not same_strings(take_strings(stored, sequence[here] - first), take_strings(keys, here)):
                raise InternalError(f"two series of measurement {measurement.name!r} have one id")
    return lost


def same_strings(some: StringArray, others: StringArray) -> bool:
    return np.array_equal(some.offsets, others.offsets) and np.array_equal(some.data, others.data)


def encode_positions(positions: NDArray[np.int64]) -> bytes:
    """Positions of series in a block as they travel: int64, little-endian."""
    return positions.astype("<i8").tobytes()
