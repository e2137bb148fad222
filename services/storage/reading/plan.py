"""What is stored, answered from memory: plans, measurements, field types (docs/rpc.md) · pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from common.errors import Invalid
from common.rpc import wire
from common.tombstones import Tombstone
from services.storage.catalog.rows import to_key
from services.storage.catalog.segment_store import commit_of
from services.storage.state.blocks import Segment
from services.storage.state.measurement import FieldTypes, Measurement
from services.storage.state.state import State


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """What a query over a measurement has to read, as of one moment.

    Attributes:
        segments: all of them, or those added since the version held.
        gone: those that went since then; None = ``segments`` are all.
    """

    version: int
    segments: list[Segment]
    generation: int
    series_count: int
    tombstones: tuple[Tombstone, ...]
    gone: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The measurements asked for that exist; None = unchanged since the version held."""

    number: int
    measurements: dict[str, MeasurementPlan | None]

    @property
    def size(self) -> int:
        """How many segments there are in it."""
        return sum(len(plan.segments) for plan in self.measurements.values() if plan is not None)


def find_plan(state: State, head: Any) -> Plan:
    """``storage.plan``: the segments of some measurements of a bucket that touch a time range."""
    match head:
        case {"bucket_id": str(bucket_id), "measurements": dict(held), "start_ns": int(start), "stop_ns": int(stop)}:
            pass
        case _:
            raise Invalid("cannot plan: the head has no known form")
    found = {name: state.find(bucket_id, name) for name in held}
    return Plan(
        state.number,
        {
            name: None if measurement.version == held[name] else _plan_of(measurement, start, stop, held[name])
            for name, measurement in found.items()
            if measurement is not None
        },
    )


def _plan_of(measurement: Measurement, start_ns: int, stop_ns: int, held: int) -> MeasurementPlan:
    gone = measurement.removals.after(held)
    segments = measurement.segments.values() if gone is None else _added_after(measurement, held)
    return MeasurementPlan(
        measurement.version,
        segments_within(segments, start_ns, stop_ns),
        measurement.generation,
        measurement.series.count,
        measurement.hiding,
        gone,
    )


def _added_after(measurement: Measurement, number: int) -> Iterator[Segment]:
    """Segments made by changes after *number*, which is not before the start: later ones stand behind."""
    return takewhile(lambda segment: commit_of(segment.id) > number, reversed(measurement.segments.values()))


def plan_on_wire(plan: Plan) -> dict[str, Any]:
    """The head of the answer; about 20 µs a segment."""
    return {
        "number": plan.number,
        "measurements": {name: found and _on_wire(found) for name, found in plan.measurements.items()},
    }


def _on_wire(plan: MeasurementPlan) -> dict[str, Any]:
    return {
        **({} if plan.gone is None else {"gone": plan.gone}),
        "version": plan.version,
        "segments": [
            [segment.id, segment.order, wire.decode_head(segment.meta) | {"deletes": segment.applied}]
            for segment in plan.segments
        ],
        "tombstones": [stone.to_wire() for stone in plan.tombstones],
        "series": [plan.generation, plan.series_count],
    }


def segments_within(segments: Iterable[Segment], start_ns: int, stop_ns: int) -> list[Segment]:
    """Those with rows that may lie in ``[start_ns, stop_ns)``, in the order in which they win."""
    touching = (segment for segment in segments if segment.min_time_ns < stop_ns and segment.max_time_ns >= start_ns)
    return sorted(touching, key=lambda segment: (segment.order, segment.id))


def answer_measurements(state: State, head: Any) -> dict[str, Any]:
    """``storage.measurements``: names, series counts and field types of a bucket."""
    match head:
        case {"bucket_id": str(bucket_id), "version": int(version)}:
            pass
        case _:
            raise Invalid("cannot list measurements: the head has no known form")
    contents = state.contents.get(bucket_id)
    if contents is None:
        return {"version": 0} if version == 0 else {"version": 0, "measurements": []}
    if contents.version == version:
        return {"version": version}
    measurements = sorted(contents.measurements.values(), key=lambda measurement: to_key(measurement.name))
    return {
        "version": contents.version,
        "measurements": [[m.name, m.series.count, types_on_wire(m.fields), m.is_in_doubt] for m in measurements],
    }


def answer_schema(state: State, head: Any) -> dict[str, Any]:
    """``storage.schema``: field types of some measurements."""
    match head:
        case {"bucket_id": str(bucket_id), "measurements": list(names)}:
            found = {name: state.find(bucket_id, name) for name in names if isinstance(name, str)}
        case _:
            raise Invalid("cannot tell the schema: the head has no known form")
    fields = {name: types_on_wire(measurement.fields) for name, measurement in found.items() if measurement is not None}
    return {"number": state.number, "fields": fields}


def types_on_wire(fields: FieldTypes) -> list[list[Any]]:
    return [[start_ns, name, int(type)] for start_ns, types in fields.items() for name, type in types.items()]
