"""Queries without functions: rows in order of time, series merged as InfluxDB merges them · pure.

Source: InfluxQL as observed on 2.9, section 9.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.model import FieldType
from services.query.engine.answers import Answer, evaluate_outputs, limit_rows, most_rows, no_answer
from services.query.engine.cells import RowRefs
from services.query.engine.fill import fill_column
from services.query.engine.frame import Rows
from services.query.engine.kernels import NO_TIES, merge_streams
from services.query.engine.scan import Scan, column
from services.query.engine.spec import Query, Ref, RefKind
from services.query.engine.vectors import Indexes, Vector, cast, word_ranks


def run_raw(query: Query, scanned: Scan) -> Answer:
    """Rows with at least one of the selected fields; of a subquery all."""
    refs = [leaf for leaf in query.leaves if isinstance(leaf, Ref)]
    rows = [kept for each in scanned.rows if len(kept := each if query.derived else _with_values(each, refs))]
    if not rows:
        return no_answer()
    order, groups = derived_order(query, scanned, rows) if query.derived else row_order(query, scanned, rows, refs)
    times = order.times
    leaves = [
        fill_column(leaf_column(order.refs, scanned, ref), query.fill, query.fill_value, groups, descending=False)
        for ref in refs
    ]
    columns = evaluate_outputs(query.outputs, leaves, len(groups))
    return limit_rows(Answer(groups, times, columns), query)


def _with_values(rows: Rows, refs: Sequence[Ref]) -> Rows:
    """The rows in which one of the fields among *refs* has a value."""
    any_valid = np.zeros(len(rows), bool)
    for ref in refs:
        if ref.kind is RefKind.FIELD:
            vector = rows.column(ref.name)
            if vector is None or ((cast_to := cast(vector, ref.type)).valid is not None and not cast_to.valid.any()):
                continue
            if cast_to.valid is None:
                return rows
            any_valid |= cast_to.valid
    return rows.keep(any_valid)


def leaf_column(refs: RowRefs, scanned: Scan, ref: Ref) -> Vector:
    """Values of *ref* in the rows that *refs* names."""
    table = scanned.table
    if ref.kind is RefKind.TAG and ref.name in table.codes:
        return table.column(ref.name, refs.series())
    return refs.column(ref.name, ref.type)


# ---------------------------------------------------------------- order of rows


@dataclass(frozen=True, slots=True)
class RowOrder:
    """Rows in the order of the answer."""

    refs: RowRefs
    times: Indexes


def derived_order(query: Query, scanned: Scan, rows: Sequence[Rows]) -> tuple[RowOrder, Indexes]:
    """As ``row_order``, of a subquery's rows: those of equal times in the order of its series, backward too."""
    times = np.concatenate([each.times for each in rows])
    series = np.concatenate([each.row_series() for each in rows])
    groups = scanned.of_series[series]
    sign = -1 if query.descending else 1
    order = np.lexsort((scanned.table.ranks[series], sign * times, sign * groups))
    sizes = np.array([len(each) for each in rows])
    which = np.repeat(np.arange(len(rows)), sizes)
    at = np.concatenate([np.arange(size) for size in sizes.tolist()])
    return RowOrder(RowRefs(rows, which[order], at[order]), times[order]), groups[order]


def row_order(query: Query, scanned: Scan, rows: Sequence[Rows], refs: Sequence[Ref]) -> tuple[RowOrder, Indexes]:
    """The order of the rows, groups together, and the group of each.

    In each shard one heap merges the streams of the series; shards follow each other. Only the first rows that LIMIT
    and OFFSET can ask for are given.
    """
    streams = _find_streams(query, scanned, rows)
    times = np.concatenate([each.times for each in rows]) if len(rows) > 1 else rows[0].times
    source = None
    if streams.split:
        source, streams = _join_streams(streams)
        times = times[source]
    ties = NO_TIES
    if (np.diff(streams.bounds) > 1).any():
        ties = _tie_columns(scanned, rows, refs)
        if source is not None and len(ties):
            ties = np.ascontiguousarray(ties[:, source])
    order = merge_streams(
        np.ascontiguousarray(times), streams.starts, streams.ends, streams.bounds, ties, query.descending,
        most_rows(query),
    )  # fmt: skip
    sizes = np.add.reduceat(streams.ends - streams.starts, streams.bounds[:-1])
    groups = np.repeat(streams.groups, np.minimum(sizes, most_rows(query)))
    ordered_times = times[order]
    order = order if source is None else source[order]
    offsets = np.cumsum([0] + [len(each) for each in rows])
    which = np.searchsorted(offsets, order, side="right") - 1 if len(rows) > 1 else np.zeros(len(order), np.int64)
    refs_of_rows = RowRefs(rows, which, order - offsets[which])
    return _merge_shards(query, RowOrder(refs_of_rows, ordered_times), groups, streams)


@dataclass(frozen=True, slots=True)
class _Streams:
    """Runs of rows as the heaps take them.

    Attributes:
        starts, ends: rows (counted through all pieces) of each stream.
        bounds: streams of heap h are ``bounds[h]:bounds[h + 1]``.
        groups, shards: of each heap.
        split: whether a series has several runs within one heap, which have to be joined.
    """

    starts: Indexes
    ends: Indexes
    bounds: Indexes
    groups: Indexes
    shards: Indexes
    split: bool
    ranks: Indexes


def _find_streams(query: Query, scanned: Scan, rows: Sequence[Rows]) -> _Streams:
    shift = np.cumsum([0] + [len(each) for each in rows])
    starts = np.concatenate([each.offsets[:-1] + at for each, at in zip(rows, shift, strict=False)])
    ends = np.concatenate([each.offsets[1:] + at for each, at in zip(rows, shift, strict=False)])
    series = np.concatenate([each.series for each in rows])
    shards = np.repeat([each.piece.shard for each in rows], [len(each.series) for each in rows])
    first = np.concatenate([each.times[each.offsets[:-1]] for each in rows])
    ranks, groups = scanned.table.ranks[series], scanned.of_series[series]
    if query.descending:
        order = np.lexsort((first, -ranks, -shards, -groups))
    else:
        order = np.lexsort((first, ranks, shards, groups))
    groups, shards, ranks = groups[order], shards[order], ranks[order]
    new = np.ones(len(order), bool)
    new[1:] = (groups[1:] != groups[:-1]) | (shards[1:] != shards[:-1])
    heads = np.flatnonzero(new)
    split = bool((~new[1:] & (ranks[1:] == ranks[:-1])).any())
    return _Streams(
        starts[order], ends[order], np.append(heads, len(order)), groups[heads], shards[heads], split, ranks
    )  # fmt: skip


def _join_streams(streams: _Streams) -> tuple[Indexes, _Streams]:
    """Rows so ordered that each series has one run within each heap, and those runs."""
    sizes = streams.ends - streams.starts
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    source = np.arange(offsets[-1]) + np.repeat(streams.starts - offsets[:-1], sizes)
    heap = np.repeat(np.arange(len(streams.bounds) - 1), np.diff(streams.bounds))
    new = np.ones(len(sizes), bool)
    new[1:] = (heap[1:] != heap[:-1]) | (streams.ranks[1:] != streams.ranks[:-1])
    heads = np.flatnonzero(new)
    starts = offsets[heads]
    bounds = np.searchsorted(heads, streams.bounds)
    joined = _Streams(
        starts, np.append(starts[1:], offsets[-1]), bounds, streams.groups, streams.shards, False, streams.ranks[heads]
    )  # fmt: skip
    return source, joined


def _tie_columns(scanned: Scan, rows: Sequence[Rows], refs: Sequence[Ref]) -> Indexes:
    """What decides between equal times: strings and tags that stand first among the columns sorted by name."""
    columns: list[Indexes] = []
    seen: set[tuple[str, RefKind]] = set()
    for ref in sorted(refs, key=lambda ref: ref.name):
        if ref.type is not FieldType.STRING or ref.kind is RefKind.UNKNOWN:
            break
        if (ref.name, ref.kind) in seen:
            continue
        seen.add((ref.name, ref.kind))
        table = scanned.table
        if ref.kind is RefKind.TAG and ref.name in table.codes:
            of_series = table.word_ranks(ref.name)[table.codes[ref.name]]
            columns.append(np.concatenate([of_series[each.row_series()] for each in rows]))
            continue
        vectors = [column(each, table, ref) for each in rows]
        ranks = word_ranks(np.concatenate([vector.values for vector in vectors]))[0]
        columns.append(np.where(np.concatenate([vector.mask for vector in vectors]), ranks, -1))
    return np.array(columns, np.int64) if columns else NO_TIES


def _merge_shards(query: Query, order: RowOrder, groups: Indexes, streams: _Streams) -> tuple[RowOrder, Indexes]:
    """Shards of one policy follow each other; those of two policies of one measurement are merged by one more heap."""
    sizes = np.add.reduceat(streams.ends - streams.starts, streams.bounds[:-1])
    sizes = np.minimum(sizes, most_rows(query))
    ends = np.cumsum(sizes)
    starts = ends - sizes
    first, last = order.times[starts], order.times[ends - 1]
    same = streams.groups[1:] == streams.groups[:-1]
    overlap = last[:-1] < first[1:] if query.descending else last[:-1] > first[1:]
    touches = last[:-1] == first[1:]
    if not (same & (overlap | touches)).any():
        return order, groups
    new = np.append(True, ~same)
    bounds = np.append(np.flatnonzero(new), len(starts))
    # The rows already run in the order of the answer, so backward times ascend when negated.
    forward = -order.times if query.descending else order.times
    merged = merge_streams(forward, starts, ends, bounds, NO_TIES, False, most_rows(query))
    return RowOrder(order.refs.take(merged), order.times[merged]), groups[merged]
