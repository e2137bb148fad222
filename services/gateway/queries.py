"""``/query``: parameters from the URL and the body, then to a query instance and back.

Source: spec of /query, sections 1 and 2.
"""

from __future__ import annotations

import asyncio
import re
import time

from aiohttp import hdrs, web

from common.errors import Invalid, MethodNotAllowed, Unavailable
from services.gateway.bodies import whole_body
from services.gateway.calls import RETRY_FOR_S, find_query, never_reached, was_answered
from services.gateway.exchange import Exchange
from services.gateway.forms import GZIP, inflate, read_form
from services.gateway.gateway import Gateway
from services.gateway.query_string import Pairs
from services.gateway.relay import Broken, is_broken_off, passed_on, relay
from services.gateway.routes import QUERY_METHODS
from services.gateway.watch import Stopped

PARAMETERS = ("q", "db", "rp", "epoch", "params", "chunked", "chunk_size", "pretty")
BODY_METHODS = frozenset((hdrs.METH_POST, hdrs.METH_PUT, hdrs.METH_PATCH))
SETTING = "TIDEGATE_QUERY_MAX_BODY_BYTES"
# Longer bodies are read in a thread.
INLINE_BODY_BYTES = 32 << 10
# A text with none of these words changes nothing, so it may be asked twice.
_CHANGES = re.compile(r"\b(DELETE|DROP|CREATE|ALTER|GRANT|REVOKE|SET|KILL|INTO)\b", re.IGNORECASE)


async def query(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    """One InfluxQL request."""
    request = exchange.request
    caller = await gateway.caller_of(exchange)
    if request.method == hdrs.METH_OPTIONS:
        return exchange.answer(200, None, {"Allow": ", ".join(QUERY_METHODS)})
    if request.method not in QUERY_METHODS:
        raise MethodNotAllowed(f"allow: {', '.join(QUERY_METHODS)}")
    max_bytes = gateway.config.query_max_body_bytes
    with gateway.meter.query_slot(gateway.config.max_queries):
        given = dict(exchange.query)
        if request.method in BODY_METHODS:
            async with whole_body(request, max_bytes, SETTING, gateway.budget) as body:
                given |= await _body_parameters(request, body, max_bytes)
        params = {name: given[name] for name in PARAMETERS if name in given}
        if not params.get("q", "").strip():
            raise Invalid('missing required parameter "q"')
        head = {
            "params": params,
            "accept": request.headers.get(hdrs.ACCEPT, ""),
            "identity": caller.wire,
            "now_ns": exchange.now_ns,
            "remote": exchange.remote,
            "request_id": exchange.request_id,
        }
        return await _ask(gateway, exchange, head)


async def _body_parameters(request: web.BaseRequest, body: bytes, max_bytes: int) -> dict[str, str]:
    """The parameters in a body; of several of one name the first counts."""
    content_type = request.headers.get(hdrs.CONTENT_TYPE, "")
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")

    def read() -> Pairs:
        return read_form(content_type, inflate(body, max_bytes, SETTING) if encoding in GZIP else body)

    pairs = await asyncio.to_thread(read) if len(body) > INLINE_BODY_BYTES or encoding in GZIP else read()
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values


async def _ask(gateway: Gateway, exchange: Exchange, head: dict[str, object]) -> web.StreamResponse:
    """Ask a query instance; another one where the first can't be reached and asking twice does no harm."""
    params = head["params"]
    assert isinstance(params, dict)
    repeatable = _CHANGES.search(params["q"]) is None
    deadline_s = time.monotonic() + RETRY_FOR_S
    while True:
        replica = await find_query(gateway.replicas, deadline_s)
        replica.in_flight += 1
        begun = False
        try:
            stream = gateway.client.stream(
                replica.url, "query.influxql", head, timeout_s=gateway.config.query_timeout_s
            )
            async with gateway.watch.over(replica), stream as answer:
                begun = True
                gateway.replicas.worked(replica)
                return await relay(
                    exchange,
                    answer.head["status"],
                    passed_on(answer.head["headers"]),
                    answer.parts(),
                    flush_each=params.get("chunked") == "true",
                    send_timeout_s=gateway.config.send_timeout_s,
                    on_bytes=gateway.meter.answer_bytes.inc,
                )
        except Unavailable as error:
            if begun and is_broken_off(exchange.request):
                raise Broken from error
            if begun or was_answered(error):
                raise
            gateway.replicas.failed(replica)
            if isinstance(error, Stopped):
                # It took its time to be found out: another instance has all of its own.
                deadline_s = time.monotonic() + RETRY_FOR_S
            if not (repeatable or never_reached(error)) or time.monotonic() > deadline_s:
                raise
        finally:
            replica.in_flight -= 1
