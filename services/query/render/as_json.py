"""Results → JSON, one document or one a chunk, indented where it is wanted · pure.

    body    = "{}" | {"results":[result, …]}
    result  = {"statement_id":n [,"series":[series, …]] [,"partial":true] [,"error":text]}
    series  = {["name":n,] ["tags":{…},] "columns":[…] [,"values":[row, …]] [,"partial":true]}

Text is HTML-safe as Go writes it. Source: spec/http-query-v1.md, 2; spec/influxql.md, 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from services.query.render.document import Document, Piece, portions
from services.query.render.renderer import JSON, Style
from services.query.render.result import Kind, ResultSeries
from services.query.render.values import clean, json_values


def dump(value: Any) -> bytes:
    """*value* as JSON that is safe inside HTML."""
    return _html_safe(orjson.dumps(value))


def _html_safe(raw: bytes) -> bytes:
    # These bytes stand in strings only. Each test is a search for one byte: next to nothing where there is none.
    for first, mark, escaped in _UNSAFE:
        if first in raw:
            raw = raw.replace(mark, escaped)
    return raw


# A byte that is there when the mark is, the mark, and what stands in its place.
_UNSAFE = (
    (b"<", b"<", b"\\u003c"), (b">", b">", b"\\u003e"), (b"&", b"&", b"\\u0026"),
    (b"\xe2", b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2", b"\xe2\x80\xa9", b"\\u2029"),
)  # fmt: skip
TEXTUAL = frozenset((Kind.STRING, Kind.MIXED))


def _series_head(series: ResultSeries) -> bytes:
    """Everything before the values, without the closing brace."""
    head: dict[str, Any] = {}
    if series.name is not None:
        head["name"] = clean(series.name)
    if series.tags:
        head["tags"] = {clean(key): clean(value) for key, value in series.tags}
    head["columns"] = [clean(column.name) for column in series.columns]
    return dump(head)[:-1]


def _rows(pieces: Sequence[Piece], epoch_ns: int | None) -> list[bytes]:
    """The rows of each of *pieces*, joined by commas; those that are kept are not printed again."""
    kept = [None if piece.printed is None else piece.printed.find(piece.head.bounds) for piece in pieces]
    fresh = iter(_print_rows([piece for piece, rows in zip(pieces, kept, strict=True) if rows is None], epoch_ns))
    found: list[bytes] = []
    for piece, known in zip(pieces, kept, strict=True):
        rows = next(fresh) if known is None else known
        if known is None and piece.printed is not None:
            piece.printed.keep(piece.head.bounds, rows)
        found.append(rows)
    return found


def _print_rows(pieces: Sequence[Piece], epoch_ns: int | None) -> list[bytes]:
    parts = [part for piece in pieces for part in piece.parts]
    printed: list[list[bytes]] = [[] for _ in parts]
    for portion in portions(parts):
        zone = ZoneInfo(portion.zone) if portion.zone else None
        columns = [
            json_values(column, epoch_ns if index == 0 else None, zone) for index, column in enumerate(portion.columns)
        ]
        rows = list(zip(*columns, strict=True))
        # Only names, tags and strings can hold what is not safe in HTML.
        dumped = dump if any(column.kind in TEXTUAL for column in portion.columns) else orjson.dumps
        for index, start, stop in portion.shares:
            whole = stop - start == len(rows)
            printed[index].append(dumped(rows if whole else rows[start:stop])[1:-1])
    following = iter(printed)
    return [b",".join(share for _ in piece.parts for share in next(following)) for piece in pieces]


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
        for piece, rows in zip(document.pieces, _rows(document.pieces, self._epoch_ns), strict=True):
            if piece.starts:
                printed += b"," if self._series_open else b',"series":['
                printed += _series_head(piece.head)
                self._series_open = self._in_series = True
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
        for piece, rows in zip(document.pieces, _rows(document.pieces, self._epoch_ns), strict=True):
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
