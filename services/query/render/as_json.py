"""Results → JSON, one document or one a chunk, indented where it is wanted · pure.

    body    = "{}" | {"results":[result, …]}
    result  = {"statement_id":n [,"series":[series, …]] [,"partial":true] [,"error":text]}
    series  = {["name":n,] ["tags":{…},] "columns":[…] [,"values":[row, …]] [,"partial":true]}

Text is HTML-safe as Go writes it. Source: spec/http-query-v1.md, 2; spec/influxql.md, 1.
"""

from __future__ import annotations

import re
from copy import copy
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from services.query.render.document import Document, Piece, portions
from services.query.render.renderer import JSON, Style
from services.query.render.values import clean, json_values
from services.query.result import ResultSeries


def dump(value: Any) -> bytes:
    """*value* as JSON that is safe inside HTML."""
    return _html_safe(orjson.dumps(value))


def _html_safe(raw: bytes) -> bytes:
    # These bytes stand in strings only. Each test is a search for one byte: next to nothing where there is none.
    for mark, escaped in _UNSAFE:
        if mark in raw:
            raw = raw.replace(mark, escaped)
    return raw


_UNSAFE = (
    (b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"),
)  # fmt: skip


def _series_head(series: ResultSeries) -> bytes:
    """Everything before the values, without the closing brace."""
    head: dict[str, Any] = {}
    if series.name is not None:
        head["name"] = clean(series.name)
    if series.tags:
        head["tags"] = {clean(key): clean(value) for key, value in series.tags}
    head["columns"] = [clean(column.name) for column in series.columns]
    return dump(head)[:-1]


def _rows(series: ResultSeries, epoch_ns: int | None) -> bytes:
    """The rows of one portion, joined by commas."""
    zone = ZoneInfo(series.utc_offset_zone) if series.utc_offset_zone else None
    columns = [
        json_values(column, epoch_ns if index == 0 else None, zone) for index, column in enumerate(series.columns)
    ]
    return dump(list(zip(*columns, strict=True)))[1:-1]


def _piece_rows(piece: Piece, epoch_ns: int | None) -> bytes:
    return b",".join(_rows(portion, epoch_ns) for part in piece.parts for portion in portions(part))


class JsonStream:
    """All results in one JSON object, printed as they come."""

    content_type = JSON

    def __init__(self, style: Style) -> None:
        self._epoch_ns = style.epoch_ns
        self._any = False
        self._series_open = False  # the list of series
        self._in_series = False  # one series
        self._values_open = False

    def begin(self, statement_id: int) -> bytes:
        lead = b"," if self._any else b'{"results":['
        self._any = True
        self._series_open = self._in_series = self._values_open = False
        return b'%s{"statement_id":%d' % (lead, statement_id)

    def document(self, document: Document) -> bytes:
        printed = bytearray()
        for piece in document.pieces:
            if piece.starts:
                printed += b"," if self._series_open else b',"series":['
                printed += _series_head(piece.head)
                self._series_open = self._in_series = True
            rows = _piece_rows(piece, self._epoch_ns)
            if rows:
                printed += b"," if self._values_open else b',"values":['
                printed += rows
                self._values_open = True
            if piece.ends:
                printed += self._close_series(piece.cut)
        return bytes(printed)

    def _close_series(self, cut: bool = False) -> bytes:
        ending = b',"partial":true}' if cut else b"}"
        closing = (b"]" if self._values_open else b"") + (ending if self._in_series else b"")
        self._in_series = self._values_open = False
        return closing

    def end(self) -> bytes:
        closing = self._close_series() + (b"]" if self._series_open else b"")
        self._series_open = False
        return closing + b"}"

    def fail(self, text: str) -> bytes:
        return self.end()[:-1] + b',"error":' + dump(clean(text)) + b"}"

    def finish(self) -> bytes:
        return b"]}\n" if self._any else b"{}\n"


class JsonChunks:
    """A JSON object a line for each document."""

    content_type = JSON

    def __init__(self, style: Style) -> None:
        self._epoch_ns = style.epoch_ns
        self._id = 0
        self._silent = True

    def begin(self, statement_id: int) -> bytes:
        self._id, self._silent = statement_id, True
        return b""

    def document(self, document: Document) -> bytes:
        self._silent = False
        printed = []
        for piece in document.pieces:
            rows = _piece_rows(piece, self._epoch_ns)
            values = b',"values":[' + rows + b"]" if rows else b""
            partial = b"" if piece.ends else b',"partial":true'
            printed.append(_series_head(piece.head) + values + partial + b"}")
        more = b',"partial":true' if document.more else b""
        return self._line(b',"series":[' + b",".join(printed) + b"]" + more)

    def end(self) -> bytes:
        return self._line(b"") if self._silent else b""

    def fail(self, text: str) -> bytes:
        return self._line(b',"error":' + dump(clean(text)))

    def finish(self) -> bytes:
        return b""

    def _line(self, rest: bytes) -> bytes:
        return b'{"results":[{"statement_id":%d%s}]}\n' % (self._id, rest)


class Indented:
    """The output of another renderer, indented by four blanks as Go's ``MarshalIndent`` does it."""

    content_type = JSON

    def __init__(self, inner: JsonStream | JsonChunks) -> None:
        self._inner = inner
        self._indenter = Indenter()

    def __copy__(self) -> Indented:
        copied = Indented(copy(self._inner))
        copied._indenter = copy(self._indenter)
        return copied

    def begin(self, statement_id: int) -> bytes:
        return self._indenter.feed(self._inner.begin(statement_id))

    def document(self, document: Document) -> bytes:
        return self._indenter.feed(self._inner.document(document))

    def end(self) -> bytes:
        return self._indenter.feed(self._inner.end())

    def fail(self, text: str) -> bytes:
        return self._indenter.feed(self._inner.fail(text))

    def finish(self) -> bytes:
        return self._indenter.feed(self._inner.finish())


_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]|[^"{}\[\],:\n]+')


class Indenter:
    """Compact JSON, cut anywhere between tokens → the same with line ends and blanks."""

    def __init__(self) -> None:
        self._depth = 0
        self._opened = False  # the last token opened an object or list

    def feed(self, compact: bytes) -> bytes:
        printed: list[bytes] = []
        for token in _JSON_TOKEN.findall(compact):
            if token in b"}]":
                self._depth -= 1
                printed += (b"" if self._opened else self._line(), token)
                self._opened = False
                continue
            if self._opened:
                printed.append(self._line())
                self._opened = False
            printed.append(token)
            if token in b"{[":
                self._depth += 1
                self._opened = True
            elif token == b",":
                printed.append(self._line())
            elif token == b":":
                printed.append(b" ")
        return b"".join(printed)

    def _line(self) -> bytes:
        return b"\n" + b"    " * self._depth


def json_renderer(style: Style) -> JsonStream | JsonChunks | Indented:
    renderer = JsonChunks(style) if style.chunked else JsonStream(style)
    return Indented(renderer) if style.pretty else renderer
