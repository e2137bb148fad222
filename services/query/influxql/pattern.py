"""Users' regular expressions as predicates on names and values: RE2, linear in time, whatever the bytes · pure."""

from __future__ import annotations

from collections.abc import Callable

from services.query.influxql import tree
from services.query.influxql.regex import make_program


def compile_pattern(regex: tree.RegexLiteral) -> Callable[[str], bool]:
    """Whether the pattern is found anywhere in a text; bytes that are not UTF-8 count as U+FFFD."""
    search = make_program(regex.pattern).search

    def matches(text: str) -> bool:
        try:
            return search(text) is not None
        except UnicodeEncodeError:
            plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return search(plain) is not None

    return matches
