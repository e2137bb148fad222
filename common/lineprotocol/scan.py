"""Pieces of a line behind its key: names, strings, booleans, and where a bad line ends. · pure

Runs plain and compiled (``words.py``).

    boolean = "t" | "T" | "true" | "True" | "TRUE" | "f" | "F" | "false" | "False" | "FALSE"
    string  = '"' { byte | "\\" byte } '"'              a backslash escapes a quote and a backslash; may hold line ends
"""

from __future__ import annotations

from common.lineprotocol.keys import find_key_end, zero_bytes
from common.lineprotocol.numbers import ends_line, ends_value
from common.lineprotocol.reasons import BAD_BOOLEAN, OK
from common.lineprotocol.words import Text, byte_at, load64, lowest_bit, u64

_LINE_FEED, _RETURN, _BLANK, _QUOTE, _COMMA, _EQUALS, _BACKSLASH = 10, 13, 32, 34, 44, 61, 92
_QUOTES, _BACKSLASHES, _LINE_FEEDS = 0x2222222222222222, 0x5C5C5C5C5C5C5C5C, 0x0A0A0A0A0A0A0A0A


def skip_blanks(text: Text, i: int) -> int:
    """The first byte from *i* on that is no blank."""
    while byte_at(text, i) == _BLANK:
        i += 1
    return i


def find_name_end(text: Text, i: int) -> int:
    """Where a field's name ends: at ``=``, a comma or a blank that is not escaped, or the line's end."""
    start = i
    while True:
        c = byte_at(text, i)
        if c == _EQUALS or c == _COMMA or c == _BLANK:
            if i == start or byte_at(text, i - 1) != _BACKSLASH:
                return i
        elif c <= _RETURN and ends_line(text, i):
            return i
        i += 1


def same_bytes(text: Text, a: int, a_stop: int, b: int) -> bool:
    """Whether ``text[a:a_stop]`` stands at *b* too."""
    while a + 8 <= a_stop:
        if load64(text, a) != load64(text, b):
            return False
        a += 8
        b += 8
    if a == a_stop:
        return True
    unused = u64(64 - 8 * (a_stop - a))
    return u64((load64(text, a) ^ load64(text, b)) << unused) == u64(0)


def scan_boolean(text: Text, start: int) -> tuple[int, int, int]:
    """Read a boolean: (code, where it ends, 0 or 1)."""
    i = start
    while i < start + 6 and not ends_value(text, i):
        i += 1
    size = i - start
    first = byte_at(text, start)
    value = int(first == 116 or first == 84)  # t T
    if size == 1 and (value == 1 or first == 102 or first == 70):  # f F
        return OK, i, value
    word = load64(text, start)
    if size == 4:
        word = word & u64(0xFFFFFFFF)
        if word == u64(0x65757274) or word == u64(0x65757254) or word == u64(0x45555254):  # true True TRUE
            return OK, i, 1
    if size == 5:
        word = word & u64(0xFFFFFFFFFF)
        if word == u64(0x65736C6166) or word == u64(0x65736C6146) or word == u64(0x45534C4146):  # false False FALSE
            return OK, i, 0
    return BAD_BOOLEAN, start, 0


def find_string_end(text: Text, i: int, end: int) -> tuple[int, int, int]:
    """Where the string that begins at *i* ends: (its closing quote or *end*, 1 if it has escapes, line ends in it)."""
    escapes = 0
    breaks = 0
    while i < end:
        word = load64(text, i)
        hits = (
            zero_bytes(word ^ u64(_QUOTES)) | zero_bytes(word ^ u64(_BACKSLASHES)) | zero_bytes(word ^ u64(_LINE_FEEDS))
        )
        if hits == u64(0):
            i += 8
            continue
        i += lowest_bit(hits) >> 3
        if i >= end:
            break
        c = byte_at(text, i)
        if c == _QUOTE:
            return i, escapes, breaks
        if c == _BACKSLASH:
            following = byte_at(text, i + 1)
            if i + 1 < end and (following == _QUOTE or following == _BACKSLASH):
                escapes = 1
                i += 1
        else:
            breaks += 1
        i += 1
    return end, escapes, breaks


def find_line_end(text: Text, i: int, end: int) -> tuple[int, int]:
    r"""Where a bad line that begins at *i* ends: (at its LF, number of line ends inside of it).

    Behind the first blank that is not escaped, ``="`` opens a string (``\="`` does not), in which a line end does not
    count.
    """
    i = find_key_end(text, i)
    breaks = 0
    while i < end and byte_at(text, i) != _LINE_FEED:
        i += 1
        if byte_at(text, i) == _QUOTE and byte_at(text, i - 1) == _EQUALS and byte_at(text, i - 2) != _BACKSLASH:
            i, _, lines = find_string_end(text, i + 1, end)
            breaks += lines
    return min(i, end), breaks
