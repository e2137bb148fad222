"""Credentials of writers in each form that Tidegate takes, for what verifying them costs."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jwt

from tests.stack import Stack

TOKEN, BASIC, QUERY, JWT, COLD_TOKEN, COLD_BASIC = "token", "basic", "query", "jwt", "cold token", "cold basic"
JWT_SECRET = "the shared secret of the benchmark's 1.x tokens"
PASSWORD = "a-password-of-the-benchmark"
# So many credentials are made at one time.
MAKERS = 16


@dataclass(frozen=True, slots=True)
class Login:
    """What a write carries: an Authorization header each, in turn, or an addition to the query string; neither = the
    server's own headers."""

    authorizations: list[str] = field(default_factory=list)
    query: str = ""


def _permissions(stack: Stack) -> dict[str, Any]:
    org_id = stack.org_id()
    scope = {"type": "buckets", "orgID": org_id}
    return {"orgID": org_id, "permissions": [{"action": "write", "resource": scope}]}


def _legacy(stack: Stack, names: list[str]) -> None:
    """A 1.x name and its password, each."""
    body = _permissions(stack)

    def make(name: str) -> None:
        id = stack.json("POST", "/private/legacy/authorizations", {**body, "token": name})["id"]
        stack.json("POST", f"/private/legacy/authorizations/{id}/password", {"password": PASSWORD})

    with ThreadPoolExecutor(MAKERS) as pool:
        list(pool.map(make, names))


def _basic_header(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()


def _token(stack: Stack, _database: str, _count: int) -> Login:
    return Login([f"Token {stack.json('POST', '/api/v2/authorizations', _permissions(stack))['token']}"])


def _basic(stack: Stack, database: str, _count: int) -> Login:
    _legacy(stack, [database])
    return Login([_basic_header(database)])


def _query(stack: Stack, database: str, _count: int) -> Login:
    _legacy(stack, [database])
    return Login(query=f"&u={database}&p={PASSWORD}")


def _jwt(stack: Stack, database: str, _count: int) -> Login:
    _legacy(stack, [database])
    claims = {"username": database, "exp": int(time.time()) + 3600}
    return Login([f"Bearer {jwt.encode(claims, JWT_SECRET, algorithm='HS256')}"])


def _cold_token(stack: Stack, _database: str, count: int) -> Login:
    body = _permissions(stack)
    with ThreadPoolExecutor(MAKERS) as pool:
        made = pool.map(lambda _: stack.json("POST", "/api/v2/authorizations", body)["token"], range(count))
        return Login([f"Token {value}" for value in made])


def _cold_basic(stack: Stack, database: str, count: int) -> Login:
    names = [f"{database}-{number}" for number in range(count)]
    _legacy(stack, names)
    return Login([_basic_header(name) for name in names])


FORMS: dict[str, Callable[[Stack, str, int], Login]] = {
    # form of the credential: (stack, database, how many different ones) → login
    TOKEN: _token,
    BASIC: _basic,
    QUERY: _query,
    JWT: _jwt,
    COLD_TOKEN: _cold_token,
    COLD_BASIC: _cold_basic,
}
