"""Results → CSV · pure.

A header line ``name,tags,<columns>`` before the first row of a statement and where the columns change, after an empty
line if anything stands before it. Errors print nothing. Source: spec/http-query-v1.md, 2; Go's ``encoding/csv``.
"""

from __future__ import annotations

from services.query.render.document import Document, portions
from services.query.render.renderer import Style
from services.query.render.result import ResultSeries
from services.query.render.values import csv_cells, quote_csv


class CsvRenderer:
    """The same bytes chunked or not: a chunk has no mark of its own."""

    def __init__(self, style: Style, content_type: str) -> None:
        self.content_type = content_type
        self._epoch_ns = style.epoch_ns
        self._any = False
        self._columns: tuple[str, ...] | None = None

    def begin(self, statement_id: int) -> bytes:
        self._columns = None
        return b""

    def document(self, document: Document) -> bytes:
        parts = [part for piece in document.pieces for part in piece.parts]
        printed: list[str] = []
        for portion in portions(parts):
            cells = [
                csv_cells(column, self._epoch_ns if index == 0 else None)
                for index, column in enumerate(portion.columns)
            ]
            rows = list(map(",".join, zip(*cells, strict=True)))
            for index, start, stop in portion.shares:
                printed.append(self._header(parts[index]))
                lead = _lead(parts[index])
                printed += [f"{lead}{row}\n" for row in rows[start:stop]]
        return "".join(printed).encode("utf-8", "surrogateescape")

    def end(self) -> bytes:
        return b""

    def fail(self, text: str) -> bytes:
        return b""

    def finish(self) -> bytes:
        return b""

    def _header(self, series: ResultSeries) -> str:
        """A line of the names of the columns, where they are others than in the line before."""
        columns = tuple(column.name for column in series.columns)
        if columns == self._columns:
            return ""
        empty = "\n" if self._any else ""
        self._columns, self._any = columns, True
        return empty + ",".join(("name", "tags", *map(quote_csv, columns))) + "\n"


def _lead(series: ResultSeries) -> str:
    return f"{quote_csv(series.name or '')},{quote_csv(_format_tags(series.tags))},"


_ESCAPED = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})


def _format_tags(tags: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f"{key.translate(_ESCAPED)}={value.translate(_ESCAPED)}" for key, value in tags if value)
