"""JSON read as Go's decoder reads it, with its texts · pure.

Only the first value of a body counts; the last of two equal keys wins; bytes that are not UTF-8 become U+FFFD.

Source: InfluxDB 2.x's answers to bad bodies, and Go's ``encoding/json``.
"""

from __future__ import annotations

import json
import re
from typing import Any

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


def kind_of(value: Any) -> str:
    """What Go calls the kind of a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
