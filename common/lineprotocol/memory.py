"""The memory of the line protocol's state machine: arrays that come from outside, and tables of what has a name. · pure

Runs plain and compiled (``words.py``). Nothing is sized for the worst case: when something runs out the machine says
what (``MORE_…``) and is called again with more of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from common.lineprotocol.reasons import OK
from common.lineprotocol.siphash import siphash128
from common.lineprotocol.words import Text, i64, u64

# Places in ``state``: where the machine is, how much of its memory it has used, what the reason of an error names.
(
    BODY, POSITION, LINE, ROWS, ENTRIES, COLUMNS, MEASUREMENTS, SERIES, KEYS, ERRORS, TEXT_USED, TAGS_WANTED,
    BODY_ERRORS, NAMED_START, NAMED_STOP, NAMED_NUMBER, STATE_SIZE,
) = range(17)  # fmt: skip

# Which memory ran out; below every reason of reasons.py.
(
    MORE_ROWS, MORE_ENTRIES, MORE_COLUMNS, MORE_MEASUREMENTS, MORE_SERIES, MORE_KEYS, MORE_ERRORS, MORE_TEXT, MORE_TAGS,
) = range(-9, 0)  # fmt: skip

# Errors of a body that are noted; the others are only counted.
MAX_ERRORS = 10000


class Memory(NamedTuple):
    """What the machine reads and fills; capacities are the arrays' lengths.

    Compiled, it is passed as some 200 words: what is called for each field takes the few arrays that it needs.

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


def find_shortage(memory: Memory, room: int, size: int) -> int:
    """What of *memory* may run out while one key of *size* bytes is entered; OK = nothing."""
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
    return OK


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


def add_key(memory: Memory, slot: int, high: int, low: int, series: int) -> None:
    """Enter a key at a free slot; there is room for it."""
    index = int(memory.state[KEYS])
    memory.state[KEYS] = index + 1
    memory.key_table[slot] = index + 1
    memory.key_hash[index, 0] = high
    memory.key_hash[index, 1] = low
    memory.key_series[index] = series


def add_column(memory: Memory, text: Text, start: int, stop: int, measurement: int, k0: int, k1: int) -> int:
    """Index of the column of this field of *measurement*; MORE_COLUMNS when there is no room for it."""
    high, low = siphash128(text, start, stop, k0 ^ u64(measurement + 1), k1)
    slot = find_slot(memory.column_table, memory.column_hash, high, low)
    index = int(memory.column_table[slot]) - 1
    if index < 0:
        index = int(memory.state[COLUMNS])
        if index >= len(memory.column_measurement):
            return MORE_COLUMNS
        memory.state[COLUMNS] = index + 1
        memory.column_table[slot] = index + 1
        memory.column_hash[index, 0] = high
        memory.column_hash[index, 1] = low
        memory.column_place[index, 0] = start
        memory.column_place[index, 1] = stop
        memory.column_measurement[index] = measurement
        memory.column_next[index] = -1
    return index


def name_fault(state: Any, start: int, stop: int, number: int) -> None:
    """What the reason of the next error names: ``text[start:stop]``, and a number."""
    state[NAMED_START] = start
    state[NAMED_STOP] = stop
    state[NAMED_NUMBER] = number


def add_error(memory: Memory, body: int, line: int, start: int, stop: int, code: int) -> None:
    """Note a bad line; there is room for it. What the reason names stands in ``state``."""
    state = memory.state
    count = state[BODY_ERRORS]
    state[BODY_ERRORS] = count + 1
    memory.error_counts[body] = count + 1
    if count >= MAX_ERRORS:
        return
    error = memory.errors[state[ERRORS]]
    state[ERRORS] += 1
    error[0] = body
    error[1] = line
    error[2] = start
    error[3] = stop
    error[4] = code
    error[5] = state[NAMED_START]
    error[6] = state[NAMED_STOP]
    error[7] = state[NAMED_NUMBER]
