"""Heads of ``/query`` requests that are known: all of one but its target.

A client that asks sends the same header lines with each question; only the target, or the body, differs. The lines of
the first one are read by aiohttp and remembered here, by a keyed digest of them and of the address they came from: they
hold secrets. Rights are looked up for each question; only what the bytes of a head say is remembered.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from aiohttp import HttpVersion11, hdrs

from services.gateway.credentials import find_v1
from services.gateway.exchange import Exchange
from services.gateway.express import MAX_BODY_BYTES, MAX_HEADS, UNUSUAL
from services.gateway.identity import Identities
from services.gateway.relay import accepts_gzip

MAX_HEAD_BYTES = 4096
_END_OF_HEAD = b"\r\n\r\n"
# Visible characters without "#", which aiohttp takes for the beginning of a fragment.
_REQUEST_LINE = re.compile(rb"(GET|POST) /query(?:\?([!\"$-~]*))? HTTP/1\.1\r\n")


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """What the lines of a head say.

    Attributes:
        credential: under what ``Identities`` remembers the credential of the Authorization header; None = it has none.
        remote: address of the client, by the rules of ``Proxies``.
        length: bytes of the body.
        headers: of every answer, without the id of the request.
        request_id: that the client gives; None = one is minted.
    """

    method: str
    credential: bytes | None
    remote: str
    accept: str
    accepts_gzip: bool
    content_type: str
    length: int
    agent: str
    headers: dict[str, str]
    request_id: str | None


class QuestionHeads:
    """The heads that are known, at most ``MAX_HEADS``; the oldest is forgotten first."""

    def __init__(self, identities: Identities, max_header_bytes: int) -> None:
        self._identities = identities
        # So no line of a known head is longer than aiohttp would take it.
        self._max_bytes = min(MAX_HEAD_BYTES, max_header_bytes)
        self._key = secrets.token_bytes(32)
        self._heads: OrderedDict[bytes, KnownQuestion] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heads)

    def digest(self, data: bytes, peer: bytes) -> bytes | None:
        """Digest of the head that *data* begins with; None when it is no question or too long."""
        line = _REQUEST_LINE.match(data)
        stop = self._end_of_head(data)
        return None if line is None or stop is None else self._digest(line, data, stop, peer)

    def find(self, data: bytes, peer: bytes) -> tuple[KnownQuestion, str, bytes] | None:
        """The head, the query string and the body of the request that *data* is from its first byte to its last."""
        line = _REQUEST_LINE.match(data)
        stop = self._end_of_head(data)
        if line is None or stop is None:
            return None
        known = self._heads.get(self._digest(line, data, stop, peer))
        if known is None or len(data) != stop + known.length:
            return None
        return known, (line[2] or b"").decode("ascii"), data[stop:]

    def learn(self, digest: bytes, exchange: Exchange) -> None:
        """Remember a request that was answered, and whose body was all that followed its head."""
        request = exchange.request
        length = request.content_length
        if length is None and request.method == hdrs.METH_GET:
            length = 0
        if (
            request.version != HttpVersion11
            or not request.keep_alive
            or length is None
            or length > MAX_BODY_BYTES
            or (request.method == hdrs.METH_GET and length)
            or hdrs.CONTENT_ENCODING in request.headers
            or any(name in request.headers for name in UNUSUAL)
        ):
            return
        credential = find_v1(request.headers.get(hdrs.AUTHORIZATION, ""), {})
        headers = exchange.headers()
        told = headers.pop("X-Request-Id")
        self._heads[digest] = KnownQuestion(
            method=request.method,
            credential=None if credential is None else self._identities.key_of("v1", credential, exchange.remote),
            remote=exchange.remote,
            accept=request.headers.get(hdrs.ACCEPT, ""),
            accepts_gzip=accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")),
            content_type=request.headers.get(hdrs.CONTENT_TYPE, ""),
            length=length,
            agent=request.headers.get(hdrs.USER_AGENT, ""),
            headers=headers,
            request_id=None if told == exchange.id.hex() else told,
        )
        if len(self._heads) > MAX_HEADS:
            self._heads.popitem(last=False)

    def _digest(self, line: re.Match[bytes], data: bytes, stop: int, peer: bytes) -> bytes:
        text = b"".join((line[1], b" ", data[line.end() : stop], peer))
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()

    def _end_of_head(self, data: bytes) -> int | None:
        stop = data.find(_END_OF_HEAD, 0, self._max_bytes)
        return None if stop < 0 else stop + len(_END_OF_HEAD)
