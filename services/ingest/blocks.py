"""Parsed rows → checked rows → blocks of columns, grouped by bucket, measurement and shard. · pure

How it is called, in this order::

    parsed = parse(bodies, hash_key)
    fields = check_fields(parsed)                              # strings too long, fields named time
    groups = group_rows(parsed, buckets, keep=~fields.lost & …)
    known = [schema of (groups.bucket_of(g), groups.measurement_of(g), groups.shard_of(g)) for g in range(len(groups))]
    types = check_types(parsed, groups, known)                 # conflicts
    built = build_blocks(parsed, groups, keep=~types.lost)     # → Block, and which series each holds

When storage answers with winning types, series over a limit or buckets that are gone: narrow the mask (and the known
types), and call ``check_types`` and ``build_blocks`` again; ``parsed`` and ``groups`` stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.lineprotocol.kernels import Kernels, current
from common.lineprotocol.parse import Parsed
from common.model import Bucket, FieldType
from common.segment import Block, Column, StringArray

Values = NDArray[np.float64] | NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.bool_] | StringArray
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
class Groups:
    """Rows by (bucket, measurement, shard).

    Attributes:
        buckets: bucket of each group.
        measurements: name of each group's measurement.
        shards: (start_ns, stop_ns) of each group.
        rows: row numbers by group, in input order within a group, int64.
        offsets: rows of group g are ``rows[offsets[g]:offsets[g + 1]]``, int64.
    """

    buckets: tuple[Bucket, ...]
    measurements: tuple[str, ...]
    shards: tuple[tuple[int, int], ...]
    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.buckets)


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


@dataclass(frozen=True, slots=True)
class Built:
    """A block and what it was made of.

    Attributes:
        block: as storage takes it.
        group: index of its group.
        series: index in ``parsed`` of each of the block's series, int64, in the block's order: position p of the
            block is ``parsed.series_ids[series[p]]``, its tag key ``parsed.tag_keys(series[[p]])``.
    """

    block: Block
    group: int
    series: NDArray[np.int64]


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
    reasons = {int(row): _time_reason(parsed, row) for row in _first_of_bodies(parsed, only_time)}
    for entry, size in long:
        row = int(entry_row[entry])
        if not named_time[entry] and not lost[row]:
            lost[row] = True
            column = parsed.entry_column[entry]
            reasons[row] = (
                f'input field "{parsed.columns[column]}" on measurement "{_measurement(parsed, row)}" is too long, '
                f"{size} > {MAX_STRING_BYTES}"
            )
    for row in sorted(reasons):
        first.setdefault(int(parsed.body[row]), Trouble(row, reasons[row]))
    for row in _first_of_bodies(parsed, has_time & ~lost):
        reason = f'{_time_reason(parsed, row)}. Field "time" has been stripped from point.'
        stripped[int(parsed.body[row])] = Trouble(int(row), reason)
    return FieldCheck(lost, first, stripped)


def _long_strings(parsed: Parsed) -> list[tuple[int, int]]:
    """Entries whose strings are over the limit, and the sizes of these."""
    lengths = (parsed.entry_bits & np.uint64(0xFFFFFFFF)) >> np.uint64(1)
    entries = np.flatnonzero((parsed.entry_type == FieldType.STRING) & (lengths > MAX_STRING_BYTES))
    if not len(entries):
        return []
    offsets = np.zeros(len(entries) + 1, np.int64)
    current().measure_strings(parsed.text, parsed.entry_bits[entries], offsets)
    sizes = np.diff(offsets).tolist()
    return [(entry, size) for entry, size in zip(entries.tolist(), sizes, strict=True) if size > MAX_STRING_BYTES]


def ignored_columns(parsed: Parsed) -> NDArray[np.bool_]:
    """The columns that are not stored: fields named ``time``; bool a column."""
    return np.fromiter((name == "time" for name in parsed.columns), np.bool_, len(parsed.columns))


def _measurement(parsed: Parsed, row: int) -> str:
    return parsed.measurements[parsed.series_measurement[parsed.series[row]]]


def _time_reason(parsed: Parsed, row: int) -> str:
    return f'invalid field name: input field "time" on measurement "{_measurement(parsed, row)}" is invalid'


def _first_of_bodies(parsed: Parsed, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first chosen row of each body that has one."""
    rows = np.flatnonzero(chosen)
    return rows[np.unique(parsed.body[rows], return_index=True)[1]]


def group_rows(parsed: Parsed, buckets: Sequence[Bucket | None], keep: NDArray[np.bool_] | None = None) -> Groups:
    """Sort rows by bucket, measurement and shard.

    Args:
        buckets: where each body goes; None = its rows are left out (refused, or all or nothing with a bad line).
        keep: bool a row; None = all.
    """
    kernels = current()
    targets: dict[str, int] = {}
    distinct: list[Bucket] = []
    body_bucket = np.full(len(buckets), -1, np.int32)
    for body, bucket in enumerate(buckets):
        if bucket is not None:
            body_bucket[body] = targets.setdefault(bucket.id, len(distinct))
            if len(targets) > len(distinct):
                distinct.append(bucket)
    runs = np.empty((parsed.rows, 3), np.int64)
    row_run = np.empty(parsed.rows, np.int32)
    count = kernels.split_rows(
        parsed.body,
        parsed.series,
        parsed.times,
        _mask(parsed, keep),
        body_bucket,
        np.fromiter((bucket.shard_ns for bucket in distinct), np.int64, len(distinct)),
        parsed.series_measurement,
        np.full((len(distinct), len(parsed.measurements)), -1, np.int32),
        runs,
        row_run,
    )
    if count == 1:
        groups, row_group = runs[:1], row_run
    else:
        groups, run_group = np.unique(runs[:count], axis=0, return_inverse=True)
        row_group = np.where(row_run >= 0, run_group.reshape(-1)[row_run] if count else -1, -1).astype(np.int32)
    rows, offsets = _ordered(kernels, row_group, len(groups))
    wanted = groups.tolist()
    return Groups(
        buckets=tuple(distinct[bucket] for bucket, _, _ in wanted),
        measurements=tuple(parsed.measurements[measurement] for _, measurement, _ in wanted),
        shards=tuple(_shard(shard, distinct[bucket].shard_ns) for bucket, _, shard in wanted),
        rows=rows,
        offsets=offsets,
    )


def _shard(number: int, shard_ns: int) -> tuple[int, int]:
    """Bounds of a shard; the outermost ones are cut where 64 bits end."""
    return max(number * shard_ns, -(2**63)), min((number + 1) * shard_ns, 2**63 - 1)


def _mask(parsed: Parsed, keep: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    return np.ones(parsed.rows, np.bool_) if keep is None else np.ascontiguousarray(keep, np.bool_)


def _ordered(kernels: Kernels, group: NDArray[np.int32], groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows by group, in row order within a group, and where each group begins; rows of group -1 are left out."""
    offsets = np.zeros(groups + 1, np.int64)
    order = np.empty(len(group), np.int64)
    kernels.order_by(group, offsets, order)
    return order[: offsets[groups]], offsets


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
    for row in _first_of_bodies(parsed, lost).tolist() if lost.any() else ():
        entry, winner = conflict[row].tolist()
        first[int(parsed.body[row])] = Trouble(
            row,
            f'field type conflict: input field "{parsed.columns[parsed.entry_column[entry]]}" '
            f'on measurement "{_measurement(parsed, row)}" is type {FieldType(parsed.entry_type[entry]).word}, '
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


def build_blocks(parsed: Parsed, groups: Groups, keep: NDArray[np.bool_] | None = None) -> list[Built]:
    """Make the blocks of a commit: rows by series and time, each once.

    Rows of one series and time are merged: their fields join, of a field named twice the later value stays. The field
    ``time`` is left out. A group that keeps no row has no block; a group has several blocks (of disjoint rows) when
    its columns are many and mostly empty, so that the memory of blocks stays in proportion to the input.

    Args:
        keep: bool a row; None = all of ``groups``.

    Raises:
        ValueError: a column holds two types: ``check_types`` was not asked.
    """
    kernels = current()
    layout = _lay_out(kernels, parsed, groups, keep)
    cells = _fill(kernels, parsed, layout)
    return [_build(kernels, parsed, groups, layout, cells, piece) for piece in range(len(cells.pieces) - 1)]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where rows go: see ``gather.lay_out``. ``order`` and ``offsets`` are rows by group, series and time."""

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    out_row: NDArray[np.int64]
    out_time: NDArray[np.int64]
    run_series: NDArray[np.int64]
    run_start: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Cells:
    """Values by piece and column: see ``gather.plan_pieces`` and ``gather.fill_cells``."""

    pieces: list[list[int]]
    column: list[int]
    bits: NDArray[np.uint64]
    valid: NDArray[np.bool_]
    counts: list[int]
    types: list[int]


def _lay_out(kernels: Kernels, parsed: Parsed, groups: Groups, keep: NDArray[np.bool_] | None) -> _Layout:
    count = len(groups)
    row_group = np.full(parsed.rows, -1, np.int32)
    row_group[groups.rows] = np.repeat(np.arange(count, dtype=np.int32), np.diff(groups.offsets))
    if keep is not None:
        row_group[~keep] = -1
    ids = parsed.series_ids
    by_id = np.lexsort((ids[:, 1], ids[:, 0]))
    rank = np.empty(len(ids), np.int32)
    rank[by_id] = np.arange(len(ids), dtype=np.int32)
    row_rank = rank[parsed.series]
    # Stable twice: by series, then by group.
    by_series, _ = _ordered(kernels, row_rank, len(ids))
    order, offsets = _ordered(kernels, row_group[by_series], count)
    order = by_series[order]
    rows = len(order)
    out_row, out_time = np.empty(rows, np.int64), np.empty(rows, np.int64)
    run_series, run_start = np.empty(rows, np.int64), np.empty(rows + 1, np.int64)
    arguments = (parsed.series, parsed.times, out_row, out_time, run_series, run_start)
    runs = kernels.lay_out(order, offsets, *arguments)
    if runs < 0:
        order = order[np.lexsort((parsed.times[order], row_rank[order], row_group[order]))]
        runs = kernels.lay_out(order, offsets, *arguments)
    return _Layout(order, offsets, out_row, out_time, run_series[:runs], run_start[: runs + 1])


def _fill(kernels: Kernels, parsed: Parsed, layout: _Layout) -> _Cells:
    columns = len(parsed.columns)
    ignored = ignored_columns(parsed)
    pieces = np.zeros((len(layout.order) + 1, 4), np.int64)
    piece_column = np.empty(len(parsed.entry_column), np.int64)
    entries = (parsed.entry_offsets, parsed.entry_column)
    rows = (ignored, layout.order)
    count = kernels.plan_pieces(
        *entries, *rows, layout.offsets, layout.out_row, np.zeros(columns, np.int64), pieces, piece_column
    )
    pieces = pieces[: count + 1]
    listed, cells = pieces[count, 2:].tolist()
    piece_column = piece_column[:listed]
    bits, valid = np.zeros(cells, np.uint64), np.zeros(cells, np.bool_)
    counts, types = np.zeros(listed, np.int64), np.zeros(listed, np.uint8)
    mixed = kernels.fill_cells(
        *entries, parsed.entry_type, parsed.entry_bits, *rows, layout.out_row, pieces, piece_column,
        np.empty(columns, np.int64), bits, valid, counts, types,
    )  # fmt: skip
    if mixed >= 0:
        raise ValueError(f"field {parsed.columns[mixed]!r} has values of two types in one block")
    return _Cells(pieces.tolist(), piece_column.tolist(), bits, valid, counts.tolist(), types.tolist())


def _build(kernels: Kernels, parsed: Parsed, groups: Groups, layout: _Layout, cells: _Cells, piece: int) -> Built:
    """The block of one piece."""
    group, at_start, listed, cell = cells.pieces[piece]
    _, at_stop, listed_stop, _ = cells.pieces[piece + 1]
    first = int(layout.out_row[at_start])
    rows = int(layout.out_row[at_stop - 1]) - first + 1
    # The runs of one series that lie in these rows; a piece may begin or end within one.
    run = int(np.searchsorted(layout.run_start, first, "right")) - 1
    run_stop = int(np.searchsorted(layout.run_start, first + rows, "left"))
    offsets = layout.run_start[run : run_stop + 1] - first
    offsets[0], offsets[-1] = 0, rows
    series = layout.run_series[run:run_stop]
    columns = []
    for k in range(listed, listed_stop):
        values, valid = cells.bits[cell : cell + rows], cells.valid[cell : cell + rows]
        type_ = FieldType(cells.types[k])
        columns.append(
            Column(
                parsed.columns[cells.column[k]],
                type_,
                _values(kernels, parsed, type_, values),
                None if cells.counts[k] == rows else valid,
            )
        )
        cell += rows
    start_ns, stop_ns = groups.shards[group]
    block = Block(
        bucket_id=groups.buckets[group].id,
        measurement=groups.measurements[group],
        shard_start_ns=start_ns,
        shard_stop_ns=stop_ns,
        series=parsed.series_ids[series],
        offsets=offsets,
        times=layout.out_time[first : first + rows],
        columns=tuple(columns),
    )
    return Built(block, group, series)


def _values(kernels: Kernels, parsed: Parsed, type_: FieldType, bits: NDArray[np.uint64]) -> Values:
    """Entry bits of one type as a column's values."""
    if type_ is FieldType.STRING:
        offsets = np.empty(len(bits) + 1, np.int64)
        kernels.measure_strings(parsed.text, bits, offsets)
        text = np.empty(int(offsets[-1]), np.uint8)
        kernels.copy_strings(parsed.text, bits, text)
        return StringArray(offsets, text)
    if type_ is FieldType.FLOAT:
        return bits.view(np.float64)
    if type_ is FieldType.INTEGER:
        return bits.view(np.int64)
    return bits if type_ is FieldType.UNSIGNED else bits != 0
