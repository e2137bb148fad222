"""Bodies of ``/query`` → parameters · pure: urlencoded, multipart, ``application/vnd.influxql``, gzip around them.

Source: spec of /query, section 1; decision 9.
"""

from __future__ import annotations

import re
import zlib

from common.errors import Invalid, TooLarge
from services.gateway.query_string import MAX_PAIRS, Pairs, parse_pairs

_PARAMETER = re.compile(rb'([a-zA-Z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')
GZIP = ("gzip", "x-gzip")
_STEP = 1 << 20


def read_form(content_type: str, body: bytes) -> Pairs:
    """The parameters in *body*; none for a type that is no form. Raises Invalid when it is not what it says."""
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return parse_pairs(_text(body.strip(b"\r\n")))
    if kind == "application/vnd.influxql":
        return [("q", _text(body))]
    if kind == "multipart/form-data":
        boundary = _parameters(rest.encode("utf-8", "surrogateescape")).get(b"boundary", b"")
        if not 0 < len(boundary) <= 200:
            raise Invalid("no multipart boundary param in Content-Type")
        return _read_multipart(boundary, body)
    return []


def inflate(body: bytes, max_bytes: int, setting: str) -> bytes:
    """*body* without its gzip. Raises Invalid for a cut or corrupt one, TooLarge past *max_bytes*."""
    pieces: list[bytes] = []
    total = 0
    while body:  # one or several members
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                piece = member.decompress(body, _STEP)
            except zlib.error as error:
                raise Invalid(f"cannot inflate the body: {error}") from None
            body = member.unconsumed_tail
            total += len(piece)
            if total > max_bytes:
                raise TooLarge(f"the inflated body is over {max_bytes} bytes ({setting})")
            pieces.append(piece)
            if not piece and not body and not member.eof:
                raise Invalid("cannot inflate the body: unexpected EOF")
        body = member.unused_data
    return b"".join(pieces)


def _read_multipart(boundary: bytes, body: bytes) -> Pairs:
    # body = *preamble delimiter part *(delimiter part) close; RFC 2046, section 5.1.1
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, MAX_PAIRS + 1)
    pairs: Pairs = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return pairs
        head, blank, value = piece.partition(b"\r\n\r\n")
        if not blank or len(pairs) >= MAX_PAIRS:
            break
        for line in head.split(b"\r\n"):
            name, _, rest = line.partition(b":")
            if name.strip().lower() == b"content-disposition":
                # A file's text counts as the value: `curl -F q=@file`.
                given = _parameters(rest).get(b"name")
                if given is not None:
                    pairs.append((_text(given), _text(value)))
    raise Invalid("the multipart body does not end as it should")


def _parameters(text: bytes) -> dict[bytes, bytes]:
    values: dict[bytes, bytes] = {}
    for match in _PARAMETER.finditer(text):
        quoted = match[2]
        value = re.sub(rb"\\(.)", rb"\1", quoted) if quoted is not None else match[3]
        values.setdefault(match[1].lower(), value)
    return values


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
