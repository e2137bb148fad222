"""The table of public paths: path, dialect, action, what is called · pure.

Source: spec of credentials, section 1; decisions 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """One public path.

    Attributes:
        path: exact path, or, ending in ``*``, every path that begins so.
        dialect: whose rules read the credential and dress the errors: v1, v2, or open (no credentials at all).
        action: name of the handler.
        rpc: the internal method behind it.
        allow: methods that it serves; None = the handler says.
    """

    path: str
    dialect: str
    action: str
    rpc: str | None = None
    allow: tuple[str, ...] | None = None


QUERY_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
WRITE_METHODS = ("OPTIONS", "POST")

ROUTES: tuple[Route, ...] = (
    Route("/write", "v1", "write", "ingest.write", WRITE_METHODS),
    Route("/query", "v1", "query", "query.influxql", QUERY_METHODS),
    Route("/ping", "open", "ping", None, ("GET", "HEAD", "OPTIONS")),
    Route("/health", "open", "health"),
    Route("/ready", "open", "ready"),
    Route("/metrics", "open", "metrics"),
    Route("/api/v2/write", "v2", "write", "ingest.write", WRITE_METHODS),
    Route("/api/v2/query", "v2", "planned", None, WRITE_METHODS),
    Route("/api/v2/delete", "v2", "delete", "query.delete", WRITE_METHODS),
    Route("/legacy/authorizations*", "v2", "rest", "auth.rest"),
    Route("/api/v2*", "v2", "rest", "auth.rest"),
    Route("/private/*", "v2", "rest", "auth.rest"),
    Route("/v1*", "v2", "rest", "auth.rest"),
    Route("*", "open", "missing"),
)

_EXACT = {route.path: route for route in ROUTES if not route.path.endswith("*")}
_PREFIXES = [(route.path[:-1], route) for route in ROUTES if route.path.endswith("*")]

# v2 paths that need no credentials, without a last slash. Any other method on them does.
OPEN_REST = frozenset(
    (
        ("GET", "/api/v2"),
        ("GET", "/api/v2/setup"),
        ("POST", "/api/v2/setup"),
        ("POST", "/api/v2/signin"),
        ("POST", "/api/v2/signout"),
        ("GET", "/api/v2/swagger.json"),
    )
)


def find_route(path: str) -> Route:
    """The row of *path*; one slash at the end of an exact path doesn't count."""
    route = _EXACT.get(path)
    if route is None and path.endswith("/"):
        route = _EXACT.get(path[:-1])
    if route is None:
        route = next(route for prefix, route in _PREFIXES if path.startswith(prefix))
    return route


def is_open_rest(method: str, path: str) -> bool:
    """Whether a resource path is served without credentials (``/api/v2/`` with its slash is not)."""
    if path.endswith("/") and path != "/api/v2/":
        path = path[:-1]
    return (method, path) in OPEN_REST
