"""Ids as text · pure.

An id is 64 bits as 16 hex digits, lower case on output, never zero. Source: InfluxDB 2.x, "Identifiers and tokens".
"""

from __future__ import annotations

import re

from common.errors import Invalid

WRONG_LENGTH = "id must have a length of 16 bytes"
WRONG_DIGITS = "invalid ID"
_HEX = re.compile(r"[0-9A-Fa-f]{16}", re.ASCII)
_ZERO = "0" * 16


def find_id(text: str) -> str | None:
    """*text* as an id in its own spelling (lower case), or None if it is none."""
    return text.lower() if _HEX.fullmatch(text) and text != _ZERO else None


def parse_id(text: str, prefix: str = "") -> str:
    """*text* as an id. Raises Invalid, with *prefix* before InfluxDB's text."""
    if len(text.encode("utf-8", "surrogatepass")) != 16:
        raise Invalid(prefix + WRONG_LENGTH)
    found = find_id(text)
    if found is None:
        raise Invalid(prefix + WRONG_DIGITS)
    return found
