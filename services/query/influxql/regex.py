"""Users' regular expressions: RE2 only, with Go's words for what is wrong in them · pure.

Source: Go's ``regexp/syntax`` errors; spec/influxql.md, 2.5.
"""

from __future__ import annotations

import re2

from common.errors import Invalid

# What RE2 in C++ calls the fault → what Go calls it.
_GO_WORDS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "unexpected )": "unexpected )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "pattern too large": "expression too large",
}
MAX_PATTERN_CHARS = 64 << 10


def check_pattern(pattern: str) -> None:
    """Raises Invalid with Go's text when *pattern* is no regular expression of RE2."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise Invalid(f"error parsing regexp: expression too large: {len(pattern)} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        raw = error.args[0] if error.args else ""
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        fault, _, where = text.partition(": ")
        raise Invalid(f"error parsing regexp: {_GO_WORDS.get(fault, fault)}: `{where}`") from None
