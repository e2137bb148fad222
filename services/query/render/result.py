"""What a statement answers, as columns: the engine and SHOW make it, the renderers print it · pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.segment import StringArray


class Kind(Enum):
    """What the values of a result column are, and so how they are printed."""

    TIME = "time"  # int64 ns
    FLOAT = "float"  # float64
    INTEGER = "integer"  # int64
    UNSIGNED = "unsigned"  # uint64
    BOOLEAN = "boolean"  # bool
    STRING = "string"  # StringArray, or a list of str with surrogate escapes
    MIXED = "mixed"  # a list of int, float, bool, str or None


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column; ``valid`` False is null, None = no nulls (MIXED says None itself)."""

    name: str
    kind: Kind
    values: NDArray[Any] | StringArray | Sequence[Any]
    valid: NDArray[np.bool_] | None = None


class PrintedRows:
    """Rows of a series as JSON prints them, for a series without times that is told again and again.

    Args:
        room_bytes: what all of them may take; what does not fit is not kept.
    """

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self._used_bytes = 0
        self._printed: dict[tuple[int, int], bytes] = {}

    def find(self, bounds: tuple[int, int]) -> bytes | None:
        """The rows from the first to the last (exclusive) of *bounds*, joined by commas."""
        return self._printed.get(bounds)

    def keep(self, bounds: tuple[int, int], rows: bytes) -> None:
        """Keep *rows* for ``find``, as far as there is room."""
        if self._used_bytes + len(rows) <= self.room_bytes and bounds not in self._printed:
            self._used_bytes += len(rows)
            self._printed[bounds] = rows


@dataclass(frozen=True, slots=True)
class ResultSeries:
    """One series of an answer.

    Attributes:
        name: None where InfluxDB leaves the name out.
        tags: sorted (key, value) pairs, () = the key ``tags`` is left out.
        columns: all of one length; the first is the time where the statement has one.
        span: which rows of the columns are this series' own, None = all. Series of one answer share their columns, so
            that they are printed together and not one small array after the other.
        continues: the next ResultSeries goes on with this same series (same name and tags), which comes in pieces.
        utc_offset_zone: IANA name given in tz(), None = UTC.
        printed: where its rows are kept once they are printed as JSON; None = nowhere.
    """

    name: str | None
    tags: tuple[tuple[str, str], ...]
    columns: tuple[ResultColumn, ...]
    continues: bool = False
    utc_offset_zone: str | None = None
    span: tuple[int, int] | None = None
    printed: PrintedRows | None = field(default=None, compare=False)

    @property
    def bounds(self) -> tuple[int, int]:
        """First and last row (exclusive) in the columns."""
        return self.span or (0, len(self.columns[0].values) if self.columns else 0)

    @property
    def rows(self) -> int:
        start, stop = self.bounds
        return stop - start

    @property
    def own_columns(self) -> tuple[ResultColumn, ...]:
        """The columns with its own rows alone."""
        if self.span is None:
            return self.columns
        return tuple(slice_column(column, *self.span) for column in self.columns)

    def slice(self, start: int, stop: int) -> ResultSeries:
        """Rows ``start:stop`` of it, with the same columns."""
        first, last = self.bounds
        return replace(self, span=(first + start, min(first + stop, last)))


def slice_column(column: ResultColumn, start: int, stop: int) -> ResultColumn:
    """Rows ``start:stop`` of *column*, sharing its arrays."""
    values = column.values
    if not start and stop == len(values):
        return column
    sliced = StringArray(values.offsets[start : stop + 1], values.data) if isinstance(values, StringArray) else (
        values[start:stop]
    )  # fmt: skip
    return replace(column, values=sliced, valid=None if column.valid is None else column.valid[start:stop])


# What an executor yields: one series, or several that come at the same moment.
Told = ResultSeries | Sequence[ResultSeries]
