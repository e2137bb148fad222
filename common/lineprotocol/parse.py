"""Line protocol → columns of good points and a list of bad lines.

The grammar itself is ``kernel.py``; this module lays out its memory and turns its numbers into objects. · pure
Source: InfluxDB 2.x manual, "Line protocol", and its ``models/points.go`` for the texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.lineprotocol.kernels import Kernels, current
from common.lineprotocol.memory import (
    COLUMNS,
    ENTRIES,
    ERRORS,
    KEYS,
    LINE,
    MEASUREMENTS,
    MORE_COLUMNS,
    MORE_ENTRIES,
    MORE_ERRORS,
    MORE_KEYS,
    MORE_MEASUREMENTS,
    MORE_ROWS,
    MORE_SERIES,
    MORE_TAGS,
    MORE_TEXT,
    ROWS,
    SERIES,
    STATE_SIZE,
    TAGS_WANTED,
    TEXT_USED,
    Memory,
)
from common.lineprotocol.names import unescape_measurement, unescape_name
from common.lineprotocol.reasons import OK, format_reason
from common.lineprotocol.words import PAD
from common.segment import SeriesIds

MAX_TEXT_BYTES = 1 << 31
MAX_LINE_TEXT_BYTES = 1 << 17
# All lines of the errors of one body together.
MAX_ERROR_TEXT_BYTES = 1 << 22
# Room for one more canonical key, however long a line is, comes by growing; this is for the first ones.
LARGEST_KEY = 1 << 10
LINE_FEED = 10

# By what the kernel runs out of: where state counts it, and the arrays that hold one of it each.
_GROUPS = {
    MORE_ROWS: (ROWS, ("row_body", "row_line", "row_series", "row_time", "row_entries")),
    MORE_ENTRIES: (ENTRIES, ("entry_column", "entry_type", "entry_bits")),
    MORE_COLUMNS: (COLUMNS, ("column_hash", "column_place", "column_measurement", "column_next")),
    MORE_MEASUREMENTS: (MEASUREMENTS, ("measurement_hash", "measurement_place", "measurement_first")),
    MORE_SERIES: (SERIES, ("series_hash", "series_tags", "series_measurement")),
    MORE_KEYS: (KEYS, ("key_hash", "key_series")),
    MORE_ERRORS: (ERRORS, ("errors",)),
}


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
        errors: bad lines in input order, at most MAX_ERRORS and MAX_ERROR_TEXT_BYTES a body, but its first one always.
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
        text = self.text.data
        return [bytes(text[start:stop]) for start, stop in spans]


def parse(bodies: Sequence[Body], hash_key: bytes) -> Parsed:
    """Read write bodies in line protocol, all in one go.

    Takes two bytes of memory for each byte of usual bodies, eight for each of very short lines. Blocks, but does not
    hold the interpreter lock while compiled code runs.

    Args:
        bodies: the bodies; together below 2 GiB.
        hash_key: 16 bytes that key the series hash.

    Returns:
        Columns of the good points, in input order; a LineError for each bad line. A bad line never hides a good one.

    Raises:
        ValueError: the bodies are too large together, a unit is not positive.
    """
    size = sum(len(body.data) for body in bodies) + len(bodies)
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"bodies of {size} bytes are too large for one call: the limit is {MAX_TEXT_BYTES}")
    if any(body.unit_ns <= 0 for body in bodies):
        raise ValueError("the unit of time must be positive")
    k0, k1 = (int.from_bytes(hash_key[at : at + 8], "little") for at in (0, 8))
    kernels = current()
    text, ends = _join(bodies, size)
    memory = _allocate(bodies, ends, size)
    while True:
        room = len(text) - PAD
        need = kernels.parse_lines(text if kernels.compiled else text.data, room, k0, k1, memory)
        if need == OK:
            return _finish(memory, text, len(bodies))
        if need == MORE_TEXT:
            text = _grow(text, int(memory.state[TEXT_USED]), len(text) + size + LARGEST_KEY)
        else:
            memory = _enlarge(kernels, memory, need)


def _join(bodies: Sequence[Body], size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bodies with a line feed behind each, room for canonical keys and PAD; and where each ends."""
    text = np.empty(size + size // 4 + LARGEST_KEY + PAD, np.uint8)
    joined = bodies[0].data if len(bodies) == 1 else b"\n".join(body.data for body in bodies)
    text[: len(joined)] = np.frombuffer(joined, np.uint8)
    if bodies:
        text[size - 1] = LINE_FEED
    ends = np.cumsum(np.fromiter((len(body.data) + 1 for body in bodies), np.int64, len(bodies))) - 1
    return text, ends


def _allocate(bodies: Sequence[Body], ends: NDArray[np.int64], size: int) -> Memory:
    """Memory for usual lines; what is too small grows. Pages that nothing touches cost nothing."""
    rows = size // 64 + 16
    entries = size // 16 + 64
    names = 256 if size > 4096 else 64
    series = size // 256 + 64
    state = np.zeros(STATE_SIZE, np.int64)
    state[LINE] = 1
    state[TEXT_USED] = size
    bits = np.empty(entries, np.uint64)
    row_entries = np.empty(rows + 1, np.int64)
    row_entries[0] = 0
    return Memory(
        state=state,
        ends=ends,
        units=np.array([body.unit_ns for body in bodies], np.int64),
        defaults=np.array([body.now_ns - body.now_ns % body.unit_ns for body in bodies], np.int64),
        error_counts=np.zeros(len(bodies), np.int64),
        row_body=np.empty(rows, np.int32),
        row_line=np.empty(rows, np.int32),
        row_series=np.empty(rows, np.int32),
        row_time=np.empty(rows, np.int64),
        row_entries=row_entries,
        entry_column=np.empty(entries, np.int32),
        entry_type=np.empty(entries, np.uint8),
        entry_bits=bits,
        entry_double=bits.view(np.float64),
        column_table=_table(names),
        column_hash=np.empty((names, 2), np.uint64),
        column_place=np.empty((names, 2), np.int64),
        column_measurement=np.empty(names, np.int32),
        column_next=np.empty(names, np.int32),
        measurement_table=_table(names),
        measurement_hash=np.empty((names, 2), np.uint64),
        measurement_place=np.empty((names, 2), np.int64),
        measurement_first=np.empty(names, np.int32),
        series_hash=np.empty((series, 2), np.uint64),
        series_tags=np.empty((series, 2), np.int64),
        series_measurement=np.empty(series, np.int32),
        key_table=_table(2 * series),
        key_hash=np.empty((2 * series, 2), np.uint64),
        key_series=np.empty(2 * series, np.int32),
        errors=np.empty((64, 8), np.int64),
        tags=np.empty((64, 3), np.int64),
    )


def _table(capacity: int) -> NDArray[np.int32]:
    """An empty hash table that is at most half full with *capacity* entries."""
    return np.zeros(1 << (2 * capacity - 1).bit_length(), np.int32)


def _grow(array: NDArray[Any], used: int, length: int) -> NDArray[Any]:
    """A longer copy of an array, of which only *used* elements count."""
    grown = np.empty((length, *array.shape[1:]), array.dtype)
    grown[:used] = array[:used]
    return grown


def _enlarge(kernels: Kernels, memory: Memory, need: int) -> Memory:
    """Memory with four times the room for what the kernel needs."""
    state = memory.state
    if need == MORE_TAGS:
        return memory._replace(tags=np.empty((2 * int(state[TAGS_WANTED]), 3), np.int64))
    used_at, names = _GROUPS[need]
    used = int(state[used_at])
    changes: dict[str, Any] = {}
    for name in names:
        array = getattr(memory, name)
        changes[name] = _grow(array, min(used + 1, len(array)), 4 * len(array))
    if need == MORE_ENTRIES:
        changes["entry_double"] = changes["entry_bits"].view(np.float64)
    for kind in ("column", "measurement", "key"):
        if f"{kind}_hash" in changes:
            hashes = changes[f"{kind}_hash"]
            changes[f"{kind}_table"] = _table(len(hashes))
            kernels.fill_table(changes[f"{kind}_table"], hashes, used)
    return memory._replace(**changes)


def _finish(memory: Memory, text: NDArray[np.uint8], bodies: int) -> Parsed:
    """The kernel's arrays, cut to what is used, and its numbers as names."""
    state = memory.state.tolist()
    rows, entries, columns = state[ROWS], state[ENTRIES], state[COLUMNS]
    measurements, series = state[MEASUREMENTS], state[SERIES]
    view = text.data
    return Parsed(
        body=memory.row_body[:rows],
        line=memory.row_line[:rows],
        series=memory.row_series[:rows],
        times=memory.row_time[:rows],
        entry_offsets=memory.row_entries[: rows + 1],
        entry_column=memory.entry_column[:entries],
        entry_type=memory.entry_type[:entries],
        entry_bits=memory.entry_bits[:entries],
        columns=tuple(unescape_name(bytes(view[a:b])) for a, b in memory.column_place[:columns].tolist()),
        column_measurement=memory.column_measurement[:columns],
        measurements=tuple(
            unescape_measurement(bytes(view[a:b])) for a, b in memory.measurement_place[:measurements].tolist()
        ),
        series_ids=memory.series_hash[:series],
        series_measurement=memory.series_measurement[:series],
        series_tags=memory.series_tags[:series],
        text=text,
        errors=_line_errors(memory.errors[: state[ERRORS]].tolist(), view),
        error_counts=memory.error_counts,
    )


def _line_errors(found: list[list[int]], text: memoryview) -> tuple[LineError, ...]:
    errors: list[LineError] = []
    room = 0
    for body, line, start, stop, code, named_start, named_stop, number in found:
        first = not errors or errors[-1].body != body
        if first:
            room = MAX_ERROR_TEXT_BYTES
        stop = min(stop, start + MAX_LINE_TEXT_BYTES)
        room -= stop - start
        if room >= 0 or first:
            line_text = bytes(text[start:stop]).decode("utf-8", "replace")
            reason = format_reason(code, bytes(text[named_start:named_stop]), number)
            errors.append(LineError(body, line, line_text, reason))
    return tuple(errors)
