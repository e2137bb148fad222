"""Query strings and urlencoded forms → pairs, as Go's ``net/url`` reads them · pure.

A pair with a bad escape or a ``;`` is dropped, the others count. Bytes that are not UTF-8 become surrogate escapes.
"""

from __future__ import annotations

import re

from common.errors import Invalid

MAX_PAIRS = 1000
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

Pairs = list[tuple[str, str]]


def parse_pairs(text: str, max_pairs: int = MAX_PAIRS) -> Pairs:
    """The name-value pairs of *text* in order. Raises Invalid past *max_pairs*."""
    if not text:
        return []
    pieces = text.split("&", max_pairs)
    if len(pieces) > max_pairs:
        raise Invalid(f"more than {max_pairs} parameters")
    pairs: Pairs = []
    for piece in pieces:
        if not piece or ";" in piece:
            continue
        name, _, value = piece.partition("=")
        if "%" in piece or "+" in piece:
            if _BAD_ESCAPE.search(piece):
                continue
            name, value = _unescape(name.replace("+", " ")), _unescape(value.replace("+", " "))
        pairs.append((name, value))
    return pairs


def first_values(pairs: Pairs) -> dict[str, str]:
    """Name → value; the first one of a name counts."""
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values


def unescape_path(raw: str) -> str:
    """A path as it was meant. Raises Invalid for a bad escape."""
    if "%" not in raw:
        return raw
    if _BAD_ESCAPE.search(raw):
        raise Invalid("bad escape in the path")
    return _unescape(raw)


def _unescape(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), raw).decode("utf-8", "surrogateescape")
