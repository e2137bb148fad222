"""gzip bodies: whole ones are read, anything else is refused."""

from __future__ import annotations

import contextlib
import gzip
import os
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid
from services.ingest.inflate import MAX_GUESS_BYTES, MAX_MEMBERS, TooLong, check_header, guess_size, inflate, is_gzip

LINES = b"".join(b"cpu,host=h%d v=%di %d\n" % (i % 7, i, i * 1000) for i in range(2000))
WHOLE = gzip.compress(LINES)
PLENTY = 1 << 30


def member(payload: bytes, flags: int = 0, extra: bytes = b"") -> bytes:
    stream = zlib.compressobj(wbits=-15)
    deflated = stream.compress(payload) + stream.flush()
    trailer = zlib.crc32(payload).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    return b"\x1f\x8b\x08" + bytes((flags,)) + b"\0\0\0\0\0\3" + extra + deflated + trailer


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_members_one_after_the_other_are_one_body(payloads: list[bytes]) -> None:
    body = b"".join(map(gzip.compress, payloads))
    assert inflate(body, PLENTY, PLENTY).body == b"".join(payloads)


@pytest.mark.parametrize("size", [0, 1, 65_536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 5])
def test_bodies_round_a_piece_are_whole(size: int) -> None:
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert inflate(gzip.compress(payload), PLENTY, PLENTY).body == payload


def test_a_body_cut_anywhere_is_refused() -> None:
    for cut in range(0, len(WHOLE), max(1, len(WHOLE) // 400)):
        with pytest.raises(Invalid, match=r"^unable to read data: unexpected EOF$"):
            inflate(WHOLE[:cut], PLENTY, PLENTY)
    for cut in range(1, 12):
        with pytest.raises(Invalid, match="unexpected EOF"):
            inflate(WHOLE[:-cut], PLENTY, PLENTY)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"cpu v=1", "gzip: invalid header"),
        (b"c", "gzip: invalid header"),
        (b"\x1f", "unexpected EOF"),
        (b"", "unexpected EOF"),
        (b"\x1f\x8b\x07" + WHOLE[3:], "gzip: invalid header"),
        (WHOLE[:3] + b"\xe0" + WHOLE[4:], "gzip: invalid header"),
        (WHOLE[:10] + b"\x07" + WHOLE[11:], "flate: corrupt input"),
        (WHOLE[:-5] + bytes((WHOLE[-5] ^ 1,)) + WHOLE[-4:], "gzip: invalid checksum"),
        (WHOLE[:-1] + bytes((WHOLE[-1] ^ 1,)), "gzip: invalid checksum"),
        (WHOLE + b"junk that is no member", "gzip: invalid header"),
        (WHOLE + b"\0", "gzip: invalid header"),
        (WHOLE + WHOLE[:-3], "unexpected EOF"),
    ],
)
def test_anything_else_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        inflate(body, PLENTY, PLENTY)
    assert str(caught.value) == f"unable to read data: {text}"


def test_optional_parts_of_a_header_are_skipped() -> None:
    assert inflate(member(b"m v=1", 4, b"\x03\x00abc"), PLENTY, PLENTY).body == b"m v=1"
    assert inflate(member(b"m v=1", 8 | 16, b"name\0comment\0"), PLENTY, PLENTY).body == b"m v=1"
    fixed = b"\x1f\x8b\x08\x02\0\0\0\0\0\3"
    crc = (zlib.crc32(fixed) & 0xFFFF).to_bytes(2, "little")
    assert inflate(member(b"m v=1", 2, crc), PLENTY, PLENTY).body == b"m v=1"
    with pytest.raises(Invalid, match="invalid header"):
        check_header(member(b"m v=1", 2, b"xx"))


def test_a_body_over_the_limit_is_refused_and_one_at_it_is_not() -> None:
    assert inflate(WHOLE, len(LINES), PLENTY).size == len(LINES)
    with pytest.raises(TooLong):
        inflate(WHOLE, len(LINES) - 1, PLENTY)


def test_a_longer_body_than_is_to_be_kept_is_only_measured() -> None:
    outcome = inflate(WHOLE, PLENTY, len(LINES) - 1)
    assert (outcome.size, outcome.body) == (len(LINES), None)


def test_a_bomb_costs_little_memory() -> None:
    bomb = gzip.compress(bytes(200 << 20), 9)
    assert guess_size(bomb) <= MAX_GUESS_BYTES
    tracemalloc.start()
    with pytest.raises(TooLong):
        inflate(bomb, 100 << 20, guess_size(bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 << 20


def test_a_body_that_deflate_cannot_shrink_is_whole() -> None:
    payload = os.urandom(300_000)
    assert inflate(gzip.compress(payload), PLENTY, PLENTY).body == payload


def test_short_members_are_read_up_to_a_bound() -> None:
    body = gzip.compress(b"") * MAX_MEMBERS
    assert inflate(body, PLENTY, PLENTY).size == 0
    with pytest.raises(Invalid, match="more than 100000 members"):
        inflate(body + gzip.compress(b""), PLENTY, PLENTY)


def test_only_gzip_in_lower_case_is_inflated() -> None:
    assert is_gzip("gzip")
    assert is_gzip("x-gzip")
    assert not any(map(is_gzip, ("", "GZIP", "deflate", "identity", "br", "gzip, gzip")))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_body_or_an_error(body: bytes) -> None:
    with contextlib.suppress(Invalid):
        assert inflate(b"\x1f\x8b\x08" + body, 1 << 20, 1 << 20).body is not None
