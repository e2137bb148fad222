"""Columns of a result → what the three formats print: lists of JSON values, of CSV cells, of msgpack bytes · pure.

Whole columns at a time; only what is odd (floats with exponents, bytes that are not UTF-8) goes value by value.
Source: spec/http-query-v1.md, 2; Go's ``encoding/json`` and ``strconv``.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import orjson
from numpy.typing import NDArray

from common.errors import Invalid
from common.segment import StringArray
from common.times import epoch_array, format_rfc3339_array
from services.query.render.result import Kind, ResultColumn

_SURROGATE = re.compile("[\ud800-\udfff]")
# Below this a whole float is exact as an integer.
_EXACT = float(1 << 53)
# Between these orjson prints a float as Go does.
_PLAIN_FROM = 1e-4


def clean(text: str) -> str:
    """*text* with U+FFFD for each byte that is not UTF-8 (a surrogate escape)."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def format_go_float(value: float) -> str:
    """*value* as Go's JSON prints it: shortest digits, exponent below 1e-6 and from 1e21 on."""
    size = abs(value)
    if size and not 1e-6 <= size < 1e21:
        mantissa, _, exponent = repr(value).partition("e")
        power = int(exponent)
        return f"{mantissa.removesuffix('.0')}e{'-' if power < 0 else '+'}{abs(power)}"
    return format_plain_float(value)


def format_plain_float(value: float) -> str:
    """*value* in shortest digits, never with an exponent."""
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


# ---------------------------------------------------------------- strings


def texts(values: Any) -> list[str]:
    """The strings of a column with surrogate escapes for bytes that are not UTF-8."""
    if not isinstance(values, StringArray):
        return list(values)
    if len(values) == 0:
        return []
    offsets = values.offsets
    base = int(offsets[0])
    raw = values.data[base : int(offsets[-1])].tobytes()
    bounds = (offsets - base).tolist()
    if raw.isascii():
        text = raw.decode("ascii")
        return [text[start:stop] for start, stop in pairwise(bounds)]
    return [raw[start:stop].decode("utf-8", "surrogateescape") for start, stop in pairwise(bounds)]


def _nulled(values: list[Any], valid: NDArray[np.bool_] | None, null: Any = None) -> list[Any]:
    if valid is not None:
        for row in np.flatnonzero(~valid).tolist():
            values[row] = null
    return values


# ---------------------------------------------------------------- JSON


def json_values(column: ResultColumn, epoch_ns: int | None, zone: ZoneInfo | None) -> list[Any]:
    """A column as values that orjson prints the way InfluxDB does.

    Args:
        epoch_ns: unit of times as integers, None = RFC 3339.

    Raises:
        Invalid: ``json: unsupported value: +Inf``.
    """
    kind = column.kind
    values: Any = column.values
    if kind is Kind.TIME:
        times = np.asarray(values, dtype=np.int64)
        printed: list[Any] = (
            format_rfc3339_array(times, zone) if epoch_ns is None else epoch_array(times, epoch_ns).tolist()
        )
        return _nulled(printed, column.valid)
    if kind is Kind.FLOAT:
        return _json_floats(np.asarray(values, dtype=np.float64), column.valid)
    if kind is Kind.STRING:
        strings = texts(values)
        return _nulled([clean(text) for text in strings] if _any_odd(strings) else strings, column.valid)
    if kind is Kind.MIXED:
        return [_json_value(value) for value in values]
    return _nulled(np.asarray(values).tolist(), column.valid)


def _any_odd(strings: list[str]) -> bool:
    return not all(map(str.isascii, strings))


def _json_floats(values: NDArray[np.float64], valid: NDArray[np.bool_] | None) -> list[Any]:
    sizes = np.abs(values)
    shown = np.isfinite(values) if valid is None else np.isfinite(values) & valid
    infinite = np.isinf(values) if valid is None else np.isinf(values) & valid
    if infinite.any():
        first = values[np.flatnonzero(infinite)[0]]
        raise Invalid(f"json: unsupported value: {'+' if first > 0 else '-'}Inf")
    negative_zero = (values == 0) & np.signbit(values)
    whole = shown & (values == np.trunc(values)) & (sizes < _EXACT) & ~negative_zero
    if whole.all():
        return list(values.astype(np.int64).tolist())
    printed: list[Any] = values.tolist()
    for row in np.flatnonzero(whole).tolist():
        printed[row] = int(printed[row])
    odd = shown & ~whole & ((sizes >= _EXACT) | (sizes < _PLAIN_FROM))
    for row in np.flatnonzero(odd).tolist():
        printed[row] = orjson.Fragment(format_go_float(printed[row]).encode())
    return _nulled(printed, shown)


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return _json_floats(np.array([value]), None)[0]
    return clean(value) if isinstance(value, str) else value


# ---------------------------------------------------------------- CSV


def csv_cells(column: ResultColumn, epoch_ns: int | None) -> list[str]:
    """A column as cells, null = "", times as integers, strings quoted where they have to be."""
    kind = column.kind
    values: Any = column.values
    if kind is Kind.TIME:
        cells = list(map(str, epoch_array(np.asarray(values, dtype=np.int64), epoch_ns or 1).tolist()))
    elif kind is Kind.STRING:
        cells = [quote_csv(text) for text in texts(values)]
    elif kind is Kind.MIXED:
        return [_csv_value(value) for value in values]
    else:
        cells = [_csv_value(value) for value in np.asarray(values).tolist()]
    return _nulled(cells, column.valid, "")


def _csv_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isinf(value):
            return "+Inf" if value > 0 else "-Inf"
        return "" if math.isnan(value) else format_plain_float(value)
    return quote_csv(value) if isinstance(value, str) else str(value)


def quote_csv(text: str) -> str:
    """*text* as a cell: in quotes where Go's csv writer puts them."""
    if not text:
        return text
    needs = text == r"\." or text[0].isspace() or any(mark in text for mark in ',"\r\n')
    if not needs:
        return text
    escaped = text.replace('"', '""')
    return f'"{escaped}"'


# ---------------------------------------------------------------- msgpack

_NIL = b"\xc0"


def msgpack_values(column: ResultColumn, epoch_ns: int | None) -> list[bytes]:
    """A column as one encoded value each: times as extension 5 or integers, integers in the shortest signed form."""
    kind = column.kind
    values: Any = column.values
    if kind is Kind.TIME:
        times = np.asarray(values, dtype=np.int64)
        encoded = _msgpack_times(times) if epoch_ns is None else _msgpack_ints(epoch_array(times, epoch_ns))
    elif kind is Kind.FLOAT:
        floats = np.asarray(values, dtype=np.float64)
        encoded = _nulled(_tagged(b"\xcb", floats.astype(">f8")), ~np.isnan(floats), _NIL)
    elif kind is Kind.INTEGER:
        encoded = _msgpack_ints(np.asarray(values, dtype=np.int64))
    elif kind is Kind.UNSIGNED:
        encoded = _msgpack_unsigned(np.asarray(values, dtype=np.uint64))
    elif kind is Kind.BOOLEAN:
        encoded = [b"\xc3" if value else b"\xc2" for value in np.asarray(values).tolist()]
    elif kind is Kind.STRING:
        encoded = [pack_text(text) for text in texts(values)]
    else:
        encoded = [_pack_value(value) for value in values]
    return _nulled(encoded, column.valid, _NIL)


def pack_text(text: str) -> bytes:
    packed: bytes = msgpack.packb(clean(text))
    return packed


def _pack_value(value: Any) -> bytes:
    if isinstance(value, str):
        return pack_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _msgpack_ints(np.array([value], dtype=np.int64))[0] if value < 1 << 63 else _pack_uint64(value)
    packed: bytes = msgpack.packb(value)
    return packed


def _pack_uint64(value: int) -> bytes:
    return b"\xcf" + struct.pack(">Q", value)


def _tagged(tag: bytes, values: NDArray[Any]) -> list[bytes]:
    """Each of *values* (big-endian) behind the byte or bytes *tag*."""
    width = values.dtype.itemsize
    rows = np.empty((len(values), len(tag) + width), dtype=np.uint8)
    rows[:, : len(tag)] = np.frombuffer(tag, dtype=np.uint8)
    rows[:, len(tag) :] = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)
    encoded: list[bytes] = rows.view(f"V{len(tag) + width}").reshape(-1).tolist()
    return encoded


def _msgpack_times(times: NDArray[np.int64]) -> list[bytes]:
    moments = np.empty(len(times), dtype=[("s", ">i8"), ("ns", ">i4")])
    moments["s"] = times // 1_000_000_000
    moments["ns"] = times % 1_000_000_000
    return _tagged(b"\xc7\x0c\x05", moments)


# Shortest signed forms: (least, greatest, tag, type); the fixints come first.
_FORMS: Sequence[tuple[int, int, bytes, str]] = (
    (-32, 127, b"", "i1"),
    (-(1 << 7), (1 << 7) - 1, b"\xd0", "i1"),
    (-(1 << 15), (1 << 15) - 1, b"\xd1", ">i2"),
    (-(1 << 31), (1 << 31) - 1, b"\xd2", ">i4"),
    (-(1 << 63), (1 << 63) - 1, b"\xd3", ">i8"),
)


def _msgpack_ints(values: NDArray[np.int64]) -> list[bytes]:
    encoded: list[bytes] = [b""] * len(values)
    left = np.ones(len(values), dtype=bool)
    for least, greatest, tag, form in _FORMS:
        fits = left & (values >= least) & (values <= greatest)
        left &= ~fits
        rows = np.flatnonzero(fits)
        if len(rows) == len(values):
            return _tagged(tag, values.astype(form))
        for row, item in zip(rows.tolist(), _tagged(tag, values[rows].astype(form)), strict=True):
            encoded[row] = item
    return encoded


def _msgpack_unsigned(values: NDArray[np.uint64]) -> list[bytes]:
    large = np.flatnonzero(values > np.uint64((1 << 63) - 1)).tolist()
    encoded = _msgpack_ints(values.astype(np.int64))
    for row in large:
        encoded[row] = _pack_uint64(int(values[row]))
    return encoded
