"""The first part of a line, measurement and tags: where it ends, what is wrong with it, its canonical form. · pure

Runs plain and compiled (``words.py``).

    key         = measurement { "," tag "=" tag-value }        up to the first blank that is not escaped
    a byte behind a backslash ends nothing; ``\\,`` ``\\=`` ``\\ `` stand for the byte alone, other backslashes stay

Canonical: tags sorted by key (bytes, unescaped), each "," and " " escaped, "=" escaped in tags but not in measurements.
As lines must escape most of that anyway, a line's key is canonical as it stands unless its tags are not sorted, a
measurement escapes "=", or a tag value begins with "=".
"""

from __future__ import annotations

from typing import Any

from common.lineprotocol.numbers import ends_line
from common.lineprotocol.reasons import (
    BAD_TAG_FORMAT,
    MISSING_MEASUREMENT,
    MISSING_TAG_KEY,
    MISSING_TAG_VALUE,
    OK,
    RESERVED_TAG_KEY,
)
from common.lineprotocol.words import Text, byte_at, load64, lowest_bit, u64

_BLANK, _COMMA, _EQUALS, _BACKSLASH = 32, 44, 61, 92
_ONES, _HIGHS = 0x0101010101010101, 0x8080808080808080
_BLANKS, _BACKSLASHES, _LINE_FEEDS = 0x2020202020202020, 0x5C5C5C5C5C5C5C5C, 0x0A0A0A0A0A0A0A0A
# Reserved tag keys as little-endian words, compared without their last byte where they share a word with what follows.
_TIME = int.from_bytes(b"time", "little")
_FIELD = int.from_bytes(b"_field", "little")
_MEASUREMENT_1, _MEASUREMENT_2 = int.from_bytes(b"_measure", "little"), int.from_bytes(b"ment", "little")


def zero_bytes(x: int) -> int:
    """A word whose lowest set bit lies in the lowest byte of *x* that is 0; 0 when none is."""
    return u64(x - u64(_ONES)) & (x ^ u64(0xFFFFFFFFFFFFFFFF)) & u64(_HIGHS)


def find_key_end(text: Text, i: int) -> int:
    """Where the key that begins at *i* ends: a blank that is not escaped, or the line's end."""
    start = i
    while True:
        word = load64(text, i)
        hits = (
            zero_bytes(word ^ u64(_BLANKS)) | zero_bytes(word ^ u64(_BACKSLASHES)) | zero_bytes(word ^ u64(_LINE_FEEDS))
        )
        if hits == u64(0):
            i += 8
            continue
        i += lowest_bit(hits) >> 3
        c = byte_at(text, i)
        if c == _BACKSLASH:
            # What follows is escaped, unless it is another backslash (which escapes in turn) or ends the line.
            i += 1
            if byte_at(text, i) != _BACKSLASH and not ends_line(text, i):
                i += 1
            continue
        if c == 10 and i > start and byte_at(text, i - 1) == 13:
            return i - 1
        return i


def find_unescaped(text: Text, i: int, stop: int, wanted: int) -> int:
    """The first byte *wanted* in ``text[i + 1:stop]`` that is not behind a backslash, else *stop*."""
    i += 1
    while i < stop and (byte_at(text, i) != wanted or byte_at(text, i - 1) == _BACKSLASH):
        i += 1
    return i if i < stop else stop


def scan_tags(text: Text, i: int, stop: int, tags: Any) -> tuple[int, int]:
    """Check the tags of ``text[i:stop]``, which begins with the first tag's key.

    Args:
        tags: (capacity, 3): gets start, equals sign and stop of each tag; those past its capacity are only counted.

    Returns:
        (code, number of tags)
    """
    count = 0
    while True:
        start = i
        if i >= stop or byte_at(text, i) == _COMMA or byte_at(text, i) == _EQUALS:
            return MISSING_TAG_KEY, count
        i += 1
        while True:
            if i >= stop or (byte_at(text, i) == _COMMA and byte_at(text, i - 1) != _BACKSLASH):
                return MISSING_TAG_VALUE, count
            if byte_at(text, i) == _EQUALS and byte_at(text, i - 1) != _BACKSLASH:
                break
            i += 1
        equals = i
        i += 1
        if i >= stop or byte_at(text, i) == _COMMA:
            return MISSING_TAG_VALUE, count
        # The first byte of a value may be a bare "=": InfluxDB takes it for the value's.
        i += 1
        while i < stop and (byte_at(text, i) != _COMMA or byte_at(text, i - 1) == _BACKSLASH):
            if byte_at(text, i) == _EQUALS and byte_at(text, i - 1) != _BACKSLASH:
                return BAD_TAG_FORMAT, count
            i += 1
        if count < len(tags):
            tags[count, 0] = start
            tags[count, 1] = equals
            tags[count, 2] = i
        count += 1
        if i >= stop:
            return OK, count
        i += 1


def find_reserved(text: Text, tags: Any, count: int) -> int:
    """The first tag whose key is reserved, else -1."""
    for tag in range(count):
        start = tags[tag, 0]
        length = tags[tag, 1] - start
        word = load64(text, start)
        if length == 4 and word & u64(0xFFFFFFFF) == u64(_TIME):
            return tag
        if length == 6 and word & u64(0xFFFFFFFFFFFF) == u64(_FIELD):
            return tag
        ending = load64(text, start + 8) & u64(0xFFFFFFFF)
        if length == 12 and word == u64(_MEASUREMENT_1) and ending == u64(_MEASUREMENT_2):
            return tag
        if length == 1 and (byte_at(text, start) == 0 or byte_at(text, start) == 255):
            return tag
    return -1


def skip_escape(text: Text, i: int, stop: int) -> int:
    """*i*, or *i* + 1 when a backslash at *i* escapes the byte behind it."""
    if byte_at(text, i) == _BACKSLASH and i + 1 < stop:
        c = byte_at(text, i + 1)
        if c == _COMMA or c == _EQUALS or c == _BLANK:
            return i + 1
    return i


def compare_names(text: Text, a: int, a_stop: int, b: int, b_stop: int) -> int:
    """Order of two escaped names by their unescaped bytes: below, at or above 0."""
    while a < a_stop and b < b_stop:
        a = skip_escape(text, a, a_stop)
        b = skip_escape(text, b, b_stop)
        difference = byte_at(text, a) - byte_at(text, b)
        if difference != 0:
            return difference
        a += 1
        b += 1
    return (a_stop - a) - (b_stop - b)


def sort_tags(text: Text, tags: Any, count: int) -> bool:
    """Sort tags by key (Shell's sort: few tags are common, thousands must not be quadratic).

    Returns:
        whether two have the same key.
    """
    gap = 1
    while gap < count // 3:
        gap = gap * 3 + 1
    while gap > 0:
        for right in range(gap, count):
            start, equals, stop = tags[right, 0], tags[right, 1], tags[right, 2]
            at = right
            while at >= gap and compare_names(text, tags[at - gap, 0], tags[at - gap, 1], start, equals) > 0:
                for part in range(3):
                    tags[at, part] = tags[at - gap, part]
                at -= gap
            tags[at, 0] = start
            tags[at, 1] = equals
            tags[at, 2] = stop
        gap //= 3
    for tag in range(1, count):
        if compare_names(text, tags[tag - 1, 0], tags[tag - 1, 1], tags[tag, 0], tags[tag, 1]) == 0:
            return True
    return False


def is_canonical(text: Text, start: int, measurement_stop: int, tags: Any, count: int) -> bool:
    """Whether a good key is in canonical form as it stands in the line."""
    for i in range(start + 1, measurement_stop):
        if byte_at(text, i) == _EQUALS and byte_at(text, i - 1) == _BACKSLASH:
            return False
    for tag in range(count):
        if byte_at(text, tags[tag, 1] + 1) == _EQUALS:
            return False
        if tag > 0 and compare_names(text, tags[tag - 1, 0], tags[tag - 1, 1], tags[tag, 0], tags[tag, 1]) >= 0:
            return False
    return True


def write_canonical(text: Text, start: int, measurement_stop: int, tags: Any, count: int, out: int) -> tuple[int, int]:
    """Write a key in canonical form into *text* from *out* on; *tags* are sorted.

    Returns:
        (where its measurement ends, where it ends)
    """
    for i in range(start, measurement_stop):
        # "\=" becomes "=", but behind another backslash it has to stay: the plain form would read as an escape.
        escape = byte_at(text, i) == _BACKSLASH and i + 1 < measurement_stop and byte_at(text, i + 1) == _EQUALS
        if escape and not (i > start and byte_at(text, i - 1) == _BACKSLASH):
            continue
        text[out] = byte_at(text, i)
        out += 1
    measurement_out = out
    for tag in range(count):
        text[out] = _COMMA
        out += 1
        value = tags[tag, 1] + 1
        for i in range(tags[tag, 0], tags[tag, 2]):
            if i == value and byte_at(text, i) == _EQUALS:
                text[out] = _BACKSLASH
                out += 1
            text[out] = byte_at(text, i)
            out += 1
    return measurement_out, out


def check_key(text: Text, start: int, stop: int, tags: Any) -> tuple[int, int, int, int]:
    """Check the key ``text[start:stop]``, which is not empty.

    Returns:
        (code, where the measurement ends, number of tags, tag that is reserved or -1). When there are more tags than
        fit into *tags*, only their form has been checked.
    """
    if byte_at(text, start) == _COMMA:
        return MISSING_MEASUREMENT, start, 0, -1
    measurement_stop = find_unescaped(text, start, stop, _COMMA)
    if measurement_stop == stop:
        return OK, stop, 0, -1
    code, count = scan_tags(text, measurement_stop + 1, stop, tags)
    if code != OK or count > len(tags):
        return code, measurement_stop, count, -1
    reserved = find_reserved(text, tags, count)
    if reserved >= 0:
        return RESERVED_TAG_KEY, measurement_stop, count, reserved
    return OK, measurement_stop, count, -1
