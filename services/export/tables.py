"""Series of an answer → data frames with the types of their fields · pure.

A measurement becomes one table: ``time``, its tags, its fields. A tag whose name a field has too is ``<name>_tag``
(with as many ``_`` more as it takes): fields keep their names. A tag that a series has not is null, and so is a field
without a value. Bytes that are not UTF-8 are U+FFFD, as in every answer of ``/query``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

TIME, MEASUREMENT = "time", "measurement"
TIME_TYPE = pl.Datetime("ns", "UTC")
# Words of SHOW FIELD KEYS; of several types of one field the first is that which SELECT gives it.
TYPES: dict[str, pl.DataType] = {
    "float": pl.Float64(),
    "integer": pl.Int64(),
    "unsigned": pl.UInt64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
}


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer, or a part of it; ``rows`` are lists of values, the first column often the time."""

    name: str
    tags: Mapping[str, str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a measurement's table.

    Attributes:
        tags: tag → column.
        fields: field → type; columns have their names.
    """

    tags: Mapping[str, str]
    fields: Mapping[str, pl.DataType]

    @classmethod
    def of(cls, tags: Iterable[str], fields: Iterable[tuple[str, str]]) -> Layout:
        """From tag keys, and names and types of fields as SHOW FIELD KEYS has them."""
        found: dict[str, str] = {}
        order = list(TYPES)
        for name, word in fields:
            if name not in found or order.index(word) < order.index(found[name]):
                found[name] = word
        types = {name: TYPES[word] for name, word in found.items()}
        taken = {TIME, *types}
        columns: dict[str, str] = {}
        for tag in sorted(tags):
            column = tag if tag not in taken else f"{tag}_tag"
            while column in taken:
                column += "_"
            columns[tag] = column
            taken.add(column)
        return cls(columns, types)


@dataclass(slots=True)
class Batch:
    """Rows that become one frame: those of one layout, or of a query's answer, which has none."""

    layout: Layout | None = None
    rows: int = 0
    _columns: dict[str, list[Any]] = field(default_factory=dict)
    _tags: dict[str, None] = field(default_factory=dict)

    def add(self, series: Series) -> None:
        """Take in some rows; columns that they have not are null in them."""
        count = len(series.rows)
        given: dict[str, Sequence[Any]] = {}
        if self.layout is None:
            given[MEASUREMENT if MEASUREMENT not in series.columns else f"{MEASUREMENT}_"] = [series.name] * count
        names = self.layout.tags if self.layout is not None else {tag: tag for tag in series.tags}
        for tag, value in series.tags.items():
            column = names[tag]
            while self.layout is None and (column in series.columns or column in given):
                column += "_"
            given[column] = [value or None] * count
            self._tags[column] = None
        for name, values in zip(series.columns, zip(*series.rows, strict=True), strict=True):
            given[name] = values
        for name in given:
            if name not in self._columns:
                self._columns[name] = [None] * self.rows
        for name, column_values in self._columns.items():
            column_values.extend(given.get(name) or [None] * count)
        self.rows += count

    def frame(self) -> pl.DataFrame:
        """The rows as a frame; with a layout all its columns, in its order."""
        if self.layout is None:
            order = [name for name in (TIME, MEASUREMENT, *self._tags) if name in self._columns]
            names = dict.fromkeys([*order, *self._columns])
            return pl.DataFrame([self._inferred(name) for name in names])
        typed: dict[str, pl.DataType] = {TIME: TIME_TYPE, **dict.fromkeys(self.layout.tags.values(), pl.String())}
        return pl.DataFrame([self._typed(name, type) for name, type in (typed | dict(self.layout.fields)).items()])

    def _typed(self, name: str, type: pl.DataType) -> pl.Series:
        values = self._columns.get(name)
        if values is None:
            return pl.Series(name, [None] * self.rows, type)
        if type == TIME_TYPE:
            return pl.Series(name, values, pl.Int64()).cast(TIME_TYPE)
        return pl.Series(name, values, type, strict=False)

    def _inferred(self, name: str) -> pl.Series:
        """A column of a query's answer, whose type only its values tell."""
        values = self._columns[name]
        kinds = {type(value) for value in values if value is not None}
        if name == TIME and kinds <= {int}:
            return self._typed(name, TIME_TYPE)
        if not kinds:
            return pl.Series(name, values, pl.Null())
        if kinds == {bool}:
            return self._typed(name, pl.Boolean())
        if kinds == {int}:
            is_large = any(value is not None and value >= 1 << 63 for value in values)
            return self._typed(name, pl.UInt64() if is_large else pl.Int64())
        if kinds <= {int, float}:
            return self._typed(name, pl.Float64())
        return pl.Series(name, [None if value is None else str(value) for value in values], pl.String())
