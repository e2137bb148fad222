"""Why a line does not parse: numbers in the kernels, InfluxDB's texts outside. · pure

Source: InfluxDB 2.9.0 as observed, and its ``models/points.go``.
"""

from __future__ import annotations

MAX_KEY_BYTES = 65535

OK = 0
MISSING_MEASUREMENT = 1
MISSING_FIELDS = 2
MISSING_TAG_KEY = 3
MISSING_TAG_VALUE = 4
BAD_TAG_FORMAT = 5
DUPLICATE_TAGS = 6
RESERVED_TAG_KEY = 7
MISSING_FIELD_KEY = 8
MISSING_FIELD_VALUE = 9
BAD_FIELD_FORMAT = 10
BAD_NUMBER = 11
BAD_BOOLEAN = 12
BAD_FLOAT = 13
UNBALANCED_QUOTES = 14
BAD_TIMESTAMP = 15
BAD_POINT = 16
INTEGER_RANGE = 17
UNSIGNED_RANGE = 18
TIMESTAMP_SYNTAX = 19
TIMESTAMP_RANGE = 20
TIME_RANGE = 21
KEY_TOO_LONG = 22

# {text} is what the kernel points at, {number} what it counted.
_TEXTS = {
    MISSING_MEASUREMENT: "missing measurement",
    MISSING_FIELDS: "missing fields",
    MISSING_TAG_KEY: "missing tag key",
    MISSING_TAG_VALUE: "missing tag value",
    BAD_TAG_FORMAT: "invalid tag format",
    DUPLICATE_TAGS: "duplicate tags",
    RESERVED_TAG_KEY: 'cannot use reserved tag key "{text}"',
    MISSING_FIELD_KEY: "missing field key",
    MISSING_FIELD_VALUE: "missing field value",
    BAD_FIELD_FORMAT: "invalid field format",
    BAD_NUMBER: "invalid number",
    BAD_BOOLEAN: "invalid boolean",
    BAD_FLOAT: "invalid float",
    UNBALANCED_QUOTES: "unbalanced quotes",
    BAD_TIMESTAMP: "bad timestamp",
    BAD_POINT: "point is invalid",
    INTEGER_RANGE: 'unable to parse integer {text}: strconv.ParseInt: parsing "{text}": value out of range',
    UNSIGNED_RANGE: 'unable to parse unsigned {text}: strconv.ParseUint: parsing "{text}": value out of range',
    TIMESTAMP_SYNTAX: 'strconv.ParseInt: parsing "{text}": invalid syntax',
    TIMESTAMP_RANGE: 'strconv.ParseInt: parsing "{text}": value out of range',
    TIME_RANGE: "time outside range -9223372036854775806 - 9223372036854775806",
    KEY_TOO_LONG: f"max key length exceeded: {{number}} > {MAX_KEY_BYTES}",
}

# Go prints these two reserved keys, which are no text, in its own way.
_QUOTED = {b"\x00": "\\x00", b"\xff": "\\xff"}


def format_reason(code: int, text: bytes, number: int) -> str:
    """InfluxDB's text for *code*; *text* is the part of the line that it names."""
    return _TEXTS[code].format(text=_QUOTED.get(text) or text.decode("utf-8", "replace"), number=number)
