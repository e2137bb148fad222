"""Small calls and answers: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.rpc import small, wire

CLAIM = "1 gateway 1700000000000 00ff aa"
BODY = b"head and parts"


def request(body: bytes = BODY) -> bytes:
    return small.request_head("127.0.0.1:8091", "storage.plan", CLAIM, 4, len(body)) + body


@given(st.binary(max_size=200), st.sampled_from([200, wire.STATUS_OF_ERROR]), st.integers(0, 10**6))
def test_what_is_written_is_read(body: bytes, status: int, head_size: int) -> None:
    assert small.parse_request(request(body)) == small.SmallRequest("storage.plan", CLAIM, "4", body)
    assert small.parse_answer(small.answer(status, head_size, body)) == small.SmallAnswer(status, head_size, body)


@pytest.mark.parametrize("message", [request(), small.answer(200, 4, BODY)], ids=["request", "answer"])
def test_what_is_cut_or_followed_by_more_is_left_alone(message: bytes) -> None:
    def is_read(data: bytes) -> bool:
        return small.parse_request(data) is not None or small.parse_answer(data) is not None

    assert is_read(message)
    assert not any(is_read(message[:stop]) for stop in range(len(message)))
    assert not is_read(message + b"x")
    assert not is_read(message + message)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST /rpc/", b"GET /rpc/"),
        (b"POST /rpc/", b"POST /ready"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Content-Length: 14", b"Content-Length: 014"),
        (b"Content-Length: 14", b"Content-Length: +14"),
        (b"Content-Length: 14", b"Content-Length: 14\r\nContent-Length: 14"),
        (b"Content-Length: 14", b"Content-Length: 14\r\nTransfer-Encoding: chunked"),
        (b"Content-Length: 14", b"Content-Length: 14\r\nExpect: 100-continue"),
        (b"Content-Length: 14", b"Content-Length: 14\r\nConnection: close"),
        (b"Content-Length: 14", b"content-length: 14"),
        (b"Content-Type", b"Content-Type: a\r\n b"),
        (b"Host: ", b"X-Long: " + b"x" * small.MAX_HEAD_CHARS + b"\r\nHost: "),
    ],
)
def test_what_has_another_form_is_left_alone(old: bytes, new: bytes) -> None:
    assert old in request()
    assert small.parse_request(request().replace(old, new, 1)) is None


def test_answers_of_another_form_are_left_alone() -> None:
    good = small.answer(200, 4, BODY)
    assert small.parse_answer(small.answer(200, 4, BODY, keep_alive=False)) is None
    assert small.parse_answer(small.answer(401, 4, BODY)) is None
    assert small.parse_answer(small.refusal(401, "no")) is None
    assert small.parse_answer(good.replace(b"Head: 4", b"Head: x")) is None
    assert small.parse_answer(good.replace(b"Content-Type", b"X-Other")) is None
