"""The pieces in which a statement's answer is printed: at most so many rows each · pure but for waiting.

A *document* is what one chunk of a chunked answer shows. Source: spec/influxql.md, 1.2.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from services.query.render.result import PrintedRows, ResultColumn, ResultSeries, Told, slice_column

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
    def printed(self) -> PrintedRows | None:
        """Where its rows, those of ``head.bounds``, are kept once they are printed."""
        return self.head.printed if len(self.parts) == 1 else None

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def cells(self) -> int:
        return self.rows * len(self.head.columns)


@dataclass(frozen=True, slots=True)
class Document:
    """Pieces that are printed together; ``more`` = the same statement has more."""

    pieces: tuple[Piece, ...]
    more: bool

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)

    @property
    def cells(self) -> int:
        return sum(piece.cells for piece in self.pieces)


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
            yield part.slice(0, rows)
            rows -= part.rows


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows that become Python objects together.

    Attributes:
        columns: with these rows alone.
        shares: which part they belong to and its rows among these, in order; they cover all rows.
    """

    columns: tuple[ResultColumn, ...]
    zone: str | None
    shares: tuple[tuple[int, int, int], ...]  # index of the part, start, stop


def portions(parts: Sequence[ResultSeries]) -> Iterator[Portion]:
    """The rows of *parts* in portions of a bounded number of cells; parts that share columns go together."""
    first = 0
    while first < len(parts):
        last = first + 1
        while last < len(parts) and _adjoin(parts[last - 1], parts[last]):
            last += 1
        yield from _portions(parts, first, last)
        first = last


def _adjoin(one: ResultSeries, other: ResultSeries) -> bool:
    same = one.columns is other.columns and one.utc_offset_zone == other.utc_offset_zone
    return same and one.bounds[1] == other.bounds[0]


def _portions(parts: Sequence[ResultSeries], first: int, last: int) -> Iterator[Portion]:
    """Of ``parts[first:last]``, which stand one after the other in the same columns."""
    columns, zone = parts[first].columns, parts[first].utc_offset_zone
    step = max(1, PORTION_CELLS // max(1, len(columns)))
    stop = parts[last - 1].bounds[1]
    part = first
    for start in range(parts[first].bounds[0], stop, step):
        end = min(start + step, stop)
        shares = []
        while part < last:
            begins, ends = parts[part].bounds
            if begins < ends and begins < end:
                shares.append((part, max(begins, start) - start, min(ends, end) - start))
            if ends > end or begins >= end:
                break
            part += 1
        yield Portion(tuple(slice_column(column, start, end) for column in columns), zone, tuple(shares))


async def pieces_of(series: AsyncIterator[Told], chunk_rows: int, max_cells: int | None = None) -> AsyncIterator[Piece]:
    """Cut the series of a statement into pieces of *chunk_rows* rows; the last of a series may have fewer.

    Args:
        max_cells: series with so many columns that a piece had more cells than this get shorter pieces.
    """
    parts: list[ResultSeries] = []
    count = 0
    starts = True
    async for told in series:
        for item in (told,) if isinstance(told, ResultSeries) else told:
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
                    parts.append(item if stop - at == item.rows else item.slice(at, stop))
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
    series: AsyncIterator[Told],
    max_rows: int,
    *,
    whole: bool = False,
    max_cells: int | None = None,
    together: bool = False,
) -> AsyncIterator[Document]:
    """The pieces of a statement in documents.

    Args:
        max_cells: see ``pieces_of``.
        whole: all pieces in one document.
        together: as many pieces a document as *max_rows* and *max_cells* allow; else one.
    """
    if whole:
        pieces = tuple([piece async for piece in pieces_of(series, 1 << 62)])
        if pieces:
            yield Document(pieces, more=False)
        return
    held: list[Piece] = []
    rows = cells = 0
    async for piece in pieces_of(series, max_rows, max_cells):
        rows += piece.rows
        cells += piece.cells
        if held and not (together and rows <= max_rows and (max_cells is None or cells <= max_cells)):
            yield Document(tuple(held), more=True)
            held.clear()
            rows, cells = piece.rows, piece.cells
        held.append(piece)
    if held:
        yield Document(tuple(held), more=False)
