"""``/query``: parameters from the URL and the body, then to a query instance and back.

Source: spec of /query, sections 1 and 2.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from common.errors import Invalid, MethodNotAllowed, Unavailable
from services.gateway.bodies import whole_body
from services.gateway.calls import RETRY_FOR_S, find_query, never_reached, was_answered
from services.gateway.exchange import Exchange
from services.gateway.forms import GZIP, inflate, read_form
from services.gateway.gateway import Gateway
from services.gateway.protocol import GuardedHandler
from services.gateway.query_string import Pairs, first_values
from services.gateway.relay import Broken, ResponseSink, Sink, is_broken_off, passed_on, relay
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
        sink = ResponseSink(exchange)
        asker = Asker(
            caller.wire, request.headers.get(hdrs.ACCEPT, ""), exchange.remote, exchange.request_id, exchange.now_ns
        )
        await ask(gateway, parameters_of(given), asker, sink)
        _remember(gateway, exchange)
        return sink.response


def parameters_of(given: Mapping[str, str]) -> dict[str, str]:
    """What a query instance is told of the parameters *given*. Raises Invalid when there is nothing to ask."""
    params = {name: given[name] for name in PARAMETERS if name in given}
    if not params.get("q", "").strip():
        raise Invalid('missing required parameter "q"')
    return params


def _remember(gateway: Gateway, exchange: Exchange) -> None:
    """Let the next question with the same head go the short way (``short_questions.py``)."""
    protocol = exchange.request.protocol
    if gateway.question_heads is not None and isinstance(protocol, GuardedHandler) and protocol.whole_head is not None:
        gateway.question_heads.learn(protocol.whole_head, exchange)


async def _body_parameters(request: web.BaseRequest, body: bytes, max_bytes: int) -> dict[str, str]:
    """The parameters in a body; of several of one name the first counts."""
    content_type = request.headers.get(hdrs.CONTENT_TYPE, "")
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")

    def read() -> Pairs:
        return read_form(content_type, inflate(body, max_bytes, SETTING) if encoding in GZIP else body)

    return first_values(await asyncio.to_thread(read) if len(body) > INLINE_BODY_BYTES or encoding in GZIP else read())


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and what of the request is told beside its parameters; ``identity`` in its wire form."""

    identity: bytes = field(repr=False)
    accept: str
    remote: str
    request_id: str
    now_ns: int


async def ask(gateway: Gateway, params: dict[str, str], asker: Asker, sink: Sink) -> None:
    """Ask a query instance, whose answer goes to *sink*; another one where the first can't be reached and asking twice
    does no harm."""
    head = {
        "params": params,
        "accept": asker.accept,
        "identity": asker.identity,
        "now_ns": asker.now_ns,
        "remote": asker.remote,
        "request_id": asker.request_id,
    }
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
                gateway.identities.heed(answer.head.get("changes", ()))
                return await relay(
                    sink,
                    answer.head["status"],
                    passed_on(answer.head["headers"]),
                    answer.parts(),
                    answer.parts_at_hand(),
                    flush_each=params.get("chunked") == "true",
                    send_timeout_s=gateway.config.send_timeout_s,
                    on_bytes=gateway.meter.answer_bytes.inc,
                )
        except Unavailable as error:
            if begun and is_broken_off(sink):
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
