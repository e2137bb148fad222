"""The line protocol's state machine: bytes → arrays, one pass, for any number of bodies. · pure

Runs plain and compiled (``words.py``, ``compiled.py``). All memory comes from outside: ``Memory`` below says what is in
it. When some of it runs out the machine goes back to the line's start, says in ``state`` what it needs, and is called
again with more: so nothing has to be sized for the worst case.

    line    = blanks [ key " " fields [ " " timestamp ] ] | blanks "#" anything        ended by LF, CR LF or the body
    fields  = name "=" value { "," name "=" value }
    value   = number | boolean | string                                                numbers.py
    string  = '"' { byte | "\\" byte } '"'                                              may hold line ends

A key is looked up by the hash of its bytes and checked only when it is new; a field's name is first compared with the
one that followed last time. Source: InfluxDB 2.9.0 as observed, ``models/points.go`` for the order of the checks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from common.lineprotocol.keys import check_key, find_key_end, is_canonical, sort_tags, write_canonical, zero_bytes
from common.lineprotocol.numbers import BOOLEAN, FLOAT, STRING, ends_line, ends_value, scan_number, scan_timestamp
from common.lineprotocol.reasons import (
    BAD_BOOLEAN,
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
from common.lineprotocol.siphash import siphash128
from common.lineprotocol.words import Text, byte_at, i64, load64, lowest_bit, u64

# Places in ``state``: where the machine is and how much of its memory it has used.
(
    BODY, POSITION, LINE, ROWS, ENTRIES, COLUMNS, MEASUREMENTS, SERIES, KEYS, ERRORS, TEXT_USED, TAGS_WANTED,
    BODY_ERRORS, STATE_SIZE,
) = range(14)  # fmt: skip

# What ``parse_lines`` returns: done, or which memory to enlarge.
(
    DONE, MORE_ROWS, MORE_ENTRIES, MORE_COLUMNS, MORE_MEASUREMENTS, MORE_SERIES, MORE_KEYS, MORE_ERRORS, MORE_TEXT,
    MORE_TAGS,
) = range(10)  # fmt: skip

MAX_ERRORS = 10000

_TAB, _LINE_FEED, _RETURN, _BLANK, _QUOTE, _HASH, _COMMA, _EQUALS, _BACKSLASH = 9, 10, 13, 32, 34, 35, 44, 61, 92
_QUOTES, _BACKSLASHES, _LINE_FEEDS = 0x2222222222222222, 0x5C5C5C5C5C5C5C5C, 0x0A0A0A0A0A0A0A0A


class Memory(NamedTuple):
    """What the machine reads and fills; capacities are the arrays' lengths.

    Tables are open-addressed, a power of two long, at most half full; they hold 1 + the index, 0 = free. Hashes are
    SipHash's (high, low). *Keys* are the distinct keys as written, several of which may be one series.
    """

    state: Any  # int64
    ends: Any  # int64 a body: where it ends in the text; a LF stands there
    units: Any  # int64 a body: ns of its time unit
    defaults: Any  # int64 a body: time of lines that carry none
    error_counts: Any  # int64 a body
    row_body: Any  # int32 a row
    row_line: Any  # int32 a row
    row_series: Any  # int32 a row
    row_time: Any  # int64 a row
    row_entries: Any  # int64 a row and one more: first entry
    entry_column: Any  # int32 an entry
    entry_type: Any  # uint8 an entry
    entry_bits: Any  # uint64 an entry
    entry_double: Any  # float64 an entry: the same memory as entry_bits
    column_table: Any  # int32
    column_hash: Any  # uint64 (columns, 2)
    column_place: Any  # int64 (columns, 2): start and stop of its name in the text
    column_measurement: Any  # int32 a column
    column_next: Any  # int32 a column: the column that followed it last time, -1 = none
    measurement_table: Any  # int32
    measurement_hash: Any  # uint64 (measurements, 2)
    measurement_place: Any  # int64 (measurements, 2)
    measurement_first: Any  # int32 a measurement: the column that came first last time, -1 = none
    series_hash: Any  # uint64 (series, 2): the series' ids
    series_tags: Any  # int64 (series, 2): start and stop of the canonical tag key in the text
    series_measurement: Any  # int32 a series
    key_table: Any  # int32
    key_hash: Any  # uint64 (keys, 2)
    key_series: Any  # int32 a key
    errors: Any  # int64 (errors, 8): body, line, start and stop of the line, reason, start and stop it names, number
    tags: Any  # int64 (tags, 3): the tags of the key at hand


def find_slot(table: Any, hashes: Any, high: int, low: int) -> int:
    """Where in *table* the entry of this hash is, or the free slot where it belongs."""
    mask = len(table) - 1
    slot = i64(low & u64(mask))
    while True:
        index = int(table[slot]) - 1
        if index < 0 or (hashes[index, 1] == low and hashes[index, 0] == high):
            return slot
        slot = (slot + 1) & mask


def fill_table(table: Any, hashes: Any, count: int) -> None:
    """Enter the first *count* hashes into an empty table."""
    for index in range(count):
        table[find_slot(table, hashes, hashes[index, 0], hashes[index, 1])] = index + 1


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


def skip_blanks(text: Text, i: int) -> int:
    """The first byte from *i* on that is no blank."""
    while byte_at(text, i) == _BLANK:
        i += 1
    return i


def add_measurement(memory: Memory, text: Text, start: int, stop: int, k0: int, k1: int) -> int:
    """Index of the measurement whose canonical name is ``text[start:stop]``; there is room for a new one."""
    high, low = siphash128(text, start, stop, k0, k1)
    slot = find_slot(memory.measurement_table, memory.measurement_hash, high, low)
    index = int(memory.measurement_table[slot]) - 1
    if index < 0:
        index = int(memory.state[MEASUREMENTS])
        memory.state[MEASUREMENTS] = index + 1
        memory.measurement_table[slot] = index + 1
        memory.measurement_hash[index, 0] = high
        memory.measurement_hash[index, 1] = low
        memory.measurement_place[index, 0] = start
        memory.measurement_place[index, 1] = stop
        memory.measurement_first[index] = -1
    return index


def add_key(memory: Memory, slot: int, high: int, low: int, series: int) -> None:
    """Enter a key at a free slot; there is room for it."""
    index = int(memory.state[KEYS])
    memory.state[KEYS] = index + 1
    memory.key_table[slot] = index + 1
    memory.key_hash[index, 0] = high
    memory.key_hash[index, 1] = low
    memory.key_series[index] = series


def add_series(
    memory: Memory, text: Text, start: int, measurement_stop: int, stop: int, high: int, low: int, k0: int, k1: int
) -> int:
    """Index of a new series whose canonical key is ``text[start:stop]``; there is room for it."""
    index = int(memory.state[SERIES])
    memory.state[SERIES] = index + 1
    memory.series_hash[index, 0] = high
    memory.series_hash[index, 1] = low
    memory.series_measurement[index] = add_measurement(memory, text, start, measurement_stop, k0, k1)
    memory.series_tags[index, 0] = min(measurement_stop + 1, stop)
    memory.series_tags[index, 1] = stop
    return index


def find_shortage(memory: Memory, room: int, size: int) -> int:
    """What of *memory* may run out while one key of *size* bytes is entered; DONE = nothing."""
    state = memory.state
    if state[MEASUREMENTS] >= len(memory.measurement_first):
        return MORE_MEASUREMENTS
    if state[SERIES] >= len(memory.series_measurement):
        return MORE_SERIES
    if state[KEYS] + 2 > len(memory.key_series):
        return MORE_KEYS
    # Canonical is longer by at most one byte a tag, and a tag is at least four.
    if state[TEXT_USED] + size + (size >> 2) + 8 > room:
        return MORE_TEXT
    return DONE


def read_key(
    memory: Memory, text: Text, room: int, start: int, stop: int, slot: int, high: int, low: int, k0: int, k1: int
) -> tuple[int, int, int, int, int]:
    """Check a key that is not in the table yet, and enter it.

    Returns:
        (what memory is short of, code, series, start and stop of what the code names)
    """
    shortage = find_shortage(memory, room, stop - start)
    if shortage != DONE:
        return shortage, OK, -1, 0, 0
    tags = memory.tags
    code, measurement_stop, count, reserved = check_key(text, start, stop, tags)
    if count > len(tags):
        memory.state[TAGS_WANTED] = count
        return MORE_TAGS, OK, -1, 0, 0
    if code == RESERVED_TAG_KEY:
        return DONE, code, -1, tags[reserved, 0], tags[reserved, 1]
    if code != OK:
        return DONE, code, -1, 0, 0
    if is_canonical(text, start, measurement_stop, tags, count):
        if stop - start > MAX_KEY_BYTES:
            return DONE, KEY_TOO_LONG, -1, 0, 0
        series = add_series(memory, text, start, measurement_stop, stop, high, low, k0, k1)
        add_key(memory, slot, high, low, series)
        return DONE, OK, series, 0, 0
    if sort_tags(text, tags, count):
        return DONE, DUPLICATE_TAGS, -1, 0, 0
    if stop - start > MAX_KEY_BYTES:
        return DONE, KEY_TOO_LONG, -1, 0, 0
    out = int(memory.state[TEXT_USED])
    measurement_out, out_stop = write_canonical(text, start, measurement_stop, tags, count, out)
    true_high, true_low = siphash128(text, out, out_stop, k0, k1)
    true_slot = find_slot(memory.key_table, memory.key_hash, true_high, true_low)
    known = memory.key_table[true_slot] - 1
    if known >= 0:
        series = int(memory.key_series[known])
    else:
        memory.state[TEXT_USED] = out_stop
        series = add_series(memory, text, out, measurement_out, out_stop, true_high, true_low, k0, k1)
        add_key(memory, true_slot, true_high, true_low, series)
    add_key(memory, find_slot(memory.key_table, memory.key_hash, high, low), high, low, series)
    return DONE, OK, series, 0, 0


def add_column(memory: Memory, text: Text, start: int, stop: int, measurement: int, k0: int, k1: int) -> int:
    """Index of the column of this field of *measurement*; -1 when there is no room for a new one."""
    high, low = siphash128(text, start, stop, k0 ^ u64(measurement + 1), k1)
    slot = find_slot(memory.column_table, memory.column_hash, high, low)
    index = int(memory.column_table[slot]) - 1
    if index < 0:
        index = int(memory.state[COLUMNS])
        if index >= len(memory.column_measurement):
            return -1
        memory.state[COLUMNS] = index + 1
        memory.column_table[slot] = index + 1
        memory.column_hash[index, 0] = high
        memory.column_hash[index, 1] = low
        memory.column_place[index, 0] = start
        memory.column_place[index, 1] = stop
        memory.column_measurement[index] = measurement
        memory.column_next[index] = -1
    return index


def add_error(memory: Memory, body: int, line: int, start: int, stop: int, code: int, named: Any) -> None:
    """Note a bad line; there is room for it. *named*: start and stop of what the reason names, and a number."""
    count = memory.state[BODY_ERRORS]
    memory.state[BODY_ERRORS] = count + 1
    memory.error_counts[body] = count + 1
    if count >= MAX_ERRORS:
        return
    error = memory.errors[memory.state[ERRORS]]
    memory.state[ERRORS] += 1
    error[0] = body
    error[1] = line
    error[2] = start
    error[3] = stop
    error[4] = code
    error[5] = named[0]
    error[6] = named[1]
    error[7] = named[2]


def parse_lines(text: Text, room: int, k0: int, k1: int, memory: Memory) -> int:
    """Parse from where ``memory.state`` stands.

    Args:
        text: the bodies, a LF behind each; from ``state[TEXT_USED]`` to *room* free for canonical keys; then PAD bytes.
        k0, k1: the hash key.

    Returns:
        DONE, or which memory has to be enlarged before the next call.
    """
    state = memory.state
    row_entries = memory.row_entries
    entry_column = memory.entry_column
    entry_type = memory.entry_type
    entry_bits = memory.entry_bits
    entry_double = memory.entry_double
    column_place = memory.column_place
    column_next = memory.column_next
    key_table = memory.key_table
    key_hash = memory.key_hash
    max_rows = len(memory.row_time)
    max_entries = len(entry_column)
    body = int(state[BODY])
    i = int(state[POSITION])
    line = int(state[LINE])
    rows = int(state[ROWS])
    entry = int(state[ENTRIES])
    shortage = DONE
    while body < len(memory.ends):
        end = int(memory.ends[body])
        while i < end:
            # Where to go back to when memory runs out.
            line_at = i
            c = byte_at(text, i)
            while c == _BLANK or c == _TAB or c == 0:
                i += 1
                c = byte_at(text, i)
            if ends_line(text, i) or c == _HASH:
                while byte_at(text, i) != _LINE_FEED:
                    i += 1
                i += 1
                line += 1
                continue
            if rows >= max_rows:
                shortage = MORE_ROWS
            elif state[ERRORS] >= len(memory.errors):
                shortage = MORE_ERRORS
            if shortage != DONE:
                i = line_at
                break
            start = i
            breaks = 0
            code = OK
            named_start = 0
            named_stop = 0
            number = 0

            # The key.
            i = find_key_end(text, start)
            key_size = i - start
            high, low = siphash128(text, start, i, k0, k1)
            slot = find_slot(key_table, key_hash, high, low)
            known = key_table[slot] - 1
            series = -1
            if known >= 0:
                series = int(memory.key_series[known])
            else:
                shortage, code, series, named_start, named_stop = read_key(
                    memory, text, room, start, i, slot, high, low, k0, k1
                )
                if shortage != DONE:
                    i = line_at
                    break
                if code == KEY_TOO_LONG:
                    number = key_size
            at_end = byte_at(text, i) != _BLANK
            if at_end and (code == OK or code == RESERVED_TAG_KEY or code == DUPLICATE_TAGS or code == KEY_TOO_LONG):
                code = MISSING_FIELDS

            # The fields.
            first_entry = entry
            if code == OK:
                i = skip_blanks(text, i)
                c = byte_at(text, i)
                if c == _TAB or c == 0:
                    code = BAD_FIELD_FORMAT
            if code == OK:
                measurement = int(memory.series_measurement[series])
                guess = int(memory.measurement_first[measurement])
                column = -1
                formed = True
                while True:
                    if entry >= max_entries:
                        shortage = MORE_ENTRIES
                        break
                    name = i
                    last = column
                    column = -1
                    if guess >= 0:
                        known_name = int(column_place[guess, 0])
                        name_stop = name + int(column_place[guess, 1]) - known_name
                        follows = name_stop < end and byte_at(text, name_stop) == _EQUALS
                        if follows and same_bytes(text, name, name_stop, known_name):
                            column = guess
                            i = name_stop
                    if column < 0:
                        i = find_name_end(text, name)
                        c = byte_at(text, i)
                        if c == _COMMA:
                            formed = False
                            i += 1
                            guess = -1
                            continue
                        if c != _EQUALS:
                            formed = False
                            break
                        if i == name:
                            code = MISSING_FIELD_KEY
                            break
                        column = add_column(memory, text, name, i, measurement, k0, k1)
                        if column < 0:
                            shortage = MORE_COLUMNS
                            break
                        if last >= 0:
                            column_next[last] = column
                        elif entry == first_entry:
                            memory.measurement_first[measurement] = column
                    if number == 0 and key_size + 4 + i - name > MAX_KEY_BYTES:
                        number = key_size + 4 + i - name
                    guess = int(column_next[column])
                    i += 1
                    c = byte_at(text, i)
                    if (48 <= c <= 57) or c == 45 or c == 46 or c == 78 or c == 110:  # digit - . N n
                        value = i
                        code, i, type_, bits, double = scan_number(text, value)
                        if code != OK:
                            if code == INTEGER_RANGE or code == UNSIGNED_RANGE:
                                named_start = value
                                named_stop = i
                            break
                        entry_type[entry] = type_
                        if type_ == FLOAT:
                            entry_double[entry] = double
                        else:
                            entry_bits[entry] = bits
                    elif c == _QUOTE:
                        value = i + 1
                        i, escapes, lines = find_string_end(text, value, end)
                        if i >= end:
                            code = UNBALANCED_QUOTES
                            break
                        breaks += lines
                        entry_type[entry] = STRING
                        entry_bits[entry] = u64(u64(value) << u64(32)) | u64(u64(i - value) << u64(1)) | u64(escapes)
                        i += 1
                        if not ends_value(text, i):
                            code = BAD_FIELD_FORMAT
                            break
                    elif ends_value(text, i):
                        code = MISSING_FIELD_VALUE
                        break
                    else:
                        code, i, truth = scan_boolean(text, i)
                        if code != OK:
                            break
                        entry_type[entry] = BOOLEAN
                        entry_bits[entry] = u64(truth)
                    entry_column[entry] = column
                    entry += 1
                    if byte_at(text, i) != _COMMA:
                        break
                    i += 1
                if shortage != DONE:
                    entry = first_entry
                    i = line_at
                    break
                if code == OK and not formed:
                    code = BAD_FIELD_FORMAT
                if code == OK and number > 0:
                    code = KEY_TOO_LONG

            # The timestamp.
            time_ns = int(memory.defaults[body])
            if code == OK:
                i = skip_blanks(text, i)
                if not ends_line(text, i):
                    stamp = i
                    if byte_at(text, i) == 45:
                        i += 1
                    while 48 <= byte_at(text, i) <= 57:
                        i += 1
                    if byte_at(text, i) != _BLANK and not ends_line(text, i):
                        code = BAD_TIMESTAMP
                    else:
                        code, time_ns = scan_timestamp(text, stamp, i, int(memory.units[body]))
                        if code == TIMESTAMP_RANGE or code == TIMESTAMP_SYNTAX:
                            named_start = stamp
                            named_stop = i
                        i = skip_blanks(text, i)
                        if code == OK and not ends_line(text, i):
                            code = BAD_POINT

            if code == OK:
                memory.row_body[rows] = body
                memory.row_line[rows] = line
                memory.row_series[rows] = series
                memory.row_time[rows] = time_ns
                rows += 1
                row_entries[rows] = entry
                if byte_at(text, i) == _RETURN:
                    i += 1
                i += 1
                line += 1 + breaks
            else:
                entry = first_entry
                i, breaks = find_line_end(text, start, end)
                stop = i
                if stop > start and byte_at(text, stop - 1) == _RETURN:
                    stop -= 1
                add_error(memory, body, line, start, stop, code, (named_start, named_stop, number))
                i += 1
                line += 1 + breaks
        if shortage != DONE:
            break
        body += 1
        i = end + 1
        line = 1
        state[BODY_ERRORS] = 0
    state[BODY] = body
    state[POSITION] = i
    state[LINE] = line
    state[ROWS] = rows
    state[ENTRIES] = entry
    return shortage
