"""What a statement answers, as columns: the engine and SHOW make it, the renderers print it · pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class ResultSeries:
    """One series of an answer.

    Attributes:
        name: None where InfluxDB leaves the name out.
        tags: sorted (key, value) pairs, () = the key ``tags`` is left out.
        columns: all of one length; the first is the time where the statement has one.
        continues: the next ResultSeries goes on with this same series (same name and tags), which comes in pieces.
        utc_offset_zone: IANA name given in tz(), None = UTC.
    """

    name: str | None
    tags: tuple[tuple[str, str], ...]
    columns: tuple[ResultColumn, ...]
    continues: bool = False
    utc_offset_zone: str | None = None

    @property
    def rows(self) -> int:
        return len(self.columns[0].values) if self.columns else 0
