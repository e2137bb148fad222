"""Line protocol → columns of good points and a list of bad lines.

The grammar itself is ``kernel.py``; this module lays out its memory and turns its numbers into objects. · pure
Source: InfluxDB 2.x manual, "Line protocol", and its ``models/points.go`` for the texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.segment import SeriesIds


@dataclass(frozen=True, slots=True)
class Body:
    """One write's lines.

    Attributes:
        data: lines ended by LF (or CR LF), already unzipped; any bytes.
        unit_ns: unit of the timestamps, in ns.
        now_ns: time of lines that carry none, ns since the epoch; it is cut down to a whole unit.
    """

    data: bytes
    unit_ns: int
    now_ns: int


@dataclass(frozen=True, slots=True)
class LineError:
    """A line that does not parse.

    Attributes:
        body: index of the body.
        line: 1-based number within the body.
        text: the line without its leading blanks (U+FFFD for bytes that are not UTF-8), cut at MAX_LINE_TEXT_BYTES.
        reason: InfluxDB's text, e.g. ``missing fields``.
    """

    body: int
    line: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"unable to parse '{self.text}': {self.reason}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The good points of some bodies as columns, the bad lines as errors.

    A *row* is a good line; rows are in input order, body by body. An *entry* is one field value of a row; the entries
    of row r are ``entry_offsets[r]:entry_offsets[r + 1]``. A field named twice in a line has two entries. A *series*
    is known by its index here; a *column* is a field of one measurement, whatever its type.

    Attributes:
        body: index of the row's body, int32 a row.
        line: 1-based line number within the body, int32 a row.
        series: index of the row's series, int32 a row.
        times: ns since the epoch, int64 a row.
        entry_offsets: int64, rows + 1.
        entry_column: index of the column, int32 an entry.
        entry_type: FieldType, uint8 an entry.
        entry_bits: uint64 an entry: float64 bits, int64 in two's complement, uint64, 0 or 1; for a string where its
            raw bytes lie in ``text``: ``start << 32 | length << 1 | holds escapes``.
        columns: names of the fields, one a column.
        column_measurement: index of the column's measurement, int32 a column.
        measurements: names.
        series_ids: uint64, (series, 2): keyed hash of the canonical key, high and low word.
        series_measurement: index of the measurement, int32 a series.
        series_tags: int64, (series, 2): where the canonical tag key lies in ``text``, start and stop.
        text: the bodies, and behind them what had to be put into canonical form; uint8.
        errors: bad lines in input order, at most MAX_ERRORS a body.
        error_counts: number of bad lines, int64 a body (all of them, also those that ``errors`` leaves out).
    """

    body: NDArray[np.int32]
    line: NDArray[np.int32]
    series: NDArray[np.int32]
    times: NDArray[np.int64]
    entry_offsets: NDArray[np.int64]
    entry_column: NDArray[np.int32]
    entry_type: NDArray[np.uint8]
    entry_bits: NDArray[np.uint64]
    columns: tuple[str, ...]
    column_measurement: NDArray[np.int32]
    measurements: tuple[str, ...]
    series_ids: SeriesIds
    series_measurement: NDArray[np.int32]
    series_tags: NDArray[np.int64]
    text: NDArray[np.uint8]
    errors: tuple[LineError, ...]
    error_counts: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of good lines."""
        return len(self.times)

    def tag_keys(self, series: Sequence[int] | NDArray[np.int64]) -> list[bytes]:
        """Canonical tag keys of these series: ``tag=v,tag2=v2``, escaped, sorted by tag; empty without tags."""
        spans = self.series_tags[np.asarray(series, dtype=np.int64)].tolist()
        text = memoryview(self.text)
        return [bytes(text[start:stop]) for start, stop in spans]


def parse(bodies: Sequence[Body], hash_key: bytes) -> Parsed:
    """Read write bodies in line protocol, all in one go.

    Args:
        bodies: the bodies; together below 4 GiB.
        hash_key: 16 bytes that key the series hash.

    Returns:
        Columns of the good points, in input order; a LineError for each bad line. A bad line never hides a good one.
    """
    raise NotImplementedError
