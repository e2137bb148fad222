from __future__ import annotations

import pytest

from common.messages import CALLERS
from services.gateway.routes import ROUTES, find_route, is_open_rest


@pytest.mark.parametrize(
    ("path", "dialect", "action"),
    [
        ("/write", "v1", "write"),
        ("/write/", "v1", "write"),
        ("/query/", "v1", "query"),
        ("/ping", "open", "ping"),
        ("/ping/", "open", "ping"),
        ("/write/x", "open", "missing"),
        ("/", "open", "missing"),
        ("", "open", "missing"),
        ("//", "open", "missing"),
        ("/Write", "open", "missing"),
        ("/api/v2", "v2", "rest"),
        ("/api/v2/", "v2", "rest"),
        ("/api/v2/write", "v2", "write"),
        ("/api/v2/write/", "v2", "write"),
        ("/api/v2/buckets/1", "v2", "rest"),
        ("/private/legacy/authorizations", "v2", "rest"),
        ("/legacy/authorizations/", "v2", "rest"),
        ("/legacy", "open", "missing"),
        ("/v1/x", "v2", "rest"),
        ("/health", "open", "health"),
        ("/debug/pprof", "open", "missing"),
        ("/api/v2/delete", "v2", "delete"),
    ],
)
def test_paths(path: str, dialect: str, action: str) -> None:
    route = find_route(path)
    assert (route.dialect, route.action) == (dialect, action)


def test_what_is_called_exists() -> None:
    assert {route.rpc for route in ROUTES if route.rpc is not None} <= set(CALLERS)


def test_what_needs_no_credentials() -> None:
    assert is_open_rest("GET", "/api/v2")
    assert not is_open_rest("GET", "/api/v2/")
    assert not is_open_rest("HEAD", "/api/v2")
    assert is_open_rest("POST", "/api/v2/signin/")
    assert not is_open_rest("GET", "/api/v2/signin")
    assert not is_open_rest("GET", "/api/v2/me")
