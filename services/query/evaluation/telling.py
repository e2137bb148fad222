"""The engine's answers as series for the renderers · pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from common.errors import Invalid
from common.model import FieldType
from services.query.engine.answers import Answer
from services.query.engine.run import Task, by_group, tags_of
from services.query.engine.spec import Filling
from services.query.engine.vectors import Vector
from services.query.render.result import Kind, ResultColumn, ResultSeries

# Rows of one series that are told at a time.
PIECE_ROWS = 10_000

KINDS = {
    FieldType.FLOAT: Kind.FLOAT,
    FieldType.INTEGER: Kind.INTEGER,
    FieldType.UNSIGNED: Kind.UNSIGNED,
    FieldType.STRING: Kind.STRING,
    FieldType.BOOLEAN: Kind.BOOLEAN,
}


def check_finite(columns: Iterable[Vector]) -> None:
    """Raise Invalid for the first infinity, in InfluxDB's words: JSON has none."""
    first: tuple[int, float] | None = None
    for column in columns:
        if column.type is FieldType.FLOAT:
            infinite = np.isinf(column.values)
            if infinite.any():
                infinite &= column.mask
                at = int(np.argmax(infinite))
                if infinite[at] and (first is None or at < first[0]):
                    first = at, float(column.values[at])
    if first is not None:
        raise Invalid(f"json: unsupported value: {'+' if first[1] > 0 else '-'}Inf")


def tell(name: str, task: Task, answer: Answer, zone: str | None) -> list[ResultSeries]:
    """The answer as series that share their columns, long ones in pieces.

    Raises:
        Invalid: ``json: unsupported value: +Inf``; a subquery may give one to the query around it.
    """
    check_finite(answer.columns)
    bounds = list(by_group(answer))
    tags = tags_of(task, answer.groups[[start for start, _ in bounds]])
    outputs = task.query.outputs
    mixed = task.query.fill is Filling.NUMBER
    columns = [
        _result_column(output.name, vector, mixed) for output, vector in zip(outputs, answer.columns, strict=True)
    ]
    time = ResultColumn(task.query.time_name, Kind.TIME, answer.times)
    whole = (time, *columns)
    return [
        ResultSeries(name, group_tags, whole, at + PIECE_ROWS < stop, zone, (at, min(at + PIECE_ROWS, stop)))
        for (start, stop), group_tags in zip(bounds, tags, strict=True)
        for at in range(start, stop, PIECE_ROWS)
    ]


def _result_column(name: str, vector: Vector, mixed: bool) -> ResultColumn:
    """A column for the renderers; *mixed*: fill(number) may have put numbers among strings and booleans."""
    valid = vector.valid
    values: Any = vector.values
    if vector.type is FieldType.FLOAT:
        lost = np.isnan(values)
        if lost.any():
            values, valid = np.where(lost, 0.0, values), vector.mask & ~lost
    elif values.dtype == object:
        values = values.tolist()
        if mixed and any(not isinstance(value, str) for value in values):
            return ResultColumn(name, Kind.MIXED, values)
    return ResultColumn(name, KINDS[vector.type], values, valid)
