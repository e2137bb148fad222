"""Points for tests of the engine: naively read from line protocol, and made into blocks row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.model import FieldType, shard_start
from common.segment import Block, Column, StringArray

UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
WEEK_NS = 7 * 86400 * 1_000_000_000


class Unsigned(int):
    """An unsigned value among the plain ones."""


@dataclass(frozen=True)
class Point:
    """One point; tags sorted."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, Any], ...]
    time_ns: int


def read_points(text: str, unit: str) -> list[Point]:
    """Good lines only; no comments."""
    return [_read_line(line, UNITS[unit]) for line in text.split("\n") if line]


def _read_line(line: str, unit_ns: int) -> Point:
    head, fields, time = _split(line, " ")
    name, *tags = _split(head, ",")
    pairs = tuple(sorted((_plain(k), _plain(v)) for k, v in (_split(tag, "=") for tag in tags)))
    values = tuple((_plain(k), _value(v)) for k, v in (_split(f, "=") for f in _split(fields, ",")))
    return Point(_plain(name), pairs, values, int(time) * unit_ns)


def _split(text: str, at: str) -> list[str]:
    parts, quoted, i, start = [], False, 0, 0
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == '"' and (quoted or text[i - 1] == "="):
            quoted = not quoted
        elif text[i] == at and not quoted:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [*parts, text[start:]]


def _plain(text: str) -> str:
    for char in ",= ":
        text = text.replace("\\" + char, char)
    return text


def _value(text: str) -> Any:
    if text[0] == '"':
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if text[-1] == "i":
        return int(text[:-1])
    if text[-1] == "u":
        return Unsigned(text[:-1])
    return {"true": True, "false": False}.get(text) if text in ("true", "false") else float(text)


def type_of(value: Any) -> FieldType:
    if isinstance(value, bool):
        return FieldType.BOOLEAN
    if isinstance(value, Unsigned):
        return FieldType.UNSIGNED
    return {int: FieldType.INTEGER, float: FieldType.FLOAT, str: FieldType.STRING}[type(value)]


def series_key(tags: Iterable[tuple[str, str]]) -> bytes:
    """The tag key as ingest writes it into the dictionary."""
    escape = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})
    return ",".join(f"{k.translate(escape)}={v.translate(escape)}" for k, v in tags).encode("utf-8", "surrogateescape")


def series_id(measurement: str, tags: Iterable[tuple[str, str]]) -> tuple[int, int]:
    digest = hashlib.md5(measurement.encode("utf-8", "surrogateescape") + b"," + series_key(tags)).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def make_blocks(points: Iterable[Point], bucket_id: str, shard_ns: int = WEEK_NS) -> list[Block]:
    """Blocks of points, later ones winning, one a measurement and shard."""
    groups: dict[tuple[str, int], dict[tuple[tuple[int, int], int], dict[str, Any]]] = {}
    for point in points:
        start_ns = shard_start(point.time_ns, shard_ns)
        rows = groups.setdefault((point.measurement, start_ns), {})
        rows.setdefault((series_id(point.measurement, point.tags), point.time_ns), {}).update(point.fields)
    return [_block(name, start, start + shard_ns, rows, bucket_id) for (name, start), rows in groups.items()]


def _block(name: str, start_ns: int, stop_ns: int, rows: dict[Any, dict[str, Any]], bucket_id: str) -> Block:
    ordered = sorted(rows)
    ids = sorted({series for series, _ in ordered})
    counts = [sum(series == id for series, _ in ordered) for id in ids]
    names = sorted({field for fields in rows.values() for field in fields})
    columns = tuple(_column(field, [rows[key].get(field) for key in ordered]) for field in names)
    return Block(
        bucket_id, name, start_ns, stop_ns, np.array(ids, np.uint64).reshape(-1, 2),
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64), np.array([t for _, t in ordered], np.int64), columns,
    )  # fmt: skip


def _column(name: str, values: list[Any]) -> Column:
    type = type_of(next(value for value in values if value is not None))
    valid = np.array([value is not None for value in values])
    array: Any
    if type is FieldType.STRING:
        texts = [(value or "").encode("utf-8", "surrogateescape") for value in values]
        offsets = np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int64)
        array = StringArray(offsets, np.frombuffer(b"".join(texts), np.uint8))
    else:
        dtype = {FieldType.FLOAT: np.float64, FieldType.INTEGER: np.int64, FieldType.UNSIGNED: np.uint64,
                 FieldType.BOOLEAN: np.bool_}[type]  # fmt: skip
        array = np.array([0 if value is None else value for value in values], dtype)
    return Column(name, type, array, None if valid.all() else valid)
