"""Users' regular expressions: RE2 only, with Go's words for what is wrong in them · pure.

Source: Go's ``regexp/syntax`` errors; spec/influxql.md, 2.5.
"""

from __future__ import annotations

from typing import Any

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
# Instructions of a pattern's program; each of its characters adds one. Where the states of RE2's automaton outgrow its
# memory, each byte of text costs up to 40 ns an instruction: /(a{1,50}){1,20}b/ took 80 s a MB with 8 MiB, 0.3 s with
# 32. Lists of names need less than one a character; nested repetitions need thousands in all.
MAX_INSTRUCTIONS = 2_000
_AUTOMATON_BYTES = 32 << 20


def check_pattern(pattern: str) -> None:
    """Raises Invalid with Go's text when *pattern* is no regular expression of RE2, or one that would take long."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise Invalid(f"error parsing regexp: expression too large: {len(pattern)} characters")
    try:
        program = make_program(pattern)
    except re2.error as error:
        raw = error.args[0] if error.args else ""
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        fault, _, where = text.partition(": ")
        raise Invalid(f"error parsing regexp: {_GO_WORDS.get(fault, fault)}: `{where}`") from None
    if program.programsize > MAX_INSTRUCTIONS + len(pattern):
        raise Invalid(f"error parsing regexp: expression too large: `{pattern}`")


def make_program(pattern: str) -> Any:
    """The compiled pattern. Raises re2.error.

    RE2's Python wrapper keeps the last 128, whose automata may hold gigabytes together: they are let go at once.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _AUTOMATON_BYTES
    program = re2.compile(pattern, options)
    re2.purge()
    return program
