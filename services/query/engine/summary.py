"""What is known of rows without their values: number, least and greatest, from statistics of segments · pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.vectors import Indexes
from services.query.engine.window import Windows


@dataclass(frozen=True, slots=True)
class Summary:
    """One field over some stretches of rows, of all series together; each stretch counts as one run of values.

    Attributes:
        groups: of each stretch.
        times: a time within each; once placed, the start of the window that all of its rows lie in, as runs have it.
        counts: number of values, at least one.
        low, high: least and greatest value, in the type of the field; zeros for strings, which have none.
    """

    type: FieldType
    groups: Indexes
    times: Indexes
    counts: Indexes
    low: NDArray[Any]
    high: NDArray[Any]

    def place(self, windows: Windows | None) -> Summary:
        """The same with the starts of windows for times, 0 without windows."""
        return replace(self, times=np.zeros_like(self.times) if windows is None else windows.starts(self.times))

    def extreme(self, ufunc: np.ufunc) -> NDArray[Any]:
        """What *ufunc* gives over the values of each stretch; raises ValueError unless it is maximum or minimum."""
        if ufunc is np.maximum:
            return self.high
        if ufunc is np.minimum:
            return self.low
        raise ValueError(f"statistics of segments do not tell {ufunc.__name__}")
