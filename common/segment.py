"""Blocks of columns: what a commit carries from ingest to storage and what a scan carries from storage to the engine.

Rows of a block are sorted by series id, then time, each (series, time) once. · pure

Names (measurements, tags, fields) are str decoded from UTF-8 with surrogate escapes, so that any bytes survive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType

# A series id is 128 bits as two uint64 (high, low); ids sort by high, then low.
SeriesIds = NDArray[np.uint64]  # shape (n, 2)


@dataclass(frozen=True, slots=True)
class StringArray:
    """String values as one buffer: value i is ``data[offsets[i]:offsets[i + 1]]`` (bytes, UTF-8 not assured)."""

    offsets: NDArray[np.int64]  # shape (n + 1,)
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Column:
    """One field's values over the rows of a block.

    Attributes:
        values: float64, int64, uint64 or bool array, or StringArray, by ``type``; one a row. Where ``valid`` is False
            the value is 0, false or empty.
        valid: bool a row; None = every row has a value.
    """

    name: str
    type: FieldType
    values: NDArray[np.float64] | NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.bool_] | StringArray
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one measurement within one shard of one bucket.

    Attributes:
        series: ids of the series that have rows, ascending, shape (s, 2).
        offsets: rows of series i are ``offsets[i]:offsets[i + 1]``, shape (s + 1,).
        times: ns since the epoch, shape (rows,), ascending within a series.
    """

    bucket_id: str
    measurement: str
    shard_start_ns: int
    shard_stop_ns: int
    series: SeriesIds
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]
    columns: tuple[Column, ...]

    @property
    def rows(self) -> int:
        return len(self.times)
