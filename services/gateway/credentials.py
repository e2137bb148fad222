"""Headers, cookie and query string → Credential · pure.

Says what was *given*; whether it is any good is for auth to say. None = nothing that counts as a credential.
Source: spec of credentials, sections 2 and 3; decision 3.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

SESSION_COOKIE = "influxdb-oss-session"


@dataclass(frozen=True, slots=True)
class Credential:
    """``scheme``: token, bearer, basic, query (``u``, ``p``) or session; ``user``: only with basic and query."""

    scheme: str
    user: str
    secret: str = field(repr=False)


def find_v1(authorization: str, query: Mapping[str, str]) -> Credential | None:
    """The credential of a v1 request: the first form present is the only one tried.

    Args:
        authorization: the header, "" = none.
        query: parameters of the URL; those of a form body don't count.
    """
    user, secret = query.get("u"), query.get("p")
    # u and p count only when both are non-empty; else the header is read (InfluxDB 2.x, http/legacy).
    if user and secret:
        return Credential("query", user, secret)
    scheme, space, value = authorization.partition(" ")
    if not space:
        return None
    if scheme == "Token":  # exactly this letter case, and exactly one blank in the whole header
        if not value or " " in value:
            return None
        _, colon, after = value.partition(":")
        return Credential("token", "", after if colon else value)
    return _basic(value) if scheme.lower() == "basic" else _bearer(scheme, value)


def find_v2(authorization: str, cookie: str) -> Credential | None:
    """The credential of a v2 request: a Token or Bearer header, even a wrong one, else the session cookie."""
    scheme, space, value = authorization.partition(" ")
    if space:
        if scheme.lower() == "token":
            return Credential("token", "", value)
        bearer = _bearer(scheme, value)
        if bearer is not None:
            return bearer
    return find_session(cookie)


def find_basic(authorization: str) -> Credential | None:
    """User and password of a Basic header, for the paths that take them themselves."""
    scheme, space, value = authorization.partition(" ")
    return _basic(value) if space and scheme.lower() == "basic" else None


def find_session(cookie: str) -> Credential | None:
    """The session key in a Cookie header."""
    if SESSION_COOKIE not in cookie:
        return None
    for pair in cookie.split(";"):
        name, _, value = pair.strip(" \t").partition("=")
        if name == SESSION_COOKIE:
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            return Credential("session", "", value) if value else None
    return None


def _bearer(scheme: str, value: str) -> Credential | None:
    return Credential("bearer", "", value) if scheme.lower() == "bearer" and value else None


def _basic(value: str) -> Credential | None:
    try:
        text = base64.b64decode(value.encode("ascii"), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, UnicodeEncodeError):
        return None
    user, colon, secret = text.partition(":")
    return Credential("basic", user, secret) if colon else None
