"""What is wrong with the fields of rows that parse: no bucket takes them, or their types lose. · pure

Source: InfluxDB 2.9.0 as observed, "store errors: partial writes", for the rules and their texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.lineprotocol.kernels import current
from common.lineprotocol.parse import Parsed
from common.model import FieldType
from services.ingest.groups import Groups

MAX_STRING_BYTES = 1048576


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a row is not stored whole: the first such reason of a body.

    Attributes:
        row: the row, so that troubles of several checks can be put in order.
        reason: InfluxDB's text behind ``partial write: ``.
    """

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """Rows with fields that no bucket takes.

    Attributes:
        lost: bool a row: the point is dropped (a string over MAX_STRING_BYTES, no field but ``time``).
        first: body → its first row that is lost.
        stripped: body → its first row that is kept without its field ``time`` (``dropped=0``).
    """

    lost: NDArray[np.bool_]
    first: dict[int, Trouble]
    stripped: dict[int, Trouble]


@dataclass(frozen=True, slots=True)
class TypeCheck:
    """What the known types of the fields say to the rows.

    Attributes:
        lost: bool a row: the point is dropped for a field whose type loses.
        first: body → its first row that is lost, with InfluxDB's text.
        new: per group, types of the fields that were not known.
    """

    lost: NDArray[np.bool_]
    first: dict[int, Trouble]
    new: tuple[dict[str, FieldType], ...]


def check_fields(parsed: Parsed) -> FieldCheck:
    """Find the rows that no bucket takes as they are: too long strings, fields named ``time``."""
    lost = np.zeros(parsed.rows, np.bool_)
    first: dict[int, Trouble] = {}
    stripped: dict[int, Trouble] = {}
    long = _long_strings(parsed)
    ignored = ignored_columns(parsed)
    if not len(long) and not ignored.any():
        return FieldCheck(lost, first, stripped)
    entry_row = np.repeat(np.arange(parsed.rows), np.diff(parsed.entry_offsets))
    named_time = ignored[parsed.entry_column]
    has_time = np.zeros(parsed.rows, np.bool_)
    has_time[entry_row[named_time]] = True
    only_time = has_time.copy()
    only_time[entry_row[~named_time]] = False
    lost |= only_time
    reasons = {int(row): _time_reason(parsed, row) for row in first_of_bodies(parsed, only_time)}
    for entry, size in long:
        row = int(entry_row[entry])
        if not named_time[entry] and not lost[row]:
            lost[row] = True
            column = parsed.entry_column[entry]
            reasons[row] = (
                f'input field "{parsed.columns[column]}" on measurement "{measurement_of(parsed, row)}" is too long, '
                f"{size} > {MAX_STRING_BYTES}"
            )
    for row in sorted(reasons):
        first.setdefault(int(parsed.body[row]), Trouble(row, reasons[row]))
    for row in first_of_bodies(parsed, has_time & ~lost):
        reason = f'{_time_reason(parsed, row)}. Field "time" has been stripped from point.'
        stripped[int(parsed.body[row])] = Trouble(int(row), reason)
    return FieldCheck(lost, first, stripped)


def _long_strings(parsed: Parsed) -> list[tuple[int, int]]:
    """Entries whose strings are over the limit, and the sizes of these."""
    strings = np.flatnonzero(parsed.entry_type == FieldType.STRING)
    lengths = (parsed.entry_bits[strings] & np.uint64(0xFFFFFFFF)) >> np.uint64(1)
    entries = strings[lengths > MAX_STRING_BYTES]
    if not len(entries):
        return []
    offsets = np.zeros(len(entries) + 1, np.int64)
    current().measure_strings(parsed.text, parsed.entry_bits[entries], offsets)
    sizes = np.diff(offsets).tolist()
    return [(entry, size) for entry, size in zip(entries.tolist(), sizes, strict=True) if size > MAX_STRING_BYTES]


def ignored_columns(parsed: Parsed) -> NDArray[np.bool_]:
    """The columns that are not stored: fields named ``time``; bool a column."""
    return np.fromiter((name == "time" for name in parsed.columns), np.bool_, len(parsed.columns))


def measurement_of(parsed: Parsed, row: int) -> str:
    return parsed.measurements[int(parsed.series_measurement[parsed.series[row]])]


def _time_reason(parsed: Parsed, row: int) -> str:
    return f'invalid field name: input field "time" on measurement "{measurement_of(parsed, row)}" is invalid'


def first_of_bodies(parsed: Parsed, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first chosen row of each body that has one."""
    rows = np.flatnonzero(chosen)
    return rows[np.unique(parsed.body[rows], return_index=True)[1]]


def check_types(parsed: Parsed, groups: Groups, known: Sequence[Mapping[str, FieldType]]) -> TypeCheck:
    """Compare each field value's type with the field's known type; the first kept row fixes a type that is not known.

    A row with one losing field is lost whole and fixes no types. The field ``time`` is passed over.

    Args:
        known: types of each group's fields, one mapping a group.
    """
    columns = len(parsed.columns)
    known_offsets, known_column, known_type = _known_types(parsed, groups, known)
    conflict = np.full((parsed.rows, 2), -1, np.int64)
    fixed = np.empty((len(parsed.entry_column), 3), np.int64)
    count = current().check_entries(
        parsed.entry_offsets,
        parsed.entry_column,
        parsed.entry_type,
        groups.rows,
        groups.offsets,
        ignored_columns(parsed),
        known_offsets,
        known_column,
        known_type,
        np.zeros(columns, np.uint8),
        np.zeros(columns, np.int64),
        conflict,
        fixed,
    )
    new: tuple[dict[str, FieldType], ...] = tuple({} for _ in range(len(groups)))
    for group, column, type_ in fixed[:count].tolist():
        new[group][parsed.columns[column]] = FieldType(type_)
    lost = conflict[:, 0] >= 0
    first = {}
    for row in first_of_bodies(parsed, lost).tolist() if lost.any() else ():
        entry, winner = conflict[row].tolist()
        first[int(parsed.body[row])] = Trouble(
            row,
            f'field type conflict: input field "{parsed.columns[parsed.entry_column[entry]]}" '
            f'on measurement "{measurement_of(parsed, row)}" is type {FieldType(parsed.entry_type[entry]).word}, '
            f"already exists as type {FieldType(winner).word}",
        )
    return TypeCheck(lost, first, new)


def _known_types(
    parsed: Parsed, groups: Groups, known: Sequence[Mapping[str, FieldType]]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]:
    """The known types of the columns at hand: offsets by group, column, type."""
    of_measurement: dict[str, list[tuple[int, str]]] = {}
    for column, measurement in enumerate(parsed.column_measurement.tolist()):
        named = of_measurement.setdefault(parsed.measurements[measurement], [])
        named.append((column, parsed.columns[column]))
    offsets = [0]
    columns: list[int] = []
    types: list[int] = []
    for measurement_name, fields in zip(groups.measurements, known, strict=True):
        if fields:
            for column, name in of_measurement.get(measurement_name, ()):
                type_ = fields.get(name)
                if type_ is not None:
                    columns.append(column)
                    types.append(type_)
        offsets.append(len(columns))
    return np.array(offsets, np.int64), np.array(columns, np.int32), np.array(types, np.uint8)
