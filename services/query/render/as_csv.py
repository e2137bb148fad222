"""Results → CSV · pure.

A header line ``name,tags,<columns>`` before the first row of a statement and where the columns change, after an empty
line if anything stands before it. Errors print nothing. Source: spec/http-query-v1.md, 2; Go's ``encoding/csv``.
"""

from __future__ import annotations

from services.query.render.document import Document, portions
from services.query.render.renderer import Style
from services.query.render.values import csv_cells, quote_csv
from services.query.result import ResultSeries


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
        printed = "".join(
            self._portion(portion) for piece in document.pieces for part in piece.parts for portion in portions(part)
        )
        return printed.encode("utf-8", "surrogateescape")

    def end(self) -> bytes:
        return b""

    def fail(self, text: str) -> bytes:
        return b""

    def finish(self) -> bytes:
        return b""

    def _portion(self, series: ResultSeries) -> str:
        columns = tuple(column.name for column in series.columns)
        header = ""
        if columns != self._columns:
            header = ("\n" if self._any else "") + ",".join(("name", "tags", *map(quote_csv, columns))) + "\n"
            self._columns, self._any = columns, True
        lead = f"{quote_csv(series.name or '')},{quote_csv(_format_tags(series.tags))},"
        cells = [
            csv_cells(column, self._epoch_ns if index == 0 else None) for index, column in enumerate(series.columns)
        ]
        return header + "".join([f"{lead}{','.join(row)}\n" for row in zip(*cells, strict=True)])


_ESCAPED = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})


def _format_tags(tags: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f"{key.translate(_ESCAPED)}={value.translate(_ESCAPED)}" for key, value in tags if value)
