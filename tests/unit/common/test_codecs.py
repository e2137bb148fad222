"""Codecs: every array comes back bit by bit, and shapes that have a small form find it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.codecs.bools import decode_bools, encode_bools
from common.codecs.byte_runs import decode_bytes, encode_bytes
from common.codecs.floats import decode_floats, encode_floats
from common.codecs.ints import decode_ints, encode_ints, encode_times
from common.codecs.reader import DamagedChunk, Reader
from common.codecs.strings import concat_strings, decode_strings, encode_strings, gather_strings

LEVELS = [0, 1]
DICE = np.random.default_rng(7)
ROWS = 50_000

int64s = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-200, 200), st.sampled_from([-(2**63), 2**63 - 1]))


def whole(decode, encoded, count):
    reader = Reader(encoded, "test")
    values = decode(reader, count)
    reader.expect_end()
    return values


def walk(rows, steps):
    return np.cumsum(steps[DICE.integers(0, len(steps), rows)])


INTS = {
    "random 0 to 99": (DICE.integers(0, 100, ROWS), 0.88),
    "a walk": (walk(ROWS, np.array([-1, 0, 1])), 0.27),
    "walks of many series": (
        np.concatenate([walk(100, np.array([-1, 0, 1])) + n % 97 * 10**6 for n in range(ROWS // 100)]),
        0.35,
    ),
    "a counter": (np.cumsum(DICE.integers(0, 200, ROWS)), 1.1),
    "two values": (DICE.integers(0, 2, ROWS), 0.13),
    "three values": (DICE.integers(5, 8, ROWS), 0.26),
    "constants of many series": (np.repeat(DICE.integers(0, 2**40, 500), ROWS // 500), 0.06),
    "rare outliers": (np.where(DICE.random(ROWS) < 0.001, 2**50, DICE.integers(0, 10, ROWS)), 0.6),
    "few large values": (DICE.integers(0, 2**60, 50)[DICE.integers(0, 50, ROWS)], 0.8),
    "whole thousands": (DICE.integers(0, 100, ROWS) * 1000, 0.88),
    "anything": (DICE.integers(-(2**63), 2**63 - 1, ROWS), 8.01),
    "one": (np.full(ROWS, 5), 0.001),
    "extremes": (np.where(DICE.random(ROWS) < 0.5, -(2**63), 2**63 - 1), 0.14),
    "regular times": (np.tile(1_700_000_000 * 10**9 + np.arange(500) * 10**10, ROWS // 500), 0.005),
}


@pytest.mark.parametrize("name", INTS)
def test_integers_of_this_shape_are_small(name):
    values, limit = INTS[name]
    values = values.astype(np.int64)
    encoded = encode_ints(values, 1)
    assert len(encoded) / len(values) < limit
    assert np.array_equal(whole(decode_ints, encoded, len(values)).view(np.int64), values)


@pytest.mark.parametrize("level", LEVELS)
@given(values=st.lists(int64s, max_size=200))
def test_integers_come_back(level, values):
    array = np.array(values, np.int64)
    assert whole(decode_ints, encode_ints(array, level), len(array)).view(np.int64).tolist() == values
    assert whole(decode_ints, encode_times(array, level), len(array)).view(np.int64).tolist() == values


@pytest.mark.parametrize("level", LEVELS)
@given(values=st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**64 - 1, 2**63]), max_size=200))
def test_unsigned_integers_come_back(level, values):
    array = np.array(values, np.uint64)
    assert whole(decode_ints, encode_ints(array, level), len(array)).tolist() == values


@given(
    start=st.integers(-(2**62), 2**62),
    step=st.integers(0, 10**12),
    unit=st.sampled_from([1, 1000, 10**9]),
    count=st.integers(1, 300),
)
def test_times_of_any_unit_come_back_at_level_0(start, step, unit, count):
    times = (start // unit + step % 10**6 * np.arange(count)[::-1]) * unit
    encoded = encode_times(times.astype(np.int64), 0)
    assert np.array_equal(whole(decode_ints, encoded, count).view(np.int64), times)


FLOATS = {
    "two decimals": (np.round(DICE.random(ROWS) * 100, 2), 1.7, 2.1),
    "a walk in tenths": (np.round(walk(ROWS, np.array([-1, 0, 1])) / 10, 1), 0.27, 4.1),
    "whole numbers": (DICE.integers(0, 100, ROWS).astype(float), 0.88, 1.1),
    "now and then an odd one": (
        np.where(DICE.random(ROWS) < 0.01, DICE.random(ROWS), np.round(DICE.random(ROWS) * 100, 2)),
        1.85,
        8.1,
    ),
    "anything": (DICE.random(ROWS) * 100, 6.95, 8.1),
    "ratios of small integers": (100 * DICE.integers(0, 500, ROWS) / 997, 1.3, 8.1),
    "minus zero among decimals": (np.where(np.arange(ROWS) == 777, -0.0, np.round(DICE.random(ROWS), 1)), 0.55, 8.1),
}


@pytest.mark.parametrize("name", FLOATS)
def test_floats_of_this_shape_are_small(name):
    values, limit, cheap_limit = FLOATS[name]
    for level, most in ((1, limit), (0, cheap_limit)):
        encoded = encode_floats(values, level)
        assert len(encoded) / len(values) < most
        assert np.array_equal(whole(decode_floats, encoded, len(values)).view(np.int64), values.view(np.int64))


@pytest.mark.parametrize("level", LEVELS)
@given(
    values=st.lists(
        st.floats()
        | st.sampled_from([0.0, -0.0, 1e308, -5e-324])
        | st.integers(-(2**60), 2**60).map(lambda k: k / 100),
        max_size=120,
    ),
    repeat=st.sampled_from([1, 60]),
)
def test_floats_come_back_bit_by_bit(level, values, repeat):
    array = np.array(values * repeat, np.float64)
    decoded = whole(decode_floats, encode_floats(array, level), len(array))
    assert np.array_equal(decoded.view(np.int64), array.view(np.int64))


@pytest.mark.parametrize("level", LEVELS)
@given(values=st.lists(st.booleans(), max_size=200), repeat=st.sampled_from([1, 20]))
def test_booleans_come_back(level, values, repeat):
    array = np.array(values * repeat, np.bool_)
    assert np.array_equal(whole(decode_bools, encode_bools(array, level), len(array)), array)


@given(values=st.binary(max_size=300), most=st.sampled_from([1, 2, 3, 4, 255]))
def test_bytes_come_back(values, most):
    array = np.frombuffer(values, np.uint8) % most
    assert np.array_equal(whole(decode_bytes, encode_bytes(array), len(array)), array)


def as_strings(values):
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(values), np.uint8)


def as_list(offsets, text):
    return [text[start:stop].tobytes() for start, stop in pairwise(offsets)]


words = st.binary(max_size=12) | st.sampled_from([b"", b"on", b"off", b"on\0", b"\xff" * 9, b"x" * 300])


@pytest.mark.parametrize("level", LEVELS)
@given(values=st.lists(words, max_size=60), repeat=st.sampled_from([1, 30]))
def test_strings_come_back(level, values, repeat):
    values = values * repeat
    assert as_list(*whole(decode_strings, encode_strings(*as_strings(values), level), len(values))) == values


def test_few_strings_that_occur_often_are_small():
    values = [[b"running", b"sleeping", b"zombie"][n] for n in DICE.integers(0, 3, 10_000)]
    encoded = encode_strings(*as_strings(values), 1)
    assert len(encoded) < 0.27 * len(values)
    assert as_list(*whole(decode_strings, encoded, len(values))) == values


@given(first=st.lists(words, max_size=5), second=st.lists(words, min_size=1, max_size=5), data=st.data())
def test_strings_are_joined_and_gathered(first, second, data):
    joined = concat_strings([as_strings(first), as_strings([b"skipped", *second])])
    skipped = len(first)
    index = data.draw(st.lists(st.integers(0, skipped + len(second)), max_size=9))
    values = [*first, b"skipped", *second]
    assert as_list(*joined) == values
    assert as_list(*gather_strings(*joined, np.array(index, np.int64))) == [values[i] for i in index]


@pytest.mark.parametrize("decode", [decode_ints, decode_floats, decode_strings, decode_bytes])
@given(junk=st.binary(max_size=60), count=st.integers(0, 1000))
def test_junk_is_decoded_or_refused(decode, junk, count):
    try:
        decode(Reader(junk, "junk"), count)
    except DamagedChunk as error:
        assert str(error).startswith("damaged junk: ")


def test_nesting_without_end_is_refused():
    with pytest.raises(DamagedChunk, match="too deep"):
        decode_ints(Reader((b"\x03" + bytes(8)) * 5000, "bomb"), 10_000)


def test_a_zstd_frame_of_another_size_is_not_unpacked():
    bomb = encode_bytes(np.frombuffer(b"abcdefgh" * 1_000_000, np.uint8))
    with pytest.raises(DamagedChunk, match="another size"):
        decode_bytes(Reader(bomb, "bomb"), 100)
