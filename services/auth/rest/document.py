"""The members of a JSON body, read by type and refused in Go's words · pure.

A null is an absent member; names of members are read in any letter case, and the last of two equal ones wins.

Source: InfluxDB 2.x's answers to bad bodies, and Go's ``encoding/json``.
"""

from __future__ import annotations

from typing import Any

from common.errors import Invalid
from common.gojson import JsonError, decode, kind_of
from services.auth.rest import ids

MAX_INT64 = (1 << 63) - 1


class Document:
    """The members of a JSON object, read by type; every refusal is Invalid with *prefix* before Go's text."""

    def __init__(self, value: Any, prefix: str = "", path: str = "") -> None:
        if value is not None and not isinstance(value, dict):
            raise Invalid(f"{prefix}json: cannot unmarshal {kind_of(value)} into Go value of type object")
        self._given: dict[str, Any] = value or {}
        self._members = {name.lower(): member for name, member in self._given.items()}
        self._prefix = prefix
        self._path = path

    @classmethod
    def parse(cls, body: bytes, prefix: str = "") -> Document:
        """The object in *body*; a null is an empty one."""
        try:
            return cls(decode(body), prefix)
        except JsonError as error:
            raise Invalid(f"{prefix}{error}") from None

    def __contains__(self, name: str) -> bool:
        return self.value(name) is not None

    @property
    def members(self) -> dict[str, Any]:
        """All members as they were given, unread."""
        return self._given

    def value(self, name: str) -> Any:
        """A member, unread; None = absent."""
        return self._members.get(name.lower())

    def text(self, name: str) -> str | None:
        value: str | None = self._typed(name, str, "string")
        return value

    def flag(self, name: str) -> bool | None:
        value: bool | None = self._typed(name, bool, "bool")
        return value

    def integer(self, name: str) -> int | None:
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not -MAX_INT64 - 1 <= value <= MAX_INT64:
            shown = f"number {value}" if isinstance(value, float) else kind_of(value)
            raise self._mismatch(name, shown, "int64")
        return value

    def id(self, name: str) -> str | None:
        """An id; an empty text is refused."""
        value = self.text(name)
        return None if value is None else ids.parse_id(value, self._prefix)

    def array(self, name: str) -> list[Any] | None:
        value: list[Any] | None = self._typed(name, list, "array")
        return value

    def texts(self, name: str) -> list[str] | None:
        items = self.array(name)
        for item in items or ():
            if not isinstance(item, str):
                raise self._mismatch(name, kind_of(item), "string")
        return items

    def document(self, name: str) -> Document:
        """An object; an absent one is empty."""
        return self._inner(name, self.value(name))

    def documents(self, name: str) -> list[Document] | None:
        items = self.array(name)
        return None if items is None else [self._inner(name, item) for item in items]

    def text_map(self, name: str) -> dict[str, str] | None:
        """Texts by names that are the client's own; a null among them is an empty text."""
        value: dict[str, Any] | None = self._typed(name, dict, "map[string]string")
        if value is None:
            return None
        texts = {key: "" if item is None else item for key, item in value.items()}
        for item in texts.values():
            if not isinstance(item, str):
                raise self._mismatch(name, kind_of(item), "string")
        return texts

    def _inner(self, name: str, value: Any) -> Document:
        if value is not None and not isinstance(value, dict):
            raise self._mismatch(name, kind_of(value), "object")
        return Document(value, self._prefix, f"{self._path}{name}.")

    def _typed(self, name: str, type: type, go_type: str) -> Any:
        value = self.value(name)
        if value is not None and not isinstance(value, type):
            raise self._mismatch(name, kind_of(value), go_type)
        return value

    def _mismatch(self, name: str, word: str, go_type: str) -> Invalid:
        field = f"{self._path}{name}"
        return Invalid(f"{self._prefix}json: cannot unmarshal {word} into Go struct field .{field} of type {go_type}")
