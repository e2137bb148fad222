"""Which rows of a source a query works on: series by tags, rows by time, rows by the rest of the condition · pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from common.model import FieldType
from services.query.engine.expressions import Binary, Constant, Expression, Leaf, Pattern, holds, match_words
from services.query.engine.frame import Grouping, Piece, Rows, SeriesTable, choose_rows
from services.query.engine.spec import Filter, Query, Ref, RefKind
from services.query.engine.summary import Summary
from services.query.engine.vectors import Indexes, Mask, Vector, cast, nulls


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one measurement, or of a subquery.

    Attributes:
        pieces: of which no two hold the same series and time.
        summaries: of each field, what is known of further rows; queries that need more of them don't have any.
    """

    name: str
    table: SeriesTable
    pieces: Sequence[Piece]
    summaries: Mapping[str, Summary] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scan:
    """Chosen rows and how their series are grouped.

    Attributes:
        of_series: group of each series code; groups are numbered in order of their tag values.
        grouping: to read a group's tags from.
    """

    table: SeriesTable
    rows: Sequence[Rows]
    grouping: Grouping

    @property
    def of_series(self) -> Indexes:
        return self.grouping.of_series


def choose_series(source: Source, query: Query) -> Mask | None:
    """Series that the query's conditions on tags and its SLIMIT leave; None = all."""
    table = source.table
    wanted: Mask | None = None
    for condition in query.filters:
        if condition.only_tags:
            mask = _series_mask(table, condition)
            wanted = mask if wanted is None else wanted & mask
    if query.slimit or query.soffset:
        present = np.zeros(table.count, bool)
        for piece in source.pieces:
            present[piece.series] = True
        wanted = present if wanted is None else wanted & present
        wanted = wanted & _limited(table, query, wanted)
    return wanted


def choose_all(source: Source, query: Query, wanted: Mask | None, start_ns: int, stop_ns: int) -> list[Rows]:
    """Rows of the series that *wanted* marks, in ``[start_ns, stop_ns)`` and not past the retention."""
    start_ns = max(start_ns, query.visible_from_ns)
    chosen = (choose_rows(piece, wanted, start_ns, stop_ns) for piece in source.pieces)
    found = [rows for rows in chosen if len(rows)]
    return [_ends(rows, source.table, query) for rows in found] if takes_ends(query) else found


def takes_ends(query: Query) -> bool:
    """Whether LIMIT leaves no more of each series than its first or last rows."""
    return bool(query.limit) and not query.calls and all(condition.only_tags for condition in query.filters)


def _ends(rows: Rows, table: SeriesTable, query: Query) -> Rows:
    """Of each series the rows that may be told: those without any of the values asked for don't count."""
    some: Mask | None = None
    for leaf in query.leaves:
        if isinstance(leaf, Ref) and leaf.kind is RefKind.FIELD:
            valid = column(rows, table, leaf).valid
            if valid is None:
                break
            some = valid if some is None else some | valid
    else:
        if some is not None:
            rows = rows.keep(some)
    return rows.ends(query.limit + query.offset, last=query.descending)


def scan(
    source: Source, query: Query, wanted: Mask | None, start_ns: int, stop_ns: int, chosen: list[Rows] | None = None
) -> Scan:
    """Of the rows that ``choose_all`` gives (or gave: *chosen*) those for which the rest of the condition holds."""
    if chosen is None:
        chosen = choose_all(source, query, wanted, start_ns, stop_ns)
    by_row = [condition for condition in query.filters if not condition.only_tags]
    for condition in by_row:
        kept = []
        for rows in chosen:
            leaves = [_row_vector(rows, source.table, leaf) for leaf in condition.leaves]
            rows = rows.keep(holds(condition.expression, leaves, len(rows)))
            if len(rows):
                kept.append(rows)
        chosen = kept
    return Scan(source.table, chosen, source.table.group(query.keys))


def column(rows: Rows, table: SeriesTable, ref: Ref) -> Vector:
    """Values of *ref* in these rows, as its type; a tag that is missing has no value."""
    if ref.kind is RefKind.TAG and ref.name in table.codes:
        return table.column(ref.name, rows.row_series())
    vector = rows.column(ref.name)
    return nulls(ref.type, len(rows)) if vector is None else cast(vector, ref.type)


def _row_vector(rows: Rows, table: SeriesTable, ref: Ref) -> Vector:
    """As ``column``, for conditions: a tag that is missing is ""."""
    vector = column(rows, table, ref)
    if ref.kind is RefKind.FIELD:
        return vector
    return Vector(FieldType.STRING, vector.values) if vector.type is FieldType.STRING else _empty(len(rows))


def _empty(count: int) -> Vector:
    return Vector(FieldType.STRING, np.full(count, "", dtype=object))


# ---------------------------------------------------------------- conditions on tags


def _series_mask(table: SeriesTable, condition: Filter) -> Mask:
    return _mask(table, condition.expression, condition.leaves)


def _mask(table: SeriesTable, expr: Expression, leaves: Sequence[Ref]) -> Mask:
    """Where *expr* holds, a series each: a tag against a literal is looked at once for each of the tag's words."""
    if isinstance(expr, Binary):
        if expr.op in ("AND", "OR"):
            left, right = _mask(table, expr.left, leaves), _mask(table, expr.right, leaves)
            return left & right if expr.op == "AND" else left | right
        if isinstance(expr.left, Leaf) and leaves[expr.left.index].name in table.codes:
            name = leaves[expr.left.index].name
            if isinstance(expr.right, Pattern):
                pattern = expr.right
                found = table.matching(name, pattern.text, lambda words: match_words(words, pattern))
                return (~found if expr.op == "!~" else found)[table.codes[name]]
            if isinstance(expr.right, Constant) and isinstance(expr.right.value, str) and expr.op in ("=", "!="):
                having = table.having(name, expr.right.value)
                return ~having if expr.op == "!=" else having
    vectors = [Vector(FieldType.STRING, table.values(leaf.name)) for leaf in leaves]
    return holds(expr, vectors, table.count)


# ---------------------------------------------------------------- SLIMIT, SOFFSET


def _limited(table: SeriesTable, query: Query, wanted: Mask) -> Mask:
    """Series of the groups that SLIMIT and SOFFSET leave.

    They count in the order of the text of a group's present keys, joined, then of its values, joined, which is not
    that of the answer (InfluxQL as observed, section 9.6).
    """
    grouping = table.group(query.keys)
    groups = np.unique(grouping.of_series[wanted])
    columns = {key: table.values(key)[grouping.example] for key in query.keys}
    texts = []
    for group in groups.tolist():
        present = [(key, values[group]) for key, values in columns.items() if values[group]]
        texts.append(("\x00".join(key for key, _ in present), "\x00".join(value for _, value in present), group))
    stop = query.soffset + query.slimit if query.slimit else None
    kept = [group for *_, group in sorted(texts)[query.soffset : stop]]
    return np.isin(grouping.of_series, np.array(kept, np.int64))
