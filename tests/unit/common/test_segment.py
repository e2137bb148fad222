"""Blocks, encoded and decoded: the same again, or DamagedChunk."""

from __future__ import annotations

import random
from zlib import crc32

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.model import FieldType
from common.segment import (
    CHECKSUM,
    COUNT,
    COUNTS,
    FIRST_COLUMN,
    IDS,
    MAX,
    MIN,
    TIMES,
    Block,
    DamagedChunk,
    StringArray,
    decode_block,
    decode_column,
    decode_counts,
    decode_dictionary,
    decode_dictionary_arrays,
    decode_ids,
    decode_times,
    encode_block,
    encode_dictionary,
    encode_dictionary_arrays,
    find_column,
    split_chunks,
)
from tests.unit.common.blocks import TYPES, block_rows, make_block, rows_of_blocks

LEVELS = [0, 1]


def bits(block: Block) -> list[bytes]:
    """Everything in a block, bit by bit."""
    pieces = [block.series.tobytes(), block.offsets.tobytes(), block.times.tobytes()]
    for column in block.columns:
        values = column.values
        if isinstance(values, StringArray):
            pieces += [values.offsets.tobytes(), values.data.tobytes()]
        else:
            pieces.append(values.tobytes())
        pieces.append(b"" if column.valid is None else column.valid.tobytes())
    return pieces


@pytest.mark.parametrize("level", LEVELS)
@given(rows=rows_of_blocks)
def test_what_is_encoded_decodes_to_the_same(level, rows):
    block = make_block(rows, TYPES)
    meta, chunks = encode_block(block, level)
    meta = msgpack.unpackb(msgpack.packb(meta))
    decoded = decode_block(meta, split_chunks(meta, b"".join(chunks)))
    assert block_rows(decoded) == rows
    assert bits(decoded) == bits(block)
    assert (decoded.bucket_id, decoded.measurement) == (block.bucket_id, block.measurement)
    assert (decoded.shard_start_ns, decoded.shard_stop_ns) == (block.shard_start_ns, block.shard_stop_ns)


@given(rows=rows_of_blocks)
def test_statistics_are_those_of_the_values(rows):
    meta, _ = encode_block(make_block(rows, TYPES), 0)
    for name, kind in TYPES.items():
        index = find_column(meta, name)
        assert index is not None
        entry = meta["chunks"][index]
        values = [row[name] for row in rows.values() if name in row]
        assert entry[COUNT] == len(values)
        known = values and kind is not FieldType.STRING
        assert entry[MIN] == (min(values) if known else None)
        assert entry[MAX] == (max(values) if known else None)
    times = [time for _, time in rows]
    assert meta["time"] == [min(times), max(times)]
    assert meta["ids"] == [b"".join(n.to_bytes(8, "big") for n in end(s for s, _ in rows)) for end in (min, max)]
    assert find_column(meta, "nothing") is None


def test_a_column_alone_and_some_columns_of_a_block():
    block = make_block({((1, 2), 5): {"f": 1.5, "i": 3}, ((1, 2), 9): {"i": 4}}, TYPES)
    meta, chunks = encode_block(block, 1)
    index = find_column(meta, "f")
    assert index is not None
    column = decode_column(meta, index, chunks[index])
    assert column.values.tolist() == [1.5, 0.0]
    assert column.valid is not None
    assert column.valid.tolist() == [True, False]
    lean = [chunk if i < FIRST_COLUMN or i == index else b"" for i, chunk in enumerate(chunks)]
    assert [column.name for column in decode_block(meta, lean, {"f"}).columns] == ["f"]


def test_names_that_are_not_utf8_survive():
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    meta, chunks = encode_block(make_block({((0, 1), 1): {name: True}}, {name: FieldType.BOOLEAN}), 0)
    packed = msgpack.packb(meta, unicode_errors="surrogateescape")
    meta = msgpack.unpackb(packed, unicode_errors="surrogateescape")
    assert decode_block(meta, chunks).columns[0].name == name


def test_a_block_of_one_row_is_small():
    fields = {f"usage_{n}": FieldType.INTEGER for n in range(10)}
    meta, chunks = encode_block(make_block({((1, 2), 1_700_000_000 * 10**9): dict.fromkeys(fields, 7)}, fields), 0)
    assert len(msgpack.packb(meta)) + sum(map(len, chunks)) < 700


def test_a_block_without_rows_is_refused():
    block = make_block({((1, 2), 5): {}}, {})
    with pytest.raises(ValueError, match="without rows"):
        encode_block(Block("b", "m", 0, 1, block.series[:0], block.offsets[:1], block.times[:0], ()), 0)


# ---------------------------------------------------------------------------------------------------- damage


def sample(level):
    rows = {
        ((series, 7), time * 10**9): {
            "f": series / 8 + time,
            "i": series * time,
            "s": b"on" if time % 3 else b"off",
            "b": time % 2 > 0,
        }
        for series in range(6)
        for time in range(20)
    }
    return encode_block(make_block(rows, TYPES), level)


@pytest.mark.parametrize("level", LEVELS)
def test_each_flipped_bit_is_found(level):
    meta, chunks = sample(level)
    flipped = 0
    for index, chunk in enumerate(chunks):
        for bit in range(0, 8 * len(chunk), max(1, len(chunk) // 16)):
            spoiled = bytearray(chunk)
            spoiled[bit // 8] ^= 1 << bit % 8
            with pytest.raises(DamagedChunk, match=f"chunk {index} of measurement 'm'.*checksum"):
                decode_block(meta, [*chunks[:index], bytes(spoiled), *chunks[index + 1 :]])
            flipped += 1
    assert flipped > 300


def resealed(meta, index, chunk):
    entries = list(meta["chunks"])
    entries[index] = [len(chunk), crc32(chunk), *entries[index][2:]]
    return {**meta, "chunks": entries}


@pytest.mark.parametrize("level", LEVELS)
def test_junk_behind_a_right_checksum_never_kills(level):
    """A codec has to refuse what makes no sense even when the checksum is right: 10,000 mutants."""
    meta, chunks = sample(level)
    dice = random.Random(20260101 + level)
    refused = 0
    for _ in range(10_000):
        index = dice.randrange(len(chunks))
        chunk = bytearray(chunks[index])
        for _ in range(dice.randint(1, 4)):
            match dice.randrange(4):
                case 0:
                    chunk[dice.randrange(min(len(chunk), 24))] = dice.choice([0, 1, 2, 255, dice.randrange(256)])
                case 1:
                    chunk[dice.randrange(len(chunk))] ^= 1 << dice.randrange(8)
                case 2:
                    del chunk[dice.randrange(len(chunk)) :]
                    chunk += b"\0"
                case _:
                    chunk += dice.randbytes(3)
        mutant = resealed(meta, index, bytes(chunk))
        try:
            if index == IDS:
                decode_ids(mutant, chunk)
            elif index == COUNTS:
                decode_counts(mutant, chunk)
            elif index == TIMES:
                decode_times(mutant, chunk)
            else:
                decode_column(mutant, index, chunk)
        except DamagedChunk:
            refused += 1
    assert refused > 3_000


@pytest.mark.parametrize(
    "spoil",
    [
        {"format": 2},
        {"rows": 0},
        {"rows": 1 << 40},
        {"rows": "x"},
        {"series": None},
        {"series": 1 << 30},
        {"chunks": None},
        {"chunks": []},
    ],
)
def test_a_meta_that_makes_no_sense_is_refused(spoil):
    meta, chunks = sample(0)
    with pytest.raises(DamagedChunk):
        decode_block({**meta, **spoil}, chunks)


def test_chunks_joined_to_another_size_are_refused():
    meta, chunks = sample(0)
    with pytest.raises(DamagedChunk, match="bytes instead of"):
        split_chunks(meta, b"".join(chunks)[:-1])
    with pytest.raises(DamagedChunk):
        split_chunks(meta, b"".join(chunks) + b"x")
    assert meta["chunks"][0][CHECKSUM]


# ------------------------------------------------------------------------------------------------ dictionary


@given(entries=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=40))))
def test_a_dictionary_decodes_to_the_same(entries):
    ids = np.array([entry[:2] for entry in entries], np.uint64).reshape(-1, 2)
    keys = [entry[2] for entry in entries]
    part = encode_dictionary(ids, keys)
    back, back_keys = decode_dictionary(part)
    assert back.tolist() == ids.tolist()
    assert back_keys == keys
    assert encode_dictionary_arrays(*decode_dictionary_arrays(part)) == part


def test_a_damaged_dictionary_is_refused():
    part = encode_dictionary(np.array([[1, 2], [3, 4]], np.uint64), [b"host=a", b"host=b"])
    for end in range(len(part)):
        with pytest.raises(DamagedChunk):
            decode_dictionary(part[:end])
    for bit in range(8 * len(part)):
        spoiled = bytearray(part)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedChunk):
            decode_dictionary(spoiled)
    with pytest.raises(DamagedChunk):
        decode_dictionary(part + b"\0")
