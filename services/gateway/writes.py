"""``/write`` and ``/api/v2/write``: small bodies join the next call to ingest, large ones stream alone.

Never decodes a body. Source: spec of writing, section 1; design, decisions 6 and 7.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import hdrs, web

from common.errors import InternalError, MethodNotAllowed, Unavailable
from common.rpc.client import RpcClient, Streamed
from services.gateway import bodies
from services.gateway.batching import SMALL_BODY_BYTES, Result, Send, Write, error_of_result, write_head
from services.gateway.calls import was_answered
from services.gateway.exchange import Exchange
from services.gateway.gateway import Gateway, find_credential
from services.gateway.protocol import GuardedHandler
from services.gateway.replicas import Replica

PARAMETERS = {
    "v1": ("db", "rp", "precision", "consistency"),
    "v2": ("org", "orgID", "bucket", "precision", "accept_partial"),
}
# What a streamed body may hold in buffers at one time: aiohttp's, the piece under way, the socket's.
STREAM_BYTES = 1 << 20


async def write(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    """One client write."""
    request, config = exchange.request, gateway.config
    caller = await gateway.caller_of(exchange)
    if request.method == hdrs.METH_OPTIONS:
        return exchange.answer(200, None, {"Allow": "OPTIONS, POST"})
    if request.method != hdrs.METH_POST:
        raise MethodNotAllowed("allow: OPTIONS, POST")
    dialect = exchange.route.dialect
    if dialect == "v1":
        max_bytes, setting = config.max_v1_body_bytes, "TIDEGATE_MAX_V1_BODY_BYTES"
    else:
        max_bytes, setting = config.max_v2_body_bytes, "TIDEGATE_MAX_V2_BODY_BYTES"
    length = bodies.check_length(request, max_bytes, setting)
    query = exchange.query
    item = Write(
        id=exchange.id,
        now_ns=exchange.now_ns,
        identity=caller.wire,
        org=caller.org,
        dialect=dialect,
        params={name: query[name] for name in PARAMETERS[dialect] if name in query},
        encoding=request.headers.get(hdrs.CONTENT_ENCODING, ""),
        body=b"",
        deadline_s=time.monotonic() + config.write_timeout_s,
    )
    await bodies.invite(request)
    if length is None or length <= SMALL_BODY_BYTES:
        with gateway.budget.held(SMALL_BODY_BYTES if length is None else length):
            first, whole = await bodies.read_up_to(request, min(SMALL_BODY_BYTES, max_bytes))
            if whole and len(first) > max_bytes:
                raise bodies.too_large(max_bytes, setting)
            if whole and len(first) <= SMALL_BODY_BYTES:
                item.body = first
                await gateway.batcher.submit(item)
                _remember(gateway, exchange, item)
                return exchange.answer(204)
    else:
        first = b""
    with gateway.budget.held(STREAM_BYTES):
        await _send_large(gateway, item, _Body(request, first, max_bytes, setting, length))
    return exchange.answer(204)


def _remember(gateway: Gateway, exchange: Exchange, item: Write) -> None:
    """Let the next write with the same head go the short way (``express.py``)."""
    protocol, credential = exchange.request.protocol, find_credential(exchange)
    if gateway.express is None or not isinstance(protocol, GuardedHandler) or credential is None:
        return
    if protocol.whole_head is not None:
        key = gateway.identities.key_of(item.dialect, credential, exchange.remote)
        gateway.express.learn(protocol.whole_head, exchange, item, key)


class _Body:
    """A body that can be read once.

    Attributes:
        length: None if the client has not said it.
        touched: its reading has begun.
        limit: put off with each piece, so that an ingest which does not go on is noticed.
    """

    def __init__(
        self, request: web.BaseRequest, first: bytes, max_bytes: int, setting: str, length: int | None
    ) -> None:
        self.length = length
        self._pieces = bodies.iter_pieces(request, first, max_bytes, setting)
        self.touched = False
        self.limit: asyncio.Timeout | None = None

    async def pieces(self, timeout_s: float) -> AsyncIterator[bytes]:
        self.touched = True
        async for piece in self._pieces:
            if self.limit is not None:
                self.limit.reschedule(asyncio.get_running_loop().time() + timeout_s)
            yield piece


async def _send_large(gateway: Gateway, item: Write, body: _Body) -> None:
    """Stream one write to an ingest.

    A body is never held whole here, so once a piece of it has gone out the write can't be tried elsewhere: then it is
    503, and the client sends it again (docs/decisions/0007-gateway-writes.md).
    """
    while True:
        async with gateway.turns.turn(item.org, item.deadline_s) as replica:
            try:
                async with gateway.watch.over(replica):
                    result = await _stream(gateway.client, replica, item, body, gateway.config.stream_timeout_s)
            except Unavailable as error:
                if was_answered(error):
                    gateway.replicas.busy(replica)
                else:
                    gateway.replicas.failed(replica)
                if body.touched or time.monotonic() >= item.deadline_s:
                    raise
                item.attempt += 1
                continue
            gateway.replicas.worked(replica)
            if result is not None:
                raise error_of_result(result)
            return


async def _stream(client: RpcClient, replica: Replica, item: Write, body: _Body, timeout_s: float) -> Result:
    head = write_head([item], size=-1)
    try:
        async with asyncio.timeout(timeout_s) as body.limit:
            pieces = body.pieces(timeout_s)
            parts = pieces if body.length is None else Streamed(pieces, body.length)
            async with client.stream(replica.url, "ingest.write", head, parts, timeout_s=timeout_s) as answer:
                async for _ in answer.parts():
                    pass
                return _results(answer.head, 1)[0]
    except TimeoutError:
        raise Unavailable(f"ingest did not go on with the write within {timeout_s:g} s") from None


def sender(client: RpcClient, timeout_s: float) -> Send:
    """How the batcher calls an ingest."""

    async def send(replica: Replica, writes: Sequence[Write]) -> Sequence[Result]:
        # All bodies as one part: each part costs either side 5 us.
        parts = [b"".join([write.body for write in writes])]
        answer = await client.call(replica.url, "ingest.write", write_head(writes), parts, timeout_s=timeout_s)
        return _results(answer.head, len(writes))

    return send


def _results(head: Any, count: int) -> list[Result]:
    results = head.get("results") if isinstance(head, dict) else None
    if not isinstance(results, list) or len(results) != count:
        raise InternalError("ingest answered in a form that is not its own")
    return results
