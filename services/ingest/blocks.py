"""Checked rows → blocks of columns, one or more for each bucket, measurement and shard. · pure

How it, ``columns`` and ``groups`` are called, in this order::

    parsed = parse(bodies, hash_key)
    fields = check_fields(parsed)                              # strings too long, fields named time
    groups = group_rows(parsed, buckets, keep=~fields.lost & …)
    known = [types of (groups.buckets[g].id, groups.measurements[g], groups.shards[g]) for g in range(len(groups))]
    types = check_types(parsed, groups, known)                 # conflicts
    built = build_blocks(parsed, groups, keep=~types.lost)     # → Block, and which series each holds

When storage answers with winning types, series over a limit or buckets that are gone: narrow the mask (and the known
types), and call ``check_types`` and ``build_blocks`` again; ``parsed`` and ``groups`` stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.lineprotocol.kernels import Kernels, current
from common.lineprotocol.parse import Parsed
from common.model import FieldType
from common.segment import Block, Column, StringArray
from services.ingest.columns import ignored_columns
from services.ingest.groups import Groups, order_rows

Values = NDArray[np.float64] | NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.bool_] | StringArray


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
    by_series, _ = order_rows(kernels, row_rank, len(ids))
    order, offsets = order_rows(kernels, row_group[by_series], count)
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
