"""One call of the resource API, and its answer, without HTTP · pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import Unauthorized
from common.identity import Identity
from services.auth.rest import ids, jsonlayout
from services.auth.rest.document import Document

JSON = "application/json; charset=utf-8"
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
