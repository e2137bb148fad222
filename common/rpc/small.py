"""Small calls and their answers as whole HTTP/1.1 messages: written at once, and read without a reader of HTTP · pure.

What is not exactly of the form that this module writes is left to aiohttp; both ways give the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.rpc import wire

PATH = "/rpc/"
_END = b"\r\n\r\n"
_REQUEST = b"POST /rpc/"
_ANSWERS = {b"HTTP/1.1 200 ": 200, b"HTTP/1.1 %d " % wire.STATUS_OF_ERROR: wire.STATUS_OF_ERROR}
_ANSWER_START = len(b"HTTP/1.1 200 ")
# The longest head of either; a longer one is not of our making.
MAX_HEAD_CHARS = 1024
_REQUEST_NAMES = {"Host", wire.CALL_HEADER, wire.HEAD_HEADER, "Content-Type", "Content-Length"}
_ANSWER_NAMES = {wire.HEAD_HEADER, "Content-Type", "Content-Length"}


@dataclass(frozen=True, slots=True)
class SmallRequest:
    """A call as it came: ``audience.name``, the headers that sign it and tell where its head ends, its body."""

    method: str
    claim: str
    head_size: str
    body: bytes


@dataclass(frozen=True, slots=True)
class SmallAnswer:
    status: int
    head_size: int
    body: bytes


def request_head(host: str, method: str, claim: str, head_size: int, body_size: int) -> bytes:
    """The head of a call."""
    return (
        f"POST {PATH}{method} HTTP/1.1\r\n"
        f"Host: {host}\r\n"
        f"{wire.CALL_HEADER}: {claim}\r\n"
        f"{wire.HEAD_HEADER}: {head_size}\r\n"
        f"Content-Type: {wire.CONTENT_TYPE}\r\n"
        f"Content-Length: {body_size}\r\n\r\n"
    ).encode()


def parse_request(data: bytes) -> SmallRequest | None:
    """The call that *data* is, from its first byte to its last; None for anything else."""
    if not data.startswith(_REQUEST):
        return None
    end = data.find(_END, 0, MAX_HEAD_CHARS)
    if end < 0:
        return None
    target, version, fields = _split(data, len(_REQUEST), end)
    size = fields.get("Content-Length", "")
    if version != "HTTP/1.1" or fields.keys() != _REQUEST_NAMES or size != str(len(data) - end - len(_END)):
        return None
    return SmallRequest(target, fields[wire.CALL_HEADER], fields[wire.HEAD_HEADER], data[end + len(_END) :])


def answer(status: int, head_size: int, body: bytes, *, keep_alive: bool = True) -> bytes:
    """A whole answer. Only one that keeps the connection is read by ``parse_answer``."""
    closing = "" if keep_alive else "Connection: close\r\n"
    return (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Failed'}\r\n"
        f"{wire.HEAD_HEADER}: {head_size}\r\n"
        f"Content-Type: {wire.CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n{closing}\r\n"
    ).encode() + body


def refusal(status: int, text: str) -> bytes:
    """What is said of a call that is none of ours, or none that may be made."""
    body = text.encode()
    return (
        f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def parse_answer(data: bytes) -> SmallAnswer | None:
    """The answer that *data* is, from its first byte to its last; None for anything else."""
    status = _ANSWERS.get(data[:_ANSWER_START])
    end = data.find(_END, 0, MAX_HEAD_CHARS)
    if status is None or end < 0:
        return None
    _, _, fields = _split(data, _ANSWER_START, end)
    size = fields.get("Content-Length", "")
    head_size = fields.get(wire.HEAD_HEADER, "")
    if fields.keys() != _ANSWER_NAMES or size != str(len(data) - end - len(_END)) or not head_size.isdecimal():
        return None
    return SmallAnswer(status, int(head_size), data[end + len(_END) :])


def _split(data: bytes, start: int, end: int) -> tuple[str, str, dict[str, str]]:
    """The first line's two words and the fields; a field that comes twice or is none spoils the names."""
    first, *lines = data[start:end].decode("latin-1").split("\r\n")
    target, _, rest = first.partition(" ")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        fields["" if name in fields else name] = value
    return target, rest, fields
