"""Results → MessagePack · pure.

    body    = {"results": [result, …]}
    result  = {"error": text} | {"statement_id": n, "series": [series, …] [, "partial": true]}
    series  = {["name",] ["tags",] "columns", "values" [, "partial": true]}

Lists say their length first, so an answer that is not chunked is kept until its statement has ended, up to a bound.
Source: spec/http-query-v1.md, 2.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain, repeat

from common.errors import Unprocessable
from services.query.render.document import Document, Piece, portions
from services.query.render.renderer import MSGPACK, Style
from services.query.render.result import ResultSeries
from services.query.render.values import msgpack_values, pack_text

MAX_KEPT_BYTES = 64 << 20
_TRUE = b"\xc3"


def _array(size: int) -> bytes:
    if size < 16:
        return bytes((0x90 | size,))
    return b"\xdc" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xdd" + size.to_bytes(4, "big")


def _map(size: int) -> bytes:
    if size < 16:
        return bytes((0x80 | size,))
    return b"\xde" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xdf" + size.to_bytes(4, "big")


def _rows(pieces: Sequence[Piece], epoch_ns: int | None) -> list[bytes]:
    """The rows of each of *pieces*, one after the other."""
    parts = [part for piece in pieces for part in piece.parts]
    packed: list[list[bytes]] = [[] for _ in parts]
    for portion in portions(parts):
        columns = [
            msgpack_values(column, epoch_ns if index == 0 else None) for index, column in enumerate(portion.columns)
        ]
        count = len(columns[0]) if columns else 0
        values = list(chain.from_iterable(zip(repeat(_array(len(columns)), count), *columns, strict=True)))
        width = len(columns) + 1
        for index, start, stop in portion.shares:
            packed[index].append(b"".join(values[start * width : stop * width]))
    following = iter(packed)
    return [b"".join(share for _ in piece.parts for share in next(following)) for piece in pieces]


def _series(head: ResultSeries, count: int, rows: bytes, *, partial: bool) -> bytes:
    printed = []
    if head.name is not None:
        printed.append(pack_text("name") + pack_text(head.name))
    if head.tags:
        tags = b"".join(pack_text(key) + pack_text(value) for key, value in head.tags)
        printed.append(pack_text("tags") + _map(len(head.tags)) + tags)
    columns = b"".join(pack_text(column.name) for column in head.columns)
    printed.append(pack_text("columns") + _array(len(head.columns)) + columns)
    printed.append(pack_text("values") + _array(count) + rows)
    if partial:
        printed.append(pack_text("partial") + _TRUE)
    return _map(len(printed)) + b"".join(printed)


def _result(statement_id: int, series: list[bytes], *, partial: bool) -> bytes:
    packed = pack_text("statement_id") + _int(statement_id) + pack_text("series") + _array(len(series))
    tail = pack_text("partial") + _TRUE if partial else b""
    return _map(3 if partial else 2) + packed + b"".join(series) + tail


def _int(value: int) -> bytes:
    return bytes((value,)) if value < 128 else b"\xd1" + struct.pack(">h", value)


def _body(results: list[bytes]) -> bytes:
    return _map(1) + pack_text("results") + _array(len(results)) + b"".join(results)


class MsgpackWhole:
    """All results in one map."""

    content_type = MSGPACK

    def __init__(self, style: Style) -> None:
        self._epoch_ns = style.epoch_ns
        self._results: tuple[bytes, ...] = ()
        self._id = 0
        self._kept = 0
        self._series: list[bytes] = []
        self._rows: list[bytes] = []
        self._count = 0

    def begin(self, statement_id: int) -> bytes:
        self._id, self._series, self._rows, self._count = statement_id, [], [], 0
        return b""

    def document(self, document: Document) -> bytes:
        for piece, rows in zip(document.pieces, _rows(document.pieces, self._epoch_ns), strict=True):
            self._rows.append(rows)
            self._count += piece.rows
            self._kept += len(rows)
            if self._kept > MAX_KEPT_BYTES:
                raise Unprocessable(f"an answer of over {MAX_KEPT_BYTES} bytes in MessagePack has to be chunked")
            if piece.ends:
                self._series.append(_series(piece.head, self._count, b"".join(self._rows), partial=piece.cut))
                self._rows, self._count = [], 0
        return b""

    def end(self) -> bytes:
        self._results = (*self._results, _result(self._id, self._series, partial=False))
        self._series = []
        return b""

    def fail(self, text: str) -> bytes:
        self._results = (*self._results, _map(1) + pack_text("error") + pack_text(text))
        self._series, self._rows = [], []
        return b""

    def finish(self) -> bytes:
        return _body(list(self._results))


class MsgpackChunks:
    """One map after the other, one for each document."""

    content_type = MSGPACK

    def __init__(self, style: Style) -> None:
        self._epoch_ns = style.epoch_ns
        self._id = 0
        self._silent = True

    def begin(self, statement_id: int) -> bytes:
        self._id, self._silent = statement_id, True
        return b""

    def document(self, document: Document) -> bytes:
        self._silent = False
        series = [
            _series(piece.head, piece.rows, rows, partial=not piece.ends)
            for piece, rows in zip(document.pieces, _rows(document.pieces, self._epoch_ns), strict=True)
        ]
        return _body([_result(self._id, series, partial=document.more)])

    def end(self) -> bytes:
        return _body([_result(self._id, [], partial=False)]) if self._silent else b""

    def fail(self, text: str) -> bytes:
        return _body([_map(1) + pack_text("error") + pack_text(text)])

    def finish(self) -> bytes:
        return b""


def msgpack_renderer(style: Style) -> MsgpackWhole | MsgpackChunks:
    return MsgpackChunks(style) if style.chunked else MsgpackWhole(style)
