"""Which part of a list a call asks for, and the links to the parts beside it · pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import Invalid
from services.auth.rest.request import BOOLEANS, Request

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


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
        # As Go encodes a form: a blank is a plus.
        pairs = (f"{name}={escape_query(value).replace('%20', '+')}" for name, value in sorted(members.items()))
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
