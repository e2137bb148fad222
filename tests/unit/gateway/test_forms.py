from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InfluxError, Invalid, TooLarge
from services.gateway.forms import inflate, read_form

MULTIPART = (
    b'preamble\r\n--xx\r\nContent-Disposition: form-data; name="q"\r\n\r\nSELECT 1\r\n'
    b"--xx\r\ncontent-disposition: form-data; name=db\r\n\r\nd\r\n--xx--\r\nepilogue"
)


def test_urlencoded() -> None:
    assert read_form("application/x-www-form-urlencoded; charset=utf-8", b"q=SELECT+1&db=d\r\n") == [
        ("q", "SELECT 1"),
        ("db", "d"),
    ]


def test_multipart() -> None:
    assert read_form("multipart/form-data; boundary=xx", MULTIPART) == [("q", "SELECT 1"), ("db", "d")]
    assert read_form('Multipart/Form-Data; boundary="xx"', MULTIPART)[0] == ("q", "SELECT 1")


def test_the_text_of_a_file_is_the_value() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="q"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
        b"SHOW DATABASES\n\r\n--b--\r\n"
    )
    assert read_form("multipart/form-data; boundary=b", body) == [("q", "SHOW DATABASES\n")]


@pytest.mark.parametrize("size", range(10, len(MULTIPART) - len("--\r\nepilogue")))
def test_a_cut_multipart_body_is_refused(size: int) -> None:
    with pytest.raises(Invalid):
        read_form("multipart/form-data; boundary=xx", MULTIPART[:size])


def test_multipart_without_a_boundary_is_refused() -> None:
    with pytest.raises(Invalid):
        read_form("multipart/form-data", MULTIPART)


def test_influxql_is_the_query_itself() -> None:
    assert read_form("application/vnd.influxql", b"SELECT 1") == [("q", "SELECT 1")]


def test_other_types_hold_no_parameters() -> None:
    assert read_form("application/json", b"q=1") == []
    assert read_form("", b"q=1") == []


def test_gzip_is_whole_or_refused() -> None:
    packed = gzip.compress(b"q=SELECT+1" * 100) + gzip.compress(b"&db=d")
    assert inflate(packed, 10_000, "X") == b"q=SELECT+1" * 100 + b"&db=d"
    assert inflate(b"", 10, "X") == b""
    first = len(gzip.compress(b"q=SELECT+1" * 100))
    for size in range(1, len(packed)):
        if size != first:
            with pytest.raises(Invalid):
                inflate(packed[:size], 10_000, "X")
    with pytest.raises(Invalid):
        inflate(packed + b"junk", 10_000, "X")
    spoiled = bytearray(packed)
    spoiled[-6] ^= 1
    with pytest.raises(Invalid):
        inflate(bytes(spoiled), 10_000, "X")


def test_a_bomb_ends_at_the_limit() -> None:
    packed = gzip.compress(bytes(50_000_000))
    with pytest.raises(TooLarge, match="TIDEGATE_X"):
        inflate(packed, 1_000_000, "TIDEGATE_X")


@given(
    st.sampled_from(
        ["application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/vnd.influxql"]
    ),
    st.binary() | st.binary().map(lambda raw: b"--a\r\n" + raw + b"\r\n--a--"),
)
def test_any_bytes_give_pairs_or_an_error(content_type: str, body: bytes) -> None:
    try:
        read_form(content_type, body)
        inflate(body, 1000, "X")
    except InfluxError:
        pass
