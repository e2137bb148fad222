"""Blocks made by hypothesis and by hand, and a naive picture of what is in one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from common.model import FieldType
from common.segment import Block, Column, StringArray

SHARD = (0, 604_800_000_000_000)
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.FLOAT: st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, -0.0, 0.1, 1.25, 1e300, 5e-324, 0.1 + 0.2]),
        st.integers(-1000, 1000).map(lambda k: k / 100),
    ),
    FieldType.INTEGER: st.one_of(INT64, st.integers(0, 99), st.sampled_from([-(2**63), 2**63 - 1, 0])),
    FieldType.UNSIGNED: st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 99)),
    FieldType.STRING: st.one_of(
        st.binary(max_size=20), st.sampled_from([b"", b"on", b"off", b"\xff\xfe", "é".encode()])
    ),
    FieldType.BOOLEAN: st.booleans(),
}
DTYPES = {
    FieldType.FLOAT: np.float64,
    FieldType.INTEGER: np.int64,
    FieldType.UNSIGNED: np.uint64,
    FieldType.BOOLEAN: np.bool_,
}
EMPTY: dict[FieldType, Any] = {
    FieldType.FLOAT: 0.0,
    FieldType.INTEGER: 0,
    FieldType.UNSIGNED: 0,
    FieldType.STRING: b"",
    FieldType.BOOLEAN: False,
}

# (series id, time) → {field: value}
Rows = dict[tuple[tuple[int, int], int], dict[str, Any]]


def make_column(name: str, kind: FieldType, values: list[Any]) -> Column:
    """A column of *values*; None = no value."""
    valid = np.array([value is not None for value in values], np.bool_)
    filled = [EMPTY[kind] if value is None else value for value in values]
    mask = None if valid.all() else valid
    if kind is FieldType.STRING:
        offsets = np.zeros(len(filled) + 1, np.int64)
        np.cumsum([len(value) for value in filled], out=offsets[1:])
        return Column(name, kind, StringArray(offsets, np.frombuffer(b"".join(filled), np.uint8)), mask)
    return Column(name, kind, np.array(filled, DTYPES[kind]), mask)


def make_block(rows: Rows, types: dict[str, FieldType], shard: tuple[int, int] = SHARD) -> Block:
    """The block that holds *rows*, with a column for each of *types*."""
    keys = sorted(rows)
    ids = sorted({series for series, _ in keys})
    counts = [sum(1 for series, _ in keys if series == each) for each in ids]
    return Block(
        bucket_id="00000000000000aa",
        measurement="m",
        shard_start_ns=shard[0],
        shard_stop_ns=shard[1],
        series=np.array(ids, np.uint64).reshape(-1, 2),
        offsets=np.array([0, *np.cumsum(counts)], np.int64),
        times=np.array([time for _, time in keys], np.int64),
        columns=tuple(make_column(name, kind, [rows[key].get(name) for key in keys]) for name, kind in types.items()),
    )


def column_values(column: Column) -> list[Any]:
    """The values of a column; None = no value."""
    if isinstance(column.values, StringArray):
        text, offsets = column.values.data.tobytes(), column.values.offsets.tolist()
        values: list[Any] = [text[a:b] for a, b in pairwise(offsets)]
    else:
        values = column.values.tolist()
    if column.valid is None:
        return values
    assert all(value == EMPTY[column.type] for value, valid in zip(values, column.valid, strict=True) if not valid)
    return [value if valid else None for value, valid in zip(values, column.valid, strict=True)]


def block_rows(block: Block) -> Rows:
    """What is in a block, naively."""
    rows: Rows = {}
    for position, (high, low) in enumerate(block.series.tolist()):
        for row in range(int(block.offsets[position]), int(block.offsets[position + 1])):
            rows[(high, low), int(block.times[row])] = {}
    keys = list(rows)
    assert len(keys) == block.rows
    assert keys == sorted(keys)
    for column in block.columns:
        for key, value in zip(keys, column_values(column), strict=True):
            if value is not None:
                rows[key][column.name] = value
    return rows


TYPES = {
    "f": FieldType.FLOAT,
    "i": FieldType.INTEGER,
    "u": FieldType.UNSIGNED,
    "s": FieldType.STRING,
    "b": FieldType.BOOLEAN,
}

series_ids = st.tuples(st.integers(0, 3), st.integers(0, 3)) | st.just((2**64 - 1, 2**64 - 1))
times = st.one_of(st.integers(0, 5), st.integers(0, 5).map(lambda k: k * 10**9), st.integers(0, SHARD[1] - 1))
row_values = st.fixed_dictionaries({}, optional={name: VALUES[kind] for name, kind in TYPES.items()})
rows_of_blocks = st.dictionaries(st.tuples(series_ids, times), row_values, min_size=1, max_size=12)
