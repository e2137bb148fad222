"""The v2 resource API: handed to auth as it is, with the identity that was verified here.

Source: docs/rpc.md, ``auth.rest``; spec of credentials, sections 1, 2 and 4.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import hdrs, web

from common.errors import InfluxError, MethodNotAllowed, NotImplementedHere
from services.gateway import csrf
from services.gateway.bodies import whole_body
from services.gateway.credentials import Credential, find_basic, find_session
from services.gateway.dialects import layout_of
from services.gateway.exchange import Exchange
from services.gateway.gateway import Gateway
from services.gateway.relay import passed_on
from services.gateway.routes import is_open_rest

SETTING = "TIDEGATE_REST_MAX_BODY_BYTES"
SETUP = "/api/v2/setup"
PASSED_HEADERS = ("content-type", "accept", "origin")
TIMEOUT_S = 30.0
# Auth may be starting again; only what changes nothing is asked twice.
RETRY_FOR_S = 2.0
CORS = {
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE, PATCH",
    "Access-Control-Allow-Headers": (
        "Accept, Content-Type, Content-Length, Accept-Encoding, Authorization, User-Agent"
    ),
}
_PASSWORD = re.compile(r"/api/v2/(me|users/[^/]+)/password/?")


def preflight(exchange: Exchange) -> web.Response:
    """OPTIONS on a v2 path, which needs no credentials."""
    if not exchange.request.headers.get(hdrs.ORIGIN):
        return exchange.answer(405)
    return exchange.answer(204, None, CORS)


async def rest(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    """One request of the resource API."""
    request = exchange.request
    identity = None
    if not is_open_rest(request.method, exchange.path):
        identity = (await gateway.caller_of(exchange)).wire
    own = _own_credential(exchange)
    # A browser may reach a server that is not set up yet, and anyone may set that up: no other site may make it do so.
    if (own is not None and own.scheme == "session") or exchange.path.rstrip("/") == SETUP:
        csrf.check(request.method, request.headers)
    head: dict[str, Any] = {
        "method": request.method,
        "path": exchange.path,
        "query": [list(pair) for pair in exchange.pairs],
        "headers": {name: request.headers[name] for name in PASSED_HEADERS if name in request.headers},
        "identity": identity,
        "scheme": own.scheme if own is not None else "",
        "user": own.user if own is not None else "",
        "secret": own.secret if own is not None else "",
        "remote": exchange.remote,
        "request_id": exchange.request_id,
    }
    try:
        async with whole_body(request, gateway.config.rest_max_body_bytes, SETTING, gateway.budget) as body:
            retry_for_s = RETRY_FOR_S if request.method in (hdrs.METH_GET, hdrs.METH_HEAD) else 0
            answer = await gateway.client.call(
                gateway.config.auth_url, "auth.rest", head, [body], timeout_s=TIMEOUT_S, retry_for_s=retry_for_s
            )
    except InfluxError as error:
        return exchange.refuse(error, layout_of(exchange.path))
    gateway.identities.heed(answer.head.get("changes", ()))
    status = answer.head["status"]
    response = exchange.answer(status, b"".join(answer.parts) if status not in (204, 304) else None)
    for name, value in answer.head["headers"]:
        if passed_on([(name, value)]):
            if name.lower() == "set-cookie":
                # Auth does not see how the client is connected.
                secure = "; Secure" if gateway.proxies.is_tls(request) else ""
                response.headers.add(name, value + secure)
            else:
                response.headers[name] = value
    return response


async def planned(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    """A path of the API that this version does not serve yet."""
    await gateway.caller_of(exchange)
    if exchange.request.method != hdrs.METH_POST:
        raise MethodNotAllowed("allow: OPTIONS, POST")
    raise NotImplementedHere(f"{exchange.route.path} is not served by this version")


def _own_credential(exchange: Exchange) -> Credential | None:
    """The credential that the path itself takes: at sign-in, sign-out and a change of password."""
    headers, path = exchange.request.headers, exchange.path.rstrip("/")
    authorization = headers.get(hdrs.AUTHORIZATION, "")
    if path == "/api/v2/signin":
        return find_basic(authorization)
    if path == "/api/v2/signout":
        return find_session(headers.get(hdrs.COOKIE, ""))
    if exchange.request.method == hdrs.METH_PUT and _PASSWORD.fullmatch(exchange.path):
        return find_basic(authorization)
    return None
