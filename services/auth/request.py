"""One call of the resource API, and its answer, without HTTP · pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import Invalid, Unauthorized
from common.identity import Identity
from services.auth import ids, jsonlayout
from services.auth.gojson import Document

JSON = "application/json; charset=utf-8"
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a route's function sees.

    Attributes:
        params: parts of the path that the route names.
        scheme, user, secret: the credential, only on paths that take one themselves.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    scheme: str = ""
    user: str = ""
    secret: str = field(default="", repr=False)
    remote: str = ""
    body: bytes = field(default=b"", repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""

    @property
    def caller(self) -> Identity:
        if self.identity is None:
            raise Unauthorized("unauthorized access")
        return self.identity

    def arg(self, name: str) -> str:
        """The first value of a query parameter; empty = absent."""
        return next((value for key, value in self.query if key == name), "")

    def arg_id(self, name: str, prefix: str = "") -> str:
        """A query parameter that holds an id, or an empty text. Raises Invalid."""
        value = self.arg(name)
        return ids.parse_id(value, prefix) if value else ""

    def id(self, name: str = "id", prefix: str = "") -> str:
        """An id in the path. Raises Invalid."""
        return ids.parse_id(self.params[name], prefix)

    def document(self, prefix: str = "") -> Document:
        return Document.parse(self.body, prefix)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: Any, status: int = 200, layout: str = jsonlayout.INDENTED) -> Answer:
        return cls(status, jsonlayout.encode(value, layout), (("Content-Type", JSON),))


NO_CONTENT = Answer(204)
# Answered as text by InfluxDB's router, before any rule is asked.
PAGE_NOT_FOUND = Answer(
    404,
    b"404 page not found\n",
    (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")),
)


def escape_query(value: str) -> str:
    """*value* as it stands in a query string."""
    return "".join(chr(b) if b in _UNRESERVED else f"%{b:02X}" for b in value.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for."""

    limit: int = 20
    offset: int = 0
    after: str = ""
    descending: bool = False

    @classmethod
    def of(cls, request: Request) -> Page:
        """Read the paging parameters. Raises Invalid."""
        limit = _integer(request, "limit", 20)
        if not 1 <= limit <= 100:
            raise Invalid("limit must be between 1 and 100")
        offset = _integer(request, "offset", 0)
        if offset < 0:
            raise Invalid("offset is invalid")
        after = request.arg_id("after", "decoding after: ")
        descending = BOOLEANS.get(request.arg("descending") or "false")
        if descending is None:
            raise Invalid("descending is invalid")
        return cls(limit, offset, after, descending)

    def links(self, path: str, filters: Mapping[str, str], returned: int) -> dict[str, str]:
        """``prev``, ``self`` and ``next`` as far as there are such pages."""
        links = {}
        if self.offset > 0:
            links["prev"] = self._link(path, filters, max(0, self.offset - self.limit))
        links["self"] = self._link(path, filters, self.offset)
        if returned >= self.limit:
            links["next"] = self._link(path, filters, self.offset + self.limit)
        return links

    def _link(self, path: str, filters: Mapping[str, str], offset: int) -> str:
        members = {
            "descending": "true" if self.descending else "false",
            "limit": str(self.limit),
            "offset": str(offset),
            **{name: value for name, value in filters.items() if value},
        }
        pairs = (f"{name}={escape_query(value)}" for name, value in sorted(members.items()))
        return f"{path}?{'&'.join(pairs)}"


def _integer(request: Request, name: str, default: int) -> int:
    text = request.arg(name)
    if not text:
        return default
    try:
        value = int(text) if text.isascii() and len(text) <= 18 and text.lstrip("+-").isdecimal() else None
    except ValueError:
        value = None
    if value is None:
        raise Invalid(f"{name} is invalid")
    return value
