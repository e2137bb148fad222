"""The line protocol's state machine: bytes → arrays, one pass, for any number of bodies. · pure

Runs plain and compiled (``words.py``, ``compiled.py``). When memory runs out it goes back to the line's start.

    line    = blanks [ key " " fields [ " " timestamp ] ] | blanks "#" anything        ended by LF, CR LF or the body
    fields  = name "=" value { "," name "=" value }                                    key: keys.py
    value   = number | boolean | string                                                numbers.py, scan.py

A key is looked up by the hash of its bytes and checked only when it is new; a field's name is first compared with the
one that followed last time. The functions return a *code*: OK, a reason (reasons.py), or below 0 the memory that ran
out. Source: InfluxDB 2.9.0 as observed, ``models/points.go`` for the order of the checks.
"""

from __future__ import annotations

from typing import Any

from common.lineprotocol.keys import check_key, find_key_end, is_canonical, sort_tags, write_canonical
from common.lineprotocol.memory import (
    BODY,
    BODY_ERRORS,
    ENTRIES,
    ERRORS,
    LINE,
    MORE_ENTRIES,
    MORE_ERRORS,
    MORE_ROWS,
    MORE_TAGS,
    POSITION,
    ROWS,
    TAGS_WANTED,
    TEXT_USED,
    Memory,
    add_column,
    add_error,
    add_key,
    add_series,
    find_shortage,
    find_slot,
    name_fault,
)
from common.lineprotocol.numbers import BOOLEAN, FLOAT, STRING, ends_line, ends_value, scan_number, scan_timestamp
from common.lineprotocol.reasons import (
    BAD_FIELD_FORMAT,
    BAD_POINT,
    BAD_TIMESTAMP,
    DUPLICATE_TAGS,
    INTEGER_RANGE,
    KEY_TOO_LONG,
    MAX_KEY_BYTES,
    MISSING_FIELD_KEY,
    MISSING_FIELD_VALUE,
    MISSING_FIELDS,
    OK,
    RESERVED_TAG_KEY,
    TIMESTAMP_RANGE,
    TIMESTAMP_SYNTAX,
    UNBALANCED_QUOTES,
    UNSIGNED_RANGE,
)
from common.lineprotocol.scan import (
    find_line_end,
    find_name_end,
    find_string_end,
    same_bytes,
    scan_boolean,
    skip_blanks,
)
from common.lineprotocol.siphash import siphash128
from common.lineprotocol.words import Text, byte_at, u64

_TAB, _LINE_FEED, _RETURN, _BLANK, _QUOTE, _HASH, _MINUS, _COMMA, _EQUALS = 9, 10, 13, 32, 34, 35, 45, 44, 61


def enter_key(
    memory: Memory, text: Text, room: int, start: int, stop: int, high: int, low: int, k0: int, k1: int
) -> tuple[int, int]:
    """Check a key that is not in the table yet, and enter it: (code, series)."""
    tags = memory.tags
    size = stop - start
    shortage = find_shortage(memory, room, size)
    if shortage != OK:
        return shortage, -1
    code, measurement_stop, count, reserved = check_key(text, start, stop, tags)
    if count > len(tags):
        memory.state[TAGS_WANTED] = count
        return MORE_TAGS, -1
    if code == RESERVED_TAG_KEY:
        name_fault(memory.state, tags[reserved, 0], tags[reserved, 1], 0)
    if code != OK:
        return code, -1
    canonical = is_canonical(text, start, measurement_stop, tags, count)
    if not canonical and sort_tags(text, tags, count):
        return DUPLICATE_TAGS, -1
    if size > MAX_KEY_BYTES:
        name_fault(memory.state, 0, 0, size)
        return KEY_TOO_LONG, -1
    if canonical:
        series = add_series(memory, text, start, measurement_stop, stop, high, low, k0, k1)
    else:
        series = enter_canonical(memory, text, start, measurement_stop, count, k0, k1)
    add_key(memory, find_slot(memory.key_table, memory.key_hash, high, low), high, low, series)
    return OK, series


def enter_canonical(memory: Memory, text: Text, start: int, measurement_stop: int, count: int, k0: int, k1: int) -> int:
    """The series of a good key that is not canonical as it stands, whose sorted tags lie in memory; entered if new."""
    out = int(memory.state[TEXT_USED])
    measurement_out, stop = write_canonical(text, start, measurement_stop, memory.tags, count, out)
    high, low = siphash128(text, out, stop, k0, k1)
    slot = find_slot(memory.key_table, memory.key_hash, high, low)
    known = int(memory.key_table[slot]) - 1
    if known >= 0:
        return int(memory.key_series[known])
    memory.state[TEXT_USED] = stop
    series = add_series(memory, text, out, measurement_out, stop, high, low, k0, k1)
    add_key(memory, slot, high, low, series)
    return series


def read_key(memory: Memory, text: Text, room: int, start: int, stop: int, k0: int, k1: int) -> tuple[int, int]:
    """The series of the key ``text[start:stop]``: (code, series)."""
    high, low = siphash128(text, start, stop, k0, k1)
    slot = find_slot(memory.key_table, memory.key_hash, high, low)
    known = int(memory.key_table[slot]) - 1
    code = OK
    if known >= 0:
        series = int(memory.key_series[known])
    else:
        code, series = enter_key(memory, text, room, start, stop, high, low, k0, k1)
    # The line's end is told before what only a second look at its tags finds.
    late = code == OK or code == RESERVED_TAG_KEY or code == DUPLICATE_TAGS or code == KEY_TOO_LONG
    if late and byte_at(text, stop) != _BLANK:
        code = MISSING_FIELDS
    return code, series


def read_value(
    text: Text, i: int, end: int, entry: int, entry_type: Any, entry_bits: Any, entry_double: Any, state: Any
) -> tuple[int, int, int]:
    """Read the field value at *i* into an entry: (code, where it ends, line ends inside of it)."""
    c = byte_at(text, i)
    if (48 <= c <= 57) or c == _MINUS or c == 46 or c == 78 or c == 110:  # digit - . N n
        code, stop, type_, bits, double = scan_number(text, i)
        if code == INTEGER_RANGE or code == UNSIGNED_RANGE:
            name_fault(state, i, stop, 0)
        entry_type[entry] = type_
        if type_ == FLOAT:
            entry_double[entry] = double
        else:
            entry_bits[entry] = bits
        return code, stop, 0
    if c == _QUOTE:
        start = i + 1
        stop, escapes, breaks = find_string_end(text, start, end)
        if stop >= end:
            return UNBALANCED_QUOTES, end, 0
        entry_type[entry] = STRING
        entry_bits[entry] = u64(u64(start) << u64(32)) | u64(u64(stop - start) << u64(1)) | u64(escapes)
        return (OK if ends_value(text, stop + 1) else BAD_FIELD_FORMAT), stop + 1, breaks
    if ends_value(text, i):
        return MISSING_FIELD_VALUE, i, 0
    code, stop, truth = scan_boolean(text, i)
    entry_type[entry] = BOOLEAN
    entry_bits[entry] = u64(truth)
    return code, stop, 0


def is_guess(text: Text, name: int, end: int, column: int, column_place: Any) -> bool:
    """Whether the name at *name* is that of *column*."""
    known = int(column_place[column, 0])
    stop = name + int(column_place[column, 1]) - known
    return bool(stop < end and byte_at(text, stop) == _EQUALS and same_bytes(text, name, stop, known))


def read_fields(
    memory: Memory, text: Text, i: int, end: int, measurement: int, key_size: int, k0: int, k1: int
) -> tuple[int, int, int, int]:
    """Read the fields at *i* into entries from ``state[ENTRIES]`` on.

    Returns:
        (code, where they end, next free entry, line ends inside of them)
    """
    first_entry = int(memory.state[ENTRIES])
    entry = first_entry
    max_entries = len(memory.entry_column)
    column_place = memory.column_place
    guess = int(memory.measurement_first[measurement])
    column = -1
    breaks = 0
    too_long = 0
    # What is not a name with a value is told only if nothing else is wrong with the fields.
    formed = True
    while True:
        if entry >= max_entries:
            return MORE_ENTRIES, i, entry, breaks
        name = i
        last = column
        if guess >= 0 and is_guess(text, name, end, guess, column_place):
            column = guess
            i = name + int(column_place[column, 1]) - int(column_place[column, 0])
        else:
            column = -1
            i = find_name_end(text, name)
            c = byte_at(text, i)
            if c == _COMMA:
                formed = False
                guess = -1
                i += 1
                continue
            if c != _EQUALS:
                formed = False
                break
            if i == name:
                return MISSING_FIELD_KEY, i, entry, breaks
            column = add_column(memory, text, name, i, measurement, k0, k1)
            if column < 0:
                return column, i, entry, breaks
            if last >= 0:
                memory.column_next[last] = column
            elif entry == first_entry:
                memory.measurement_first[measurement] = column
        if too_long == 0 and key_size + 4 + i - name > MAX_KEY_BYTES:
            too_long = key_size + 4 + i - name
        guess = int(memory.column_next[column])
        code, i, lines = read_value(
            text, i + 1, end, entry, memory.entry_type, memory.entry_bits, memory.entry_double, memory.state
        )
        if code != OK:
            return code, i, entry, breaks
        memory.entry_column[entry] = column
        entry += 1
        breaks += lines
        if byte_at(text, i) != _COMMA:
            break
        i += 1
    if not formed:
        return BAD_FIELD_FORMAT, i, entry, breaks
    if too_long > 0:
        name_fault(memory.state, 0, 0, too_long)
        return KEY_TOO_LONG, i, entry, breaks
    return OK, i, entry, breaks


def read_time(memory: Memory, text: Text, i: int, body: int) -> tuple[int, int, int]:
    """Read what stands behind the fields: (code, the line's end, time in ns)."""
    i = skip_blanks(text, i)
    if ends_line(text, i):
        return OK, i, int(memory.defaults[body])
    start = i
    if byte_at(text, i) == _MINUS:
        i += 1
    while 48 <= byte_at(text, i) <= 57:
        i += 1
    if byte_at(text, i) != _BLANK and not ends_line(text, i):
        return BAD_TIMESTAMP, i, 0
    code, time_ns = scan_timestamp(text, start, i, int(memory.units[body]))
    if code == TIMESTAMP_RANGE or code == TIMESTAMP_SYNTAX:
        name_fault(memory.state, start, i, 0)
    i = skip_blanks(text, i)
    if code == OK and not ends_line(text, i):
        code = BAD_POINT
    return code, i, time_ns


def parse_line(
    memory: Memory, text: Text, room: int, start: int, end: int, body: int, line: int, k0: int, k1: int
) -> tuple[int, int, int]:
    """Parse the line whose first byte is at *start* into a row: (code, its end, line ends inside of it)."""
    state = memory.state
    row = int(state[ROWS])
    if row >= len(memory.row_time):
        return MORE_ROWS, start, 0
    if state[ERRORS] >= len(memory.errors):
        return MORE_ERRORS, start, 0
    stop = find_key_end(text, start)
    code, series = read_key(memory, text, room, start, stop, k0, k1)
    if code != OK:
        return code, stop, 0
    i = skip_blanks(text, stop)
    c = byte_at(text, i)
    if c == _TAB or c == 0:
        return BAD_FIELD_FORMAT, i, 0
    measurement = int(memory.series_measurement[series])
    code, i, entry, breaks = read_fields(memory, text, i, end, measurement, stop - start, k0, k1)
    if code != OK:
        return code, i, 0
    code, i, time_ns = read_time(memory, text, i, body)
    if code != OK:
        return code, i, 0
    memory.row_body[row] = body
    memory.row_line[row] = line
    memory.row_series[row] = series
    memory.row_time[row] = time_ns
    memory.row_entries[row + 1] = entry
    state[ROWS] = row + 1
    state[ENTRIES] = entry
    return OK, i, breaks


def parse_lines(text: Text, room: int, k0: int, k1: int, memory: Memory) -> int:
    """Parse from where ``memory.state`` stands.

    Args:
        text: the bodies, a LF behind each; from ``state[TEXT_USED]`` to *room* free for canonical keys; then PAD bytes.
        k0, k1: the hash key.

    Returns:
        OK, or which memory has to be enlarged before the next call.
    """
    state = memory.state
    for body in range(int(state[BODY]), len(memory.ends)):
        end = int(memory.ends[body])
        i = int(state[POSITION])
        line = int(state[LINE])
        while i < end:
            start = i
            c = byte_at(text, start)
            while c == _BLANK or c == _TAB or c == 0:
                start += 1
                c = byte_at(text, start)
            breaks = 0
            if c == _HASH or ends_line(text, start):
                i = start
            else:
                code, i, breaks = parse_line(memory, text, room, start, end, body, line, k0, k1)
                if code < 0:
                    state[BODY] = body
                    state[POSITION] = start
                    state[LINE] = line
                    return code
                if code > 0:
                    i, breaks = find_line_end(text, start, end)
                    stop = i
                    if stop > start and byte_at(text, stop - 1) == _RETURN:
                        stop -= 1
                    add_error(memory, body, line, start, stop, code)
                    name_fault(memory.state, 0, 0, 0)
            while byte_at(text, i) != _LINE_FEED:
                i += 1
            i += 1
            line += 1 + breaks
        state[POSITION] = end + 1
        state[LINE] = 1
        state[BODY_ERRORS] = 0
    state[BODY] = len(memory.ends)
    return OK
