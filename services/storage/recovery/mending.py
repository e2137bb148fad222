"""What is lost of the small tables, made anew from the metas of the segments · pure.

Each meta tells the bucket, the measurement, and the types of its fields; so a damaged row of a measurement or of a
field type costs nothing as long as a segment knows better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from common.errors import Invalid
from common.model import FieldType
from common.rpc import wire
from common.segment import SeriesIds
from services.storage.catalog.interface import Transaction
from services.storage.catalog.rows import Loaded, MeasurementRow, SeriesPiece
from services.storage.commits.draft import Draft
from services.storage.state.blocks import parse_meta
from services.storage.state.generations import epoch_of, measurement_of
from services.storage.state.measurement import Measurement
from services.storage.state.series import ID_BYTES, decode_ids, no_ids
from services.storage.state.state import State

# (measurement, shard start, field, type)
FieldRow = tuple[int, int, str, int]
MAX_PIECE_SERIES = 1 << 24


@dataclass(frozen=True, slots=True)
class Mended:
    """Rows that are to be written again."""

    measurements: list[MeasurementRow]
    fields: list[FieldRow]


class Mend:
    """The job of writing them."""

    size = 0

    def __init__(self, mended: Mended) -> None:
        self._mended = mended

    def run(self, transaction: Transaction, draft: Draft) -> None:
        draft.number = transaction.next_number()
        transaction.mend(self._mended.measurements, self._mended.fields)
        for id, shard_start_ns, name, type in self._mended.fields:
            draft.then(_field_effect(id, shard_start_ns, name, FieldType(type), draft.number))


def _field_effect(id: int, shard_start_ns: int, name: str, type: FieldType, number: int) -> Callable[[State], None]:
    return lambda state: state.add_fields(state.by_id[id], shard_start_ns, {name: type}, number)


def lost_measurements(loaded: Loaded) -> list[MeasurementRow]:
    """Measurements that have series or compacted segments and no row, as far as a segment tells their names.

    Rows of either kind are deleted before that of their measurement, so its row is missing, not gone.
    """
    known = {row.id for row in loaded.measurements} | set(loaded.dropped)
    ids = {measurement_of(piece.generation) for piece in loaded.series_ids} | {
        segment.measurement for segment in loaded.segments
    }
    taken = {(row.bucket_id, row.name) for row in loaded.measurements}
    found: list[MeasurementRow] = []
    names = dict(_names(loaded, ids - known))
    for id, place in sorted(names.items()):
        if place not in taken:
            taken.add(place)
            found.append(MeasurementRow(id, *place))
    return found


def _names(loaded: Loaded, ids: set[int]) -> Iterator[tuple[int, tuple[str, str]]]:
    if not ids:
        return
    metas = [(block.measurement, block.meta) for commit in loaded.commits for block in commit.blocks or ()]
    metas += [(segment.measurement, segment.meta) for segment in loaded.segments if segment.meta is not None]
    for id, packed in metas:
        if id in ids:
            try:
                meta = parse_meta(wire.decode_head(packed))
            except Invalid:
                continue
            yield id, (meta.bucket_id, meta.measurement)


def epochs_of(loaded: Loaded) -> dict[int, int]:
    """The epoch of each dictionary; where the row that tells it is lost, the least of those that have their beginning.

    Of a dictionary that is in force no longer the beginning is deleted first; the next one is copied from it.
    """
    found: dict[int, int] = {}
    for piece in loaded.series_ids:
        if piece.is_whole and piece.first == 0:
            id, epoch = measurement_of(piece.generation), epoch_of(piece.generation)
            found[id] = min(found.get(id, epoch), epoch)
    return found | loaded.epochs


def lost_fields(state: State) -> list[FieldRow]:
    """Types of fields that segments have and the state does not know."""
    return [row for measurement in state.by_id.values() for row in _lost_fields(measurement)]


def _lost_fields(measurement: Measurement) -> Iterator[FieldRow]:
    known = {start_ns: set(types) for start_ns, types in measurement.fields.items()}
    for segment in measurement.segments.values():
        for name, type in parse_meta(wire.decode_head(segment.meta)).fields:
            fields = known.setdefault(segment.shard_start_ns, set())
            if name not in fields:
                fields.add(name)
                yield measurement.id, segment.shard_start_ns, name, int(type)


def whole_ids(pieces: Iterable[SeriesPiece]) -> tuple[SeriesIds, list[tuple[int, int]]]:
    """Ids of the series of a measurement, in order of their sequence numbers.

    Args:
        pieces: by first sequence number.

    Returns:
        The ids; those that are lost are such as no series has. Ranges of sequence numbers (first, stop) of the lost.
    """
    parts: list[SeriesIds] = []
    lost: list[tuple[int, int]] = []
    at = 0
    for generation, first, count, raw, is_whole in pieces:
        # The numbers of a damaged row count only where they fit to those before it.
        if first < at or (not is_whole and (first != at or not 0 < count <= MAX_PIECE_SERIES)):
            continue
        stop = first + count
        known = len(raw) == ID_BYTES * count
        lost_until = first if known else stop
        if lost_until > at:
            parts.append(no_ids(at, lost_until, measurement_of(generation)))
            lost.append((at, lost_until))
        if known:
            parts.append(decode_ids(raw))
        at = stop
    ids = np.concatenate(parts) if parts else np.zeros((0, 2), np.uint64)
    return ids, lost
