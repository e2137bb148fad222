"""The pieces in which a statement's answer is printed: at most so many rows each · pure.

A *document* is what one chunk of a chunked answer shows. Source: spec/influxql.md, 1.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


class Cutter:
    """Cuts the series of one statement into documents, as they come.

    Args:
        max_rows: rows of a series in one document, and of a document of several series.
        max_cells: series with so many columns that a piece had more cells than this get shorter pieces; None = any.
        together: as many pieces a document as *max_rows* and *max_cells* allow; else one.
    """

    def __init__(self, max_rows: int, *, max_cells: int | None = None, together: bool = False) -> None:
        self._max_rows = max_rows
        self._max_cells = max_cells
        self._together = together
        # Of the series under way: rows that make no piece yet, and whether they are its first.
        self._parts: list[ResultSeries] = []
        self._part_rows = 0
        self._starts = True
        # Pieces that make no document yet.
        self._held: list[Piece] = []
        self._rows = self._cells = 0

    @classmethod
    def whole(cls) -> Cutter:
        """Puts everything into one document."""
        return cls(1 << 62, together=True)

    def take(self, told: Told) -> Iterator[Document]:
        """The documents that are whole once *told* has come."""
        for series in (told,) if isinstance(told, ResultSeries) else told:
            max_rows, rows, at = self._most_rows(series), series.rows, 0
            while True:
                if self._part_rows == max_rows and at < rows:
                    yield from self._add(self._cut(ends=False))
                stop = min(rows, at + max_rows - self._part_rows)
                if stop > at or not self._parts:
                    self._parts.append(series if stop - at == rows else series.slice(at, stop))
                self._part_rows += stop - at
                at = stop
                if at >= rows:
                    break
            if not series.continues:
                yield from self._add(self._cut(ends=True))

    def finish(self) -> Iterator[Document]:
        """The rest; nothing comes after it."""
        if self._parts:
            yield from self._add(self._cut(ends=True))
        if self._held:
            yield Document(tuple(self._held), more=False)
            self._held.clear()

    def _most_rows(self, series: ResultSeries) -> int:
        if self._max_cells is None:
            return self._max_rows
        return min(self._max_rows, max(1, self._max_cells // max(1, len(series.columns))))

    def _cut(self, *, ends: bool) -> Piece:
        """The rows that are kept back, as a piece."""
        piece = Piece(tuple(self._parts), self._starts, ends)
        self._parts, self._part_rows, self._starts = [], 0, ends
        return piece

    def _add(self, piece: Piece) -> Iterator[Document]:
        rows, cells = piece.rows, piece.cells
        self._rows += rows
        self._cells += cells
        if self._held and not self._has_room():
            yield Document(tuple(self._held), more=True)
            self._held.clear()
            self._rows, self._cells = rows, cells
        self._held.append(piece)

    def _has_room(self) -> bool:
        in_rows = self._together and self._rows <= self._max_rows
        return in_rows and (self._max_cells is None or self._cells <= self._max_cells)
