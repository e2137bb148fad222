"""One request and what every answer to it carries; the only maker of responses."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata

from aiohttp import hdrs, web

from common.errors import InfluxError
from common.web import status_of
from services.gateway import dialects
from services.gateway.dialects import Layout
from services.gateway.query_string import Pairs, first_values
from services.gateway.routes import Route

# The API that is spoken (decision 11).
INFLUX_VERSION = "v2.9.0"


def _own_version() -> str:
    try:
        return metadata.version("tidegate")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "dev"


STANDARD = {
    "X-Influxdb-Build": "OSS",
    "X-Influxdb-Version": INFLUX_VERSION,
    "X-Tidegate-Version": _own_version(),
    "Server": "Tidegate",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


def mint_id(now_ns: int) -> bytes:
    """A new id of a request: 8 bytes Unix ms, 8 random ones."""
    return (now_ns // 1_000_000).to_bytes(8, "big") + os.urandom(8)


class Exchange:
    """A request as the handlers see it.

    Attributes:
        id: minted here for each request; the id of the write, if it is one. Never taken from the client.
        now_ns: when the request came.
        path: decoded, without the query.
        pairs, query: the parameters of the URL; in *query* the first one of a name counts.
        verified: the credential was accepted (later v1 answers carry Vary).
        org_id: organization of the caller, once known; for the access log.
    """

    __slots__ = (
        "id",
        "now_ns",
        "org_id",
        "pairs",
        "path",
        "query",
        "remote",
        "request",
        "request_id",
        "route",
        "verified",
    )

    def __init__(self, request: web.BaseRequest, route: Route, path: str, pairs: Pairs, remote: str) -> None:
        self.request = request
        self.route = route
        self.path = path
        self.pairs = pairs
        self.query = first_values(pairs)
        self.remote = remote
        self.now_ns = time.time_ns()
        self.id = mint_id(self.now_ns)
        given = request.headers.get("X-Request-Id")
        self.request_id = given if given is not None and _REQUEST_ID.fullmatch(given) else self.id.hex()
        self.verified = False
        self.org_id: str | None = None

    def headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The headers of an answer."""
        headers = {**STANDARD, "X-Request-Id": self.request_id}
        if self.route.dialect == "v1" and self.verified:
            headers["Vary"] = "Accept-Encoding"
        elif self.route.dialect == "v2":
            origin = self.request.headers.get(hdrs.ORIGIN)
            if origin:
                headers["Access-Control-Allow-Origin"] = origin
        if more:
            headers.update(more)
        return headers

    def answer(self, status: int, body: bytes | None = None, more: Mapping[str, str] | None = None) -> web.Response:
        """A whole answer."""
        response = web.Response(status=status, body=body, headers=self.headers(more))
        if body is None and status != 204:
            # aiohttp would call an empty body a file.
            response.headers.popall(hdrs.CONTENT_TYPE, None)
        return response

    def refuse(self, error: InfluxError, layout: Layout = Layout.COMPACT) -> web.Response:
        """An error in the dress of the path."""
        headers, body = dialects.dress(error, self.route.dialect, layout)
        return self.answer(status_of(error), body, headers)


class Proxies:
    """Whose word about the client's address is believed.

    Args:
        trusted: addresses or networks, comma-separated. Raises ValueError on anything else.
    """

    def __init__(self, trusted: str) -> None:
        self._networks = [
            ipaddress.ip_network(text.strip(), strict=False) for text in trusted.split(",") if text.strip()
        ]
        self._is_trusted = lru_cache(maxsize=1024)(self._belongs)

    def remote_of(self, request: web.BaseRequest) -> str:
        """The client's address: the connection's, or what a trusted proxy says (the last one not itself trusted)."""
        remote = request.remote or ""
        if self._networks and self._is_trusted(remote):
            for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
                hop = hop.strip()
                if not _is_address(hop):
                    break
                remote = hop
                if not self._is_trusted(hop):
                    break
        return remote

    def is_tls(self, request: web.BaseRequest) -> bool:
        """Whether the client speaks TLS, to us or to a trusted proxy."""
        if request.secure:
            return True
        trusted = bool(self._networks) and self._is_trusted(request.remote or "")
        return trusted and request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"

    def _belongs(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
