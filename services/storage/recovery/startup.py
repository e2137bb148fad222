"""The state as of a start, from what the catalog has loaded · pure.

What is damaged is left out and said: the rest is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from common.errors import Invalid
from common.model import FieldType
from common.rpc import wire
from services.storage.catalog.rows import BlockRow, Loaded, MeasurementRow
from services.storage.catalog.segment_store import segment_id
from services.storage.recovery.mending import epochs_of, whole_ids
from services.storage.state.blocks import Segment, parse_meta, segment_of
from services.storage.state.buckets import retention_of
from services.storage.state.generations import measurement_of
from services.storage.state.measurement import Measurement
from services.storage.state.series import SeriesSet, spans_of
from services.storage.state.state import State


def build_state(loaded: Loaded, mended: Sequence[MeasurementRow] = ()) -> State:
    """The state; damaged segments that nobody knew of are in ``quarantined`` too.

    Args:
        mended: measurements whose rows are lost and known from elsewhere.
    """
    state = State()
    state.number = loaded.number
    state.buckets = {bucket.id: retention_of(bucket.body) for bucket in loaded.buckets}
    state.quarantined = dict(loaded.quarantined)
    state.dropped = {id: [] for id in loaded.dropped}
    state.damage = loaded.damage
    epochs = epochs_of(loaded)
    for row in [*loaded.measurements, *mended]:
        # A version that clients hold from before the start stands for the state as of that number: it is this one.
        state.add_measurement(Measurement(row.id, row.bucket_id, row.name, loaded.number, epoch=epochs.get(row.id, 0)))
    for id, shard_start_ns, field, type in loaded.fields:
        if id in state.by_id:
            state.by_id[id].fields.setdefault(shard_start_ns, {})[field] = FieldType(type)
    for generation, pieces in groupby(loaded.series_ids, lambda piece: piece.generation):
        measurement = state.by_id.get(measurement_of(generation))
        if measurement is None or measurement.generation != generation:
            if _is_stale(generation, state):
                state.stale.add(generation)
            continue
        ids, lost = whole_ids(pieces)
        series = SeriesSet().with_added(ids)
        # Only a series that was lost is ever added again.
        again = series.doubles()
        measurement.series = series.without(again)
        for first, stop in [*lost, *spans_of(again)]:
            state.lose_series(measurement, first, stop, loaded.number)
    for id, stones in groupby(sorted(loaded.tombstones, key=lambda found: found[0]), lambda found: found[0]):
        if id in state.by_id:
            state.set_tombstones(state.by_id[id], tuple(stone for _, stone in stones), loaded.number)
    for commit in loaded.commits:
        if commit.blocks is None:
            state.quarantined[segment_id(commit.number, 0)] = "the directory of the commit does not have its checksum"
            continue
        state.add_commit(commit.number, commit.size, ())
        for segment in _level0_segments(state, commit.number, commit.blocks):
            _place(state, segment, loaded)
        state.note_if_empty(commit.number)
    for row_ in loaded.segments:
        if row_.measurement in state.dropped:
            state.dropped[row_.measurement].append((row_.id, row_.size))
        elif row_.meta is None:
            state.quarantined[row_.id] = "the meta of the segment does not have its checksum"
        elif row_.measurement in state.by_id and row_.id not in state.quarantined:
            segment_ = _parse(state, row_.id, row_.order, row_.measurement, 0, row_.meta)
            if segment_ is not None:
                _place(state, segment_, loaded)
    # They are deleted in the order in which they stand there.
    state.retired = dict(sorted(state.retired.items(), key=lambda item: item[1].at_ms))
    return state


def _is_stale(generation: int, state: State) -> bool:
    """Whether a dictionary that is not in force can go: it is that of a dropped measurement, or a remain of writing
    one anew. Where that may be a mistake, for something is damaged, nothing goes."""
    id = measurement_of(generation)
    return id in state.dropped or (id in state.by_id and not state.may_be_misled)


def _level0_segments(state: State, number: int, blocks: list[BlockRow]) -> Iterator[Segment]:
    for index, block in enumerate(blocks):
        id = segment_id(number, index)
        if block.measurement in state.by_id and id not in state.quarantined:
            segment = _parse(state, id, id, block.measurement, block.offset, block.meta)
            if segment is not None:
                yield segment


def _parse(state: State, id: int, order: int, measurement: int, offset: int, meta: bytes) -> Segment | None:
    try:
        return segment_of(parse_meta(wire.decode_head(meta)), id, order, measurement, offset)
    except Invalid as error:
        state.quarantined[id] = str(error)
        return None


def _place(state: State, segment: Segment, loaded: Loaded) -> None:
    state.add_segment(segment, loaded.number)
    replaced_ms = loaded.replaced.get(segment.id)
    if replaced_ms is not None:
        state.retire([segment.id], replaced_ms, loaded.number)
