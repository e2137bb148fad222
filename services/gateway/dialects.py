"""Errors in v1 and v2 dress · pure. The only place that knows the two JSON bodies.

Source: spec of errors, sections 2 and 4; decisions 3, 10 and 11.
"""

from __future__ import annotations

import math
from enum import Enum

import orjson

from common.errors import InfluxError, MethodNotAllowed, TooManyRequests, Unauthorized, Unavailable

JSON = "application/json; charset=utf-8"
INTERNAL_TEXT = "An internal error has occurred - check server logs"
# What is behind these paths answers errors on one line, all other resources indent them with tabs.
COMPACT_RESOURCES = frozenset(("write", "query", "delete", "variables", "telegrafs"))
# Longer texts are cut in the header (not in the body): proxies refuse long headers.
MAX_HEADER_TEXT = 512


class Layout(Enum):
    """White space of an error body."""

    COMPACT = "compact"
    TABS = "tabs"


def layout_of(path: str) -> Layout:
    """The layout in which errors of the resource at *path* come."""
    if not path.startswith("/api/v2/"):
        return Layout.TABS if path.startswith(("/api/", "/private/", "/legacy/", "/v1")) else Layout.COMPACT
    return Layout.COMPACT if path[8:].partition("/")[0] in COMPACT_RESOURCES else Layout.TABS


def dress(error: InfluxError, dialect: str, layout: Layout = Layout.COMPACT) -> tuple[dict[str, str], bytes]:
    """Headers and body of an error.

    Args:
        dialect: ``v1`` adds what 1.x clients read: ``error``, X-Influxdb-Error, WWW-Authenticate.
    """
    message = printable(str(error))
    members = {"code": error.code, "message": message}
    headers = {"Content-Type": JSON, "X-Platform-Error-Code": error.code}
    if dialect == "v1":
        members["error"] = message
        headers["X-Influxdb-Error"] = one_line(message)
        if isinstance(error, Unauthorized):
            headers["WWW-Authenticate"] = 'Basic realm="InfluxDB"'
    if isinstance(error, Unavailable | TooManyRequests) or error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    if isinstance(error, MethodNotAllowed) and str(error).startswith("allow: "):
        headers["Allow"] = str(error)[len("allow: ") :]
    return headers, encode_json(members, layout)


def encode_json(members: dict[str, str], layout: Layout) -> bytes:
    """A flat object, escaped as Go does it."""
    if layout is Layout.COMPACT:
        return escape_html(orjson.dumps(members))
    lines = ",\n".join(f"\t{_string(name)}: {_string(value)}" for name, value in members.items())
    return escape_html(f"{{\n{lines}\n}}".encode())


def escape_html(json: bytes) -> bytes:
    """Go's encoder writes these characters, which stand in strings only, as escapes."""
    json = json.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return json.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def printable(text: str) -> str:
    """*text* with U+FFFD for bytes that were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text


def one_line(text: str) -> str:
    """*text* as the value of a header."""
    line = "".join(character if character.isprintable() else " " for character in text[:MAX_HEADER_TEXT])
    return line.strip()


def _string(text: str) -> str:
    return orjson.dumps(text).decode()
