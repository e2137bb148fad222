"""JSON bodies read as Go's decoder reads them, with its texts · pure.

Only the first value of a body counts; a null is an absent member; names of members are read in any letter case, and the
last of two equal ones wins; bytes that are not UTF-8 become U+FFFD.

Source: InfluxDB 2.x's answers to bad bodies, and Go's ``encoding/json``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from common.errors import Invalid
from services.auth.rest import ids

MAX_INT64 = (1 << 63) - 1
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_SPACES = " \t\r\n"
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_CONTEXTS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


class JsonError(ValueError):
    """A body that Go's decoder refuses; the text is the decoder's."""


def _refuse_constant(word: str) -> Any:
    raise JsonError(f"invalid character '{word[0]}' looking for beginning of value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode(body: bytes) -> Any:
    """The first JSON value in *body*. Raises JsonError."""
    text = body.decode("utf-8", "replace")
    start = len(text) - len(text.lstrip(_SPACES))
    if start == len(text):
        raise JsonError("EOF")
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise JsonError(_describe(error, text)) from None
    except RecursionError:
        raise JsonError("exceeded max depth") from None
    except JsonError:
        raise
    except ValueError:  # an integer of thousands of digits
        raise JsonError("json: cannot unmarshal number into Go value of type int64") from None
    return _without_surrogates(value) if _SURROGATE_ESCAPE.search(text) else value


def _describe(error: json.JSONDecodeError, text: str) -> str:
    if error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    # Python points at the backslash of a bad escape; within strings blanks count.
    in_string = error.msg.startswith("Invalid")
    position = error.pos + error.msg.startswith("Invalid \\")
    while not in_string and position < len(text) and text[position] in _SPACES:
        position += 1
    if position >= len(text):
        return "unexpected EOF"
    context = _CONTEXTS.get(error.msg.partition(":")[0] if "delimiter" not in error.msg else error.msg)
    if context is None:  # Expecting ',' delimiter: Go says what it stands behind
        opened = _innermost(text[: error.pos])
        context = "after array element" if opened == "[" else "after object key:value pair"
    if error.msg == "Expecting value" and text[position] in _LITERALS:
        return _describe_literal(text, position)
    return f"invalid character {_shown(text[position])} {context}"


def _describe_literal(text: str, start: int) -> str:
    """Where a word that begins like true, false or null goes wrong."""
    word = _LITERALS[text[start]]
    for offset, expected in enumerate(word):
        if start + offset >= len(text):
            break
        if (char := text[start + offset]) != expected:
            return f"invalid character {_shown(char)} in literal {word} (expecting '{expected}')"
    return "unexpected EOF"


def _shown(char: str) -> str:
    """A character as Go quotes it."""
    escapes = {"'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return f"'{escapes.get(char, char)}'"


def _innermost(text: str) -> str:
    """The bracket that is open at the end of *text*."""
    opened: list[str] = []
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
        if token[0] in "[{":
            opened.append(token[0])
        elif token[0] in "]}" and opened:
            opened.pop()
    return opened[-1] if opened else ""


def _without_surrogates(value: Any) -> Any:
    """Lone surrogates become U+FFFD, as in Go: they can't be stored nor sent."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _word(value: Any) -> str:
    """What Go calls the kind of a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


class Document:
    """The members of a JSON object, read by type; every refusal is Invalid with *prefix* before Go's text."""

    def __init__(self, value: Any, prefix: str = "", path: str = "") -> None:
        if value is not None and not isinstance(value, dict):
            raise Invalid(f"{prefix}json: cannot unmarshal {_word(value)} into Go value of type object")
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
            shown = f"number {value}" if isinstance(value, float) else _word(value)
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
                raise self._mismatch(name, _word(item), "string")
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
                raise self._mismatch(name, _word(item), "string")
        return texts

    def _inner(self, name: str, value: Any) -> Document:
        if value is not None and not isinstance(value, dict):
            raise self._mismatch(name, _word(value), "object")
        return Document(value, self._prefix, f"{self._path}{name}.")

    def _typed(self, name: str, type: type, go_type: str) -> Any:
        value = self.value(name)
        if value is not None and not isinstance(value, type):
            raise self._mismatch(name, _word(value), go_type)
        return value

    def _mismatch(self, name: str, word: str, go_type: str) -> Invalid:
        field = f"{self._path}{name}"
        return Invalid(f"{self._prefix}json: cannot unmarshal {word} into Go struct field .{field} of type {go_type}")
