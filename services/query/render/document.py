"""The pieces in which a statement's answer is printed: at most so many rows each · pure but for waiting.

A *document* is what one chunk of a chunked answer shows. Source: spec/influxql.md, 1.2.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace

from common.segment import StringArray
from services.query.result import ResultColumn, ResultSeries

# Rows are turned into Python objects so many cells at a time.
PORTION_CELLS = 100_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one series.

    Attributes:
        parts: the rows, one after the other; at least one part, perhaps without rows.
        starts: these are the first rows of the series.
        ends: these are its last.
        cut: the series had more rows, which are left out.
    """

    parts: tuple[ResultSeries, ...]
    starts: bool
    ends: bool
    cut: bool = False

    @property
    def head(self) -> ResultSeries:
        """Any part: name, tags and columns are those of the series."""
        return self.parts[0]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True, slots=True)
class Document:
    """Pieces that are printed together; ``more`` = the same statement has more."""

    pieces: tuple[Piece, ...]
    more: bool

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


class RowCap:
    """Leaves out what goes beyond a number of rows, over all statements of a request; 0 = nothing."""

    def __init__(self, rows: int) -> None:
        self._capped = rows > 0
        self._left = rows

    @property
    def full(self) -> bool:
        return self._capped and self._left <= 0

    def cut(self, document: Document) -> Document:
        """*document* as far as there is room; a series that loses rows by it is marked."""
        if not self._capped:
            return document
        pieces = []
        for piece in document.pieces:
            if self._left <= 0:
                break
            if piece.rows > self._left or (piece.rows == self._left and not piece.ends):
                piece = replace(piece, parts=tuple(_first_rows(piece.parts, self._left)), ends=True, cut=True)
            self._left -= piece.rows
            pieces.append(piece)
        return Document(tuple(pieces), more=False if self.full else document.more)


def _first_rows(parts: Iterable[ResultSeries], rows: int) -> Iterator[ResultSeries]:
    for part in parts:
        if rows > 0:
            yield slice_rows(part, 0, rows)
            rows -= part.rows


def slice_rows(series: ResultSeries, start: int, stop: int) -> ResultSeries:
    """Rows ``start:stop`` of *series*, sharing its arrays."""
    if start == 0 and stop >= series.rows:
        return series
    return replace(series, columns=tuple(_slice_column(column, start, stop) for column in series.columns))


def _slice_column(column: ResultColumn, start: int, stop: int) -> ResultColumn:
    values = column.values
    sliced = StringArray(values.offsets[start : stop + 1], values.data) if isinstance(values, StringArray) else (
        values[start:stop]
    )  # fmt: skip
    return replace(column, values=sliced, valid=None if column.valid is None else column.valid[start:stop])


def portions(series: ResultSeries) -> Iterator[ResultSeries]:
    """*series* in portions of a bounded number of cells: each becomes Python objects while it is printed."""
    step = max(1, PORTION_CELLS // max(1, len(series.columns)))
    for start in range(0, series.rows, step):
        yield slice_rows(series, start, start + step)


async def pieces_of(
    series: AsyncIterator[ResultSeries], chunk_rows: int, max_cells: int | None = None
) -> AsyncIterator[Piece]:
    """Cut the series of a statement into pieces of *chunk_rows* rows; the last of a series may have fewer.

    Args:
        max_cells: series with so many columns that a piece had more cells than this get shorter pieces.
    """
    parts: list[ResultSeries] = []
    count = 0
    starts = True
    async for item in series:
        max_rows = chunk_rows
        if max_cells is not None:
            max_rows = min(chunk_rows, max(1, max_cells // max(1, len(item.columns))))
        at = 0
        while True:
            if count == max_rows and at < item.rows:
                yield Piece(tuple(parts), starts, False)
                parts, count, starts = [], 0, False
            stop = min(item.rows, at + max_rows - count)
            if stop > at or not parts:
                parts.append(slice_rows(item, at, stop))
            count += stop - at
            at = stop
            if at >= item.rows:
                break
        if not item.continues:
            yield Piece(tuple(parts), starts, True)
            parts, count, starts = [], 0, True
    if parts:
        yield Piece(tuple(parts), starts, True)


async def documents_of(
    series: AsyncIterator[ResultSeries], max_rows: int, *, whole: bool = False, max_cells: int | None = None
) -> AsyncIterator[Document]:
    """The pieces of a statement, one a document; with *whole* all in one. *max_cells*: see ``pieces_of``."""
    if whole:
        pieces = tuple([piece async for piece in pieces_of(series, 1 << 62)])
        if pieces:
            yield Document(pieces, more=False)
        return
    held: Piece | None = None
    async for piece in pieces_of(series, max_rows, max_cells):
        if held is not None:
            yield Document((held,), more=True)
        held = piece
    if held is not None:
        yield Document((held,), more=False)
