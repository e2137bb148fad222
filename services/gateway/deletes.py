"""``/api/v2/delete``: the body as it is to a query instance, which reads it.

Source: InfluxDB 2.x, "POST /api/v2/delete".
"""

from __future__ import annotations

import asyncio
import time

from aiohttp import hdrs, web

from common.errors import MethodNotAllowed, Unavailable
from services.gateway.bodies import whole_body
from services.gateway.calls import RETRY_FOR_S, find_query, never_reached, was_answered
from services.gateway.exchange import Exchange
from services.gateway.forms import GZIP, inflate
from services.gateway.gateway import Gateway

PARAMETERS = ("org", "orgID", "bucket", "bucketID")
SETTING = "TIDEGATE_REST_MAX_BODY_BYTES"


async def delete(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    """One delete."""
    request = exchange.request
    caller = await gateway.caller_of(exchange)
    if request.method != hdrs.METH_POST:
        raise MethodNotAllowed("allow: OPTIONS, POST")
    max_bytes = gateway.config.rest_max_body_bytes
    with gateway.meter.query_slot(gateway.config.max_queries):
        async with whole_body(request, max_bytes, SETTING, gateway.budget) as body:
            if request.headers.get(hdrs.CONTENT_ENCODING, "") in GZIP:
                body = await asyncio.to_thread(inflate, body, max_bytes, SETTING)
            head: dict[str, object] = {
                "params": {name: exchange.query[name] for name in PARAMETERS if name in exchange.query},
                "identity": caller.wire,
                "request_id": exchange.request_id,
            }
            await _ask(gateway, head, body)
    return exchange.answer(204)


async def _ask(gateway: Gateway, head: dict[str, object], body: bytes) -> None:
    """Ask a query instance; another one only where the first was never reached: a delete that is done twice would
    take what was written in between."""
    deadline_s = time.monotonic() + RETRY_FOR_S
    while True:
        replica = await find_query(gateway.replicas, deadline_s)
        replica.in_flight += 1
        try:
            timeout_s = gateway.config.query_timeout_s
            async with gateway.watch.over(replica):
                await gateway.client.call(replica.url, "query.delete", head, [body], timeout_s=timeout_s)
            gateway.replicas.worked(replica)
            return
        except Unavailable as error:
            if was_answered(error):
                raise
            gateway.replicas.failed(replica)
            if not never_reached(error) or time.monotonic() > deadline_s:
                raise
        finally:
            replica.in_flight -= 1
