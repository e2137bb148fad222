"""Points → line protocol in canonical form, and parsed columns → points. · pure

For export and tests; nothing on the path of a write makes a Point.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from common.lineprotocol.names import escape_measurement, escape_name, split_tag_key
from common.lineprotocol.parse import Parsed
from common.model import FieldType

Value = float | int | bool | bytes


@dataclass(frozen=True, slots=True)
class Point:
    """One line.

    Attributes:
        tags: (key, value), sorted by key.
        fields: (name, type, value) in the line's order; a string's value is bytes.
    """

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, FieldType, Value], ...]
    time_ns: int


def format_point(point: Point) -> bytes:
    """The point as a line, without its end: tags as they are in the point, time in ns."""
    key = escape_measurement(point.measurement) + b"".join(
        b"," + escape_name(tag) + b"=" + escape_name(value) for tag, value in point.tags
    )
    fields = b",".join(escape_name(name) + b"=" + format_value(type_, value) for name, type_, value in point.fields)
    return b"%s %s %d" % (key, fields, point.time_ns)


def format_value(type_: FieldType, value: Value) -> bytes:
    """A field value as written in a line; floats in the shortest form that reads back the same."""
    if isinstance(value, bytes):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    if type_ is FieldType.BOOLEAN:
        return b"true" if value else b"false"
    if type_ is FieldType.FLOAT:
        return repr(float(value)).removesuffix(".0").encode()
    return b"%d%s" % (value, b"i" if type_ is FieldType.INTEGER else b"u")


def points_of(parsed: Parsed) -> list[Point]:
    """The good lines as points, in input order."""
    tag_keys = parsed.tag_keys(range(len(parsed.series_ids)))
    tags = [tuple(split_tag_key(tag_key)) for tag_key in tag_keys]
    offsets, text = parsed.entry_offsets.tolist(), parsed.text.data
    columns, types, bits = parsed.entry_column.tolist(), parsed.entry_type.tolist(), parsed.entry_bits.tolist()
    points = []
    for row, (series, time_ns) in enumerate(zip(parsed.series.tolist(), parsed.times.tolist(), strict=True)):
        fields = tuple(
            (parsed.columns[columns[entry]], FieldType(types[entry]), _value(types[entry], bits[entry], text))
            for entry in range(offsets[row], offsets[row + 1])
        )
        measurement = parsed.measurements[int(parsed.series_measurement[series])]
        points.append(Point(measurement, tags[series], fields, time_ns))
    return points


def _value(type_: int, bits: int, text: memoryview) -> Value:
    if type_ == FieldType.STRING:
        start, length = bits >> 32, (bits & 0xFFFFFFFF) >> 1
        return unescape_string(bytes(text[start : start + length]))
    if type_ == FieldType.FLOAT:
        return float(struct.unpack("<d", struct.pack("<Q", bits))[0])
    if type_ == FieldType.INTEGER:
        return bits - (1 << 64) if bits >> 63 else bits
    return bool(bits) if type_ == FieldType.BOOLEAN else bits


def unescape_string(written: bytes) -> bytes:
    """A string between its quotes → its value: a backslash stands for itself but before ``"`` and another backslash."""
    parts = written.split(b"\\\\")
    return b"\\".join(part.replace(b'\\"', b'"') for part in parts)
