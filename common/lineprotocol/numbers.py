"""Numbers of field values and timestamps: digits → words and doubles, exact. · pure

Runs plain and compiled (``words.py``). Source: InfluxDB ``models/points.go``, scanNumber, for what is refused and how.

    number    = [ "-" ] digits "i" | digits "u" | [ "-" ] decimal [ ( "e" | "E" ) [ "+" | "-" ] digits ]
    decimal   = digits [ "." [ digits ] ] | "." digits
"""

from __future__ import annotations

import numpy as np

from common.lineprotocol.reasons import (
    BAD_FLOAT,
    BAD_NUMBER,
    INTEGER_RANGE,
    OK,
    TIME_RANGE,
    TIMESTAMP_RANGE,
    TIMESTAMP_SYNTAX,
    UNSIGNED_RANGE,
)
from common.lineprotocol.words import Text, byte_at, i64, parse_double, u64

# FieldType as plain numbers, for the kernels.
FLOAT, INTEGER, UNSIGNED, STRING, BOOLEAN = 0, 1, 2, 3, 4

_TENS = np.array([10.0**power for power in range(23)])
_LINE_FEED, _RETURN, _BLANK, _COMMA = 10, 13, 32, 44


def ends_line(text: Text, i: int) -> bool:
    """Whether a line ends at *i*: LF, or CR LF."""
    c = byte_at(text, i)
    return c == _LINE_FEED or (c == _RETURN and byte_at(text, i + 1) == _LINE_FEED)


def ends_value(text: Text, i: int) -> bool:
    """Whether a field value that is not quoted ends at *i*."""
    c = byte_at(text, i)
    return c == _COMMA or c == _BLANK or ends_line(text, i)


def scan_digits(text: Text, i: int) -> tuple[int, int, bool]:
    """Read digits: (where they end, their number, whether it is over 64 bits)."""
    number = u64(0)
    over = False
    d = byte_at(text, i) - 48
    while 0 <= d <= 9:
        if number >= u64(1844674407370955161) and (number > u64(1844674407370955161) or d > 5):
            over = True
        number = u64(number * u64(10) + u64(d))
        i += 1
        d = byte_at(text, i) - 48
    return i, number, over


def scan_number(text: Text, start: int) -> tuple[int, int, int, int, float]:
    """Read a field value that begins like a number.

    Returns:
        (code, where it ends, type, bits, double): bits of an integer or unsigned, double of a float. With a code that
        is not OK the end means nothing, except for ranges: there it is the end of the digits.
    """
    i = start
    negative = byte_at(text, i) == 45
    if negative:
        i += 1
    first = i
    i, number, over = scan_digits(text, i)
    c = byte_at(text, i)
    if c == 105 and i > first and ends_value(text, i + 1):  # i
        if over or number > u64(9223372036854775807) + u64(negative):
            return INTEGER_RANGE, i, INTEGER, u64(0), 0.0
        if negative:
            number = u64(u64(0) - number)
        return OK, i + 1, INTEGER, number, 0.0
    if c == 117 and i > first and not negative and ends_value(text, i + 1):  # u
        if over:
            return UNSIGNED_RANGE, i, UNSIGNED, u64(0), 0.0
        return OK, i + 1, UNSIGNED, number, 0.0
    return scan_float(text, start, first, i, number, over)


def scan_float(text: Text, start: int, first: int, i: int, number: int, over: bool) -> tuple[int, int, int, int, float]:
    """Go on behind the digits ``text[first:i]``, which are *number*: a float, or what is wrong with it."""
    digits = i - first
    scale = 0
    if byte_at(text, i) == 46:  # .
        i += 1
        point = i
        d = byte_at(text, i) - 48
        while 0 <= d <= 9:
            if number > u64(1844674407370955160):
                over = True
            number = u64(number * u64(10) + u64(d))
            i += 1
            d = byte_at(text, i) - 48
        scale = point - i
        digits += i - point
    plain = True
    if digits > 0 and (byte_at(text, i) | 32) == 101:  # e E
        mark = i
        i += 1
        below = byte_at(text, i) == 45
        if below or byte_at(text, i) == 43:
            i += 1
        power = i
        exponent = 0
        d = byte_at(text, i) - 48
        while 0 <= d <= 9:
            if exponent < 100000:
                exponent = exponent * 10 + d
            i += 1
            d = byte_at(text, i) - 48
        if i == power:
            i = mark
            plain = False
        elif below:
            scale -= exponent
        else:
            scale += exponent
    if digits == 0 or not plain or not ends_value(text, i):
        return number_fault(text, start), i, FLOAT, u64(0), 0.0
    # Exact where the digits and the power of ten both are doubles (Clinger 1990); else the C library rounds.
    if not over and number <= u64(9007199254740992) and -22 <= scale <= 22:
        double = float(i64(number))
        if scale < 0:
            double = double / _TENS[-scale]
        else:
            double = double * _TENS[scale]
        if first > start:
            double = -double
    else:
        double = parse_double(text, start, i)
        if double == np.inf or double == -np.inf:
            return BAD_FLOAT, i, FLOAT, u64(0), 0.0
    return OK, i, FLOAT, u64(0), double


def number_fault(text: Text, start: int) -> int:
    """Why ``text[start:]`` is no number: BAD_FLOAT when its letters could be one's and only their order is wrong."""
    i = start
    whole = decimal = scientific = False
    if byte_at(text, i) == 45:
        i += 1
    first = i
    while not ends_value(text, i):
        c = byte_at(text, i)
        if (c == 105 or c == 117) and i > start and not whole:
            whole = True
        elif c == 46:
            if decimal:
                return BAD_NUMBER
            decimal = True
        elif (c == 101 or c == 69) and i > start:
            scientific = True
        elif c == 43 or c == 45:
            if i == start or (byte_at(text, i - 1) | 32) != 101:
                return BAD_NUMBER
        elif c < 48 or c > 57:
            return BAD_NUMBER
        i += 1
    if whole or i - first - int(decimal) <= 0:
        return BAD_NUMBER
    return BAD_FLOAT if scientific else BAD_NUMBER


def scan_timestamp(text: Text, start: int, stop: int, unit_ns: int) -> tuple[int, int]:
    """The time that ``text[start:stop]``, digits behind perhaps a minus, means: (code, ns)."""
    negative = byte_at(text, start) == 45
    _, number, over = scan_digits(text, start + int(negative))
    if stop == start + int(negative):
        return TIMESTAMP_SYNTAX, 0
    if over or number > u64(9223372036854775807) + u64(negative):
        return TIMESTAMP_RANGE, 0
    if number > u64(9223372036854775806) // u64(unit_ns):
        return TIME_RANGE, 0
    time_ns = i64(number) * unit_ns
    return OK, -time_ns if negative else time_ns
