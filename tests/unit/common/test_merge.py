"""Merging blocks against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InternalError
from common.merge import filter_rows, merge_blocks, slice_rows, slice_series, take_column
from common.model import FieldType
from common.segment import decode_block, encode_block
from tests.unit.common.blocks import TYPES, block_rows, column_values, make_block, rows_of_blocks

some_types = st.sets(st.sampled_from(sorted(TYPES))).map(lambda names: {name: TYPES[name] for name in sorted(names)})


def kept(rows, types):
    return {key: {name: value for name, value in row.items() if name in types} for key, row in rows.items()}


@given(parts=st.lists(st.tuples(rows_of_blocks, some_types), min_size=1, max_size=4))
def test_the_last_value_of_each_field_wins(parts):
    blocks = [make_block(rows, types) for rows, types in parts]
    expected: dict = {}
    for rows, types in parts:
        for key, row in kept(rows, types).items():
            expected.setdefault(key, {}).update(row)
    merged = merge_blocks(blocks)
    assert block_rows(merged) == expected
    meta, chunks = encode_block(merged, 1)
    assert block_rows(decode_block(meta, chunks)) == expected


@given(rows=rows_of_blocks, cuts=st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_parts_that_do_not_overlap_put_together_give_the_whole(rows, cuts):
    parts: list[dict] = [{}, {}, {}]
    for (key, row), part in zip(rows.items(), cuts, strict=False):
        parts[part][key] = row
    merged = merge_blocks([make_block(part, TYPES) for part in parts if part])
    assert block_rows(merged) == rows


def test_series_and_time_that_fit_no_single_word_merge_too():
    far = {((s, 1), t): {"i": s} for s in range(3) for t in (-(2**62) - s, 2**62 + s)}
    near = {((s, 1), t): {"i": -s} for s in range(3) for t in (-(2**62) - s, 5)}
    blocks = [make_block(rows, TYPES) for rows in (far, near)]
    assert block_rows(merge_blocks(blocks)) == {**far, **near}


def test_a_field_of_two_types_is_refused():
    blocks = [
        make_block({((1, 1), 1): {"v": v}}, {"v": kind}) for v, kind in ((1, FieldType.INTEGER), (1.0, FieldType.FLOAT))
    ]
    with pytest.raises(InternalError, match="'v' is integer and float in one shard"):
        merge_blocks(blocks)


def test_blocks_of_two_shards_are_refused():
    blocks = [make_block({((1, 1), 1): {"i": 1}}, TYPES, shard) for shard in ((0, 10), (10, 20))]
    with pytest.raises(InternalError, match="not of one shard"):
        merge_blocks(blocks)


@given(rows=rows_of_blocks, data=st.data())
def test_filtered_rows_are_those_asked_for(rows, data):
    block = make_block(rows, TYPES)
    keep = data.draw(st.lists(st.booleans(), min_size=block.rows, max_size=block.rows))
    expected = {key: row for (key, row), wanted in zip(sorted(rows.items()), keep, strict=True) if wanted}
    filtered = filter_rows(block, np.array(keep, np.bool_))
    assert (block_rows(filtered) if filtered else {}) == expected


@given(rows=rows_of_blocks, data=st.data())
def test_a_slice_of_series_holds_their_rows(rows, data):
    block = make_block(rows, TYPES)
    start = data.draw(st.integers(0, len(block.series) - 1))
    stop = data.draw(st.integers(start + 1, len(block.series)))
    ids = sorted({series for series, _ in rows})[start:stop]
    part = slice_series(block, start, stop)
    expected = {key: row for key, row in rows.items() if key[0] in ids}
    assert block_rows(part) == expected
    assert block_rows(merge_blocks([part, part])) == expected
    meta, chunks = encode_block(part, 0)
    assert block_rows(decode_block(meta, chunks)) == expected


def test_rows_of_a_column_are_taken_in_any_order():
    block = make_block({((1, 1), t): {"s": b"x" * t, "i": t} for t in range(4)}, TYPES)
    for column in block.columns:
        values = column_values(column)
        assert column_values(take_column(column, np.array([3, 0, 3]))) == [values[3], values[0], values[3]]


@given(rows=rows_of_blocks, data=st.data())
def test_a_slice_of_rows_holds_them(rows, data):
    block = make_block(rows, TYPES)
    start = data.draw(st.integers(0, block.rows - 1))
    stop = data.draw(st.integers(start + 1, block.rows))
    part = slice_rows(block, start, stop)
    assert block_rows(part) == {key: rows[key] for key in sorted(rows)[start:stop]}
    meta, chunks = encode_block(part, 1)
    assert block_rows(decode_block(meta, chunks)) == block_rows(part)
