"""Names as text and as written in lines: escapes, both ways. · pure

Text is str decoded from UTF-8 with surrogate escapes, so that any bytes survive.
"""

from __future__ import annotations

import re

# One backslash before one of these stands for it alone; any other backslash stands for itself.
_ESCAPED = re.compile(rb"\\([,= ])")
_SPECIAL_IN_NAME = re.compile(rb"[,= ]")
_SPECIAL_IN_MEASUREMENT = re.compile(rb"[, ]|(?<=\\)=")


def unescape_name(written: bytes) -> str:
    """A tag key, tag value or field key as text."""
    return _ESCAPED.sub(rb"\1", written).decode("utf-8", "surrogateescape")


# A measurement's "=" needs no escape, but may have one.
unescape_measurement = unescape_name


def escape_name(text: str) -> bytes:
    """A tag key, tag value or field key as written."""
    return _SPECIAL_IN_NAME.sub(rb"\\\g<0>", text.encode("utf-8", "surrogateescape"))


def escape_measurement(text: str) -> bytes:
    """A measurement as written, in canonical form."""
    return _SPECIAL_IN_MEASUREMENT.sub(rb"\\\g<0>", text.encode("utf-8", "surrogateescape"))


def split_tag_key(tag_key: bytes) -> list[tuple[str, str]]:
    """Tags of a canonical tag key, ``tag=v,tag2=v2``: (key, value) pairs, in its order."""
    if not tag_key:
        return []
    pairs = (re.split(rb"(?<!\\)=", tag, maxsplit=1) for tag in re.split(rb"(?<!\\),", tag_key))
    return [(unescape_name(key), unescape_name(value)) for key, value in pairs]
