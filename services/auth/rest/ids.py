"""Ids as text · pure.

An id is 64 bits as 16 hex digits, lower case on output, never zero. Source: InfluxDB 2.x, "Identifiers and tokens".
"""

from __future__ import annotations

from common.errors import Invalid
from common.model import format_id

WRONG_LENGTH = "id must have a length of 16 bytes"
WRONG_DIGITS = "invalid ID"


def find_id(text: str) -> str | None:
    """*text* as an id in its own spelling (lower case), or None if it is none."""
    if len(text) != 16 or not text.isascii():
        return None
    try:
        number = int(text, 16) if text.isalnum() else 0
    except ValueError:
        return None
    return format_id(number) if number else None


def parse_id(text: str, prefix: str = "") -> str:
    """*text* as an id. Raises Invalid, with *prefix* before InfluxDB's text."""
    if len(text.encode("utf-8", "surrogatepass")) != 16:
        raise Invalid(prefix + WRONG_LENGTH)
    found = find_id(text)
    if found is None:
        raise Invalid(prefix + WRONG_DIGITS)
    return found
