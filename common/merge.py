"""Blocks of the same measurement and shard → one block; and rows of blocks by position · pure.

A row is one (series, time). Where several blocks have it, its fields merge: of each field the last block that has a
value wins. Used by the engine (what a scan read) and by compaction (what is to be kept).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.codecs.strings import concat_strings, gather_strings
from common.errors import InternalError
from common.model import FieldType
from common.segment import DTYPES, Block, Column, SeriesIds, StringArray

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Order:
    """How the rows of all blocks, one after the other, become those of the merged block.

    Attributes:
        source: the rows in their new order; those of one (series, time) side by side, the winner last.
        starts: where in ``source`` each merged row begins; None = each has one source.
    """

    source: Index
    starts: Index | None


def merge_blocks(blocks: Sequence[Block]) -> Block:
    """The union of the rows of *blocks*, last write wins.

    Args:
        blocks: at least one, all of one bucket, measurement and shard, in ascending order of who wins. Their columns
            may differ.

    Returns:
        One block; its columns are in the order in which they first occur.

    Raises:
        InternalError: a field has two types, or the blocks are not of one shard.
    """
    if len(blocks) == 1:
        return blocks[0]
    merger = Merger(blocks)
    columns = [{column.name: column for column in block.columns} for block in blocks]
    return replace(
        merger.block,
        columns=tuple(
            merger.merge_column(name, kind, [each.get(name) for each in columns])
            for name, kind in _fields(blocks).items()
        ),
    )


class Merger:
    """The order in which the rows of some blocks merge, found once and applied column by column.

    Args:
        blocks: as of ``merge_blocks``; their columns do not matter.

    Attributes:
        block: the merged block, without columns.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        _check_alike(blocks)
        self._rows = [block.rows for block in blocks]
        series, ranks = _unite_series([block.series for block in blocks])
        self._order = _order_of_runs(blocks, ranks) or _order_of_rows(blocks, ranks)
        source, starts = self._order.source, self._order.starts
        times = np.concatenate([block.times for block in blocks])
        if starts is None:
            times = times[source]
            counts = np.zeros(len(series), np.int64)
            for block, block_ranks in zip(blocks, ranks, strict=True):
                counts[block_ranks] += np.diff(block.offsets)
        else:
            times = times[source[starts]]
            counts = np.bincount(_row_ranks(blocks, ranks)[source[starts]], minlength=len(series))
        offsets = np.zeros(len(series) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        self.block = replace(blocks[0], series=series, offsets=offsets, times=times, columns=())

    def merge_column(self, name: str, kind: FieldType, parts: Sequence[Column | None]) -> Column:
        """One field of the merged block.

        Args:
            parts: the field's column of each block, in their order; None where a block has it not.
        """
        order = self._order
        source, valid = order.source, self._validity(parts)
        if order.starts is None:
            valid = None if valid is None else valid[source]
        elif valid is None:
            source = source[_ends(order)]
        else:
            # Of each group of rows of one (series, time) the last one that has a value.
            position = np.where(valid[source], np.arange(len(source)), -1)
            winner = np.maximum.reduceat(position, order.starts)
            valid = winner >= 0
            # Where none has a value any row of the group will do: its value is 0 or empty.
            source = source[np.where(valid, winner, _ends(order))]
        if valid is not None and valid.all():
            valid = None
        return Column(name, kind, self._gather(parts, kind, source), valid)

    def _validity(self, parts: Sequence[Column | None]) -> NDArray[np.bool_] | None:
        if all(part is not None and part.valid is None for part in parts):
            return None
        return np.concatenate([_validity(part, rows) for part, rows in zip(parts, self._rows, strict=True)])

    def _gather(self, parts: Sequence[Column | None], kind: FieldType, source: Index) -> Any:
        """Rows *source* of the parts one after the other; a missing part is zeros or empty strings."""
        whole: list[Any] = [
            _no_values(kind, rows) if part is None else part.values
            for part, rows in zip(parts, self._rows, strict=True)
        ]
        if kind is FieldType.STRING:
            texts = concat_strings([(part.offsets, part.data) for part in whole])
            return StringArray(*gather_strings(*texts, source))
        return np.concatenate(whole)[source]


def _no_values(kind: FieldType, rows: int) -> Any:
    if kind is FieldType.STRING:
        return StringArray(np.zeros(rows + 1, np.int64), np.zeros(0, np.uint8))
    return np.zeros(rows, DTYPES[kind])


def _check_alike(blocks: Sequence[Block]) -> None:
    first = blocks[0]
    place = (first.bucket_id, first.measurement, first.shard_start_ns, first.shard_stop_ns)
    for block in blocks:
        if (block.bucket_id, block.measurement, block.shard_start_ns, block.shard_stop_ns) != place:
            raise InternalError(
                f"cannot merge blocks of {block.measurement!r}, shard {block.shard_start_ns}, and "
                f"{first.measurement!r}, shard {first.shard_start_ns}: they are not of one shard"
            )


def _fields(blocks: Sequence[Block]) -> dict[str, FieldType]:
    fields: dict[str, FieldType] = {}
    for block in blocks:
        for column in block.columns:
            if fields.setdefault(column.name, column.type) is not column.type:
                raise InternalError(
                    f"cannot merge blocks of {block.measurement!r}: field {column.name!r} is "
                    f"{fields[column.name].word} and {column.type.word} in one shard"
                )
    return fields


# ------------------------------------------------------------------------------------------------------- order


def _unite_series(series: Sequence[SeriesIds]) -> tuple[SeriesIds, list[Index]]:
    """All ids, ascending, each once; and for each block the position of its ids among them."""
    if all(np.array_equal(ids, series[0]) for ids in series[1:]):
        same = np.arange(len(series[0]))
        return series[0], [same] * len(series)
    ids = np.concatenate(series)
    order = np.lexsort((ids[:, 1], ids[:, 0]))
    ids = ids[order]
    fresh = np.ones(len(ids), np.bool_)
    fresh[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.cumsum(fresh) - 1
    return ids[fresh], np.split(ranks, np.cumsum([len(each) for each in series])[:-1])


def _order_of_runs(blocks: Sequence[Block], ranks: Sequence[Index]) -> _Order | None:
    """The order when no two blocks' rows of one series overlap in time: whole runs move. None when some do."""
    shifts = np.cumsum([0] + [block.rows for block in blocks])
    starts = np.concatenate([block.offsets[:-1] + shift for block, shift in zip(blocks, shifts, strict=False)])
    lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
    first = np.concatenate([block.times[block.offsets[:-1]] for block in blocks])
    last = np.concatenate([block.times[block.offsets[1:] - 1] for block in blocks])
    rank = np.concatenate(ranks)
    order = np.lexsort((first, rank))
    rank, first, last = rank[order], first[order], last[order]
    if ((rank[1:] == rank[:-1]) & (first[1:] <= last[:-1])).any():
        return None
    starts, lengths = starts[order], lengths[order]
    ends = np.cumsum(lengths)
    source = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
    return _Order(source, None)


def _order_of_rows(blocks: Sequence[Block], ranks: Sequence[Index]) -> _Order:
    """The order row by row; a stable sort keeps the blocks' order among rows of one (series, time)."""
    rank = _row_ranks(blocks, ranks)
    time = np.concatenate([block.times for block in blocks])
    key = _sort_key(rank, time)
    # A stable sort merges what is sorted already: each block is one run of its input.
    source = np.lexsort((time, rank)) if key is None else np.argsort(key, kind="stable")
    rank, time = rank[source], time[source]
    fresh = np.ones(len(source), np.bool_)
    fresh[1:] = (rank[1:] != rank[:-1]) | (time[1:] != time[:-1])
    return _Order(source, None if fresh.all() else np.flatnonzero(fresh))


def _sort_key(rank: Index, time: Index) -> NDArray[np.uint64] | None:
    """Series and time in one word; None when they do not fit."""
    low = int(time.min())
    span = int(time.max()) - low
    since = time.view(np.uint64) - np.uint64(low & ((1 << 64) - 1))
    for unit in (1_000_000_000, 1_000_000, 1_000):
        units = since // np.uint64(unit)
        if np.array_equal(units * np.uint64(unit), since):
            since, span = units, span // unit
            break
    bits = span.bit_length()
    if bits + int(rank.max()).bit_length() > 64:
        return None
    return since if bits == 64 else (rank.astype(np.uint64) << np.uint64(bits)) | since


def _row_ranks(blocks: Sequence[Block], ranks: Sequence[Index]) -> Index:
    return np.concatenate([np.repeat(rank, np.diff(block.offsets)) for block, rank in zip(blocks, ranks, strict=True)])


# ----------------------------------------------------------------------------------------------------- columns


def _ends(order: _Order) -> Index:
    assert order.starts is not None
    return np.append(order.starts[1:], len(order.source)) - 1


def _validity(part: Column | None, rows: int) -> NDArray[np.bool_]:
    if part is None:
        return np.zeros(rows, np.bool_)
    return np.ones(rows, np.bool_) if part.valid is None else part.valid


# -------------------------------------------------------------------------------------------- rows by position


def take_column(column: Column, index: Index) -> Column:
    """The rows *index* of a column, in that order."""
    valid = None if column.valid is None else column.valid[index]
    if valid is not None and valid.all():
        valid = None
    values = column.values
    if isinstance(values, StringArray):
        return Column(column.name, column.type, StringArray(*gather_strings(values.offsets, values.data, index)), valid)
    return Column(column.name, column.type, values[index], valid)


def slice_column(column: Column, start: int, stop: int) -> Column:
    """The rows ``start:stop`` of a column, as views (the offsets of strings then need not begin at 0)."""
    values = column.values
    if isinstance(values, StringArray):
        part: Any = StringArray(values.offsets[start : stop + 1], values.data)
    else:
        part = values[start:stop]
    return Column(column.name, column.type, part, None if column.valid is None else column.valid[start:stop])


def filter_rows(block: Block, keep: NDArray[np.bool_]) -> Block | None:
    """The rows where *keep* (bool, a row) says so, without series that have none left; None when no row is left."""
    index = np.flatnonzero(keep)
    if not len(index):
        return None
    if len(index) == block.rows:
        return block
    kept = np.zeros(block.rows + 1, np.int64)
    np.cumsum(keep, out=kept[1:])
    ends = kept[block.offsets]
    present = ends[1:] > ends[:-1]
    return replace(
        block,
        series=block.series[present],
        offsets=np.append(ends[:-1][present], ends[-1]),
        times=block.times[index],
        columns=tuple(take_column(column, index) for column in block.columns),
    )


def slice_series(block: Block, start: int, stop: int) -> Block:
    """The series ``start:stop`` of a block with all their rows, as views."""
    first, end = int(block.offsets[start]), int(block.offsets[stop])
    return replace(
        block,
        series=block.series[start:stop],
        offsets=block.offsets[start : stop + 1] - first,
        times=block.times[first:end],
        columns=tuple(slice_column(column, first, end) for column in block.columns),
    )


def slice_rows(block: Block, start: int, stop: int) -> Block:
    """The rows ``start:stop`` of a block (at least one), as views; a series may be cut."""
    first = int(np.searchsorted(block.offsets, start, "right")) - 1
    end = int(np.searchsorted(block.offsets, stop, "left"))
    return replace(
        block,
        series=block.series[first:end],
        offsets=np.clip(block.offsets[first : end + 1], start, stop) - start,
        times=block.times[start:stop],
        columns=tuple(slice_column(column, start, stop) for column in block.columns),
    )
