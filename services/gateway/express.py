"""Small writes whose head has come before: the same bytes mean the same request, so nothing of it is read again.

A client that writes single points sends the same head with each of them. aiohttp takes 60 us to read one, to make a
request and a task of it, and to write its answer. Here the first one goes that way and is remembered once it has been
answered; the next one that is equal to the byte and whole in one piece costs a digest and a look-up. Whatever is not as
usual (a credential that has to be asked for, no room, an answer that is no 204 next time round) goes the long way.

No HTTP is parsed here, and no head is kept: they hold secrets. A head is known by a keyed digest of it and of the
address it came from. Rights are looked up for each write; only what the bytes of a head say is remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import HttpVersion11, hdrs

from common.budget import Budget
from common.errors import Unavailable
from common.web import status_of
from services.gateway import dialects
from services.gateway.batching import Batcher, Write
from services.gateway.exchange import Exchange, mint_id
from services.gateway.identity import Identities
from services.gateway.meter import Meter
from services.gateway.raw_answers import STATUS_CLIENT_GONE, refusal_of, render_head

MAX_HEADS = 4096
MAX_HEAD_BYTES = 4096
MAX_BODY_BYTES = 16 << 10
_END_OF_HEAD = b"\r\n\r\n"
# What makes a request one that is more than its head and as many bytes as Content-Length says.
UNUSUAL = (hdrs.TRANSFER_ENCODING, hdrs.EXPECT, hdrs.UPGRADE, hdrs.TRAILER)


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What a head says.

    Attributes:
        credential: under what ``Identities`` remembers the credential.
        length: bytes of the body.
        raw_path, agent: for the figures.
        headers: of every answer, without the id of the request.
        request_id: that the client gives; None = the id of the write is told.
    """

    credential: bytes
    dialect: str
    params: dict[str, str]
    encoding: str
    length: int
    raw_path: str
    agent: str
    headers: dict[str, str]
    request_id: str | None


class Express:
    """The heads that are known, and the writes that go by them.

    Attributes:
        taken: how many writes have gone the short way.
    """

    def __init__(
        self, identities: Identities, batcher: Batcher, budget: Budget, meter: Meter, write_timeout_s: float
    ) -> None:
        self._identities = identities
        self._batcher = batcher
        self._budget = budget
        self._meter = meter
        self._write_timeout_s = write_timeout_s
        self._key = secrets.token_bytes(32)
        self._heads: OrderedDict[bytes, KnownHead] = OrderedDict()
        self.taken = 0

    def __len__(self) -> int:
        return len(self._heads)

    def digest(self, data: bytes, peer: bytes) -> tuple[bytes, int] | None:
        """Digest of the head that *data* begins with, and its length; None when it is no write or too long."""
        if not data.startswith((b"POST /write", b"POST /api/v2/write")):
            return None
        stop = data.find(_END_OF_HEAD, 0, MAX_HEAD_BYTES) + len(_END_OF_HEAD)
        if stop < len(_END_OF_HEAD):
            return None
        return hashlib.blake2b(data[:stop] + peer, key=self._key, digest_size=16).digest(), stop

    def learn(self, digest: bytes, exchange: Exchange, item: Write, credential: bytes) -> None:
        """Remember a request that was answered 204, and whose body was all that followed its head."""
        request = exchange.request
        if (
            request.version != HttpVersion11
            or not request.keep_alive
            or request.content_length != len(item.body)
            or len(item.body) > MAX_BODY_BYTES
            or any(name in request.headers for name in UNUSUAL)
            or self._identities.recall(credential) is None
        ):
            return
        headers = exchange.headers()
        told = headers.pop("X-Request-Id")
        self._heads[digest] = KnownHead(
            credential=credential,
            dialect=item.dialect,
            params=item.params,
            encoding=item.encoding,
            length=len(item.body),
            raw_path=request.raw_path.partition("?")[0],
            agent=request.headers.get(hdrs.USER_AGENT, ""),
            headers=headers,
            request_id=None if told == exchange.id.hex() else told,
        )
        if len(self._heads) > MAX_HEADS:
            self._heads.popitem(last=False)

    def begin(self, data: bytes, peer: bytes, answer: Callable[[bytes], None]) -> asyncio.Future[None] | None:
        """Send the write that *data* is on its way.

        Args:
            answer: is given the whole answer, once; not if the future is cancelled.

        Returns:
            The future of the write, or None when *data* has to go the long way.
        """
        found = self.digest(data, peer)
        known = self._heads.get(found[0]) if found is not None else None
        if found is None or known is None or len(data) != found[1] + known.length:
            return None
        caller = self._identities.recall(known.credential)
        if caller is None:
            return None
        now_ns = time.time_ns()
        write = Write(
            id=mint_id(now_ns),
            now_ns=now_ns,
            identity=caller.wire,
            org=caller.org,
            dialect=known.dialect,
            params=known.params,
            encoding=known.encoding,
            body=data[found[1] :],
            deadline_s=time.monotonic() + self._write_timeout_s,
        )
        try:
            self._budget.take(known.length)
        except Unavailable:
            return None
        try:
            done = self._batcher.push(write)
        except Unavailable:
            self._budget.give(known.length)
            return None
        self._heads.move_to_end(found[0])
        self.taken += 1
        done.add_done_callback(lambda done: self._finish(known, write, done, answer))
        return done

    def _finish(
        self, known: KnownHead, write: Write, done: asyncio.Future[None], answer: Callable[[bytes], None]
    ) -> None:
        self._budget.give(known.length)
        status = STATUS_CLIENT_GONE
        if not done.cancelled():
            error = done.exception()
            request_id = known.request_id or write.id.hex()
            status, text = (
                self._no_content(known, request_id) if error is None else self._refuse(known, request_id, error)
            )
            answer(text)
        seconds = (time.time_ns() - write.now_ns) / 1e9
        self._meter.request(hdrs.METH_POST, known.raw_path, status, known.agent, seconds)

    def _no_content(self, known: KnownHead, request_id: str) -> tuple[int, bytes]:
        return 204, render_head(204, {**known.headers, "X-Request-Id": request_id})

    def _refuse(self, known: KnownHead, request_id: str, error: BaseException) -> tuple[int, bytes]:
        refusal = refusal_of(error, request_id, known.raw_path)
        more, body = dialects.dress(refusal, known.dialect)
        status = status_of(refusal)
        headers = {**known.headers, "X-Request-Id": request_id, **more, "Content-Length": str(len(body))}
        return status, render_head(status, headers) + body
