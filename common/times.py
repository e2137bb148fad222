"""Durations, precisions, epochs and RFC 3339, exact to the nanosecond · pure.

Source: InfluxQL's durations and time strings (spec/influxql.md, 2.3 and 2.4), Go's ``time.RFC3339Nano`` and
``time.Duration.String``.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from common.errors import Invalid
from common.model import MAX_TIME_NS

NS_PER_S = 1_000_000_000
UNIT_NS = {
    "ns": 1, "n": 1, "u": 1_000, "us": 1_000, "µ": 1_000, "μ": 1_000, "ms": 1_000_000, "s": NS_PER_S,
    "m": 60 * NS_PER_S, "h": 3_600 * NS_PER_S, "d": 86_400 * NS_PER_S, "w": 604_800 * NS_PER_S,
}  # fmt: skip
# The parameter epoch: any other value is nanoseconds (http-query-v1.md, 3; ``us`` and ``µ`` by decision 6).
EPOCH_UNITS = {unit: UNIT_NS[unit] for unit in ("u", "us", "µ", "μ", "ms", "s", "m", "h")}
# The largest first, as a duration is printed in the largest unit that divides it.
_PRINTED_UNITS = (("w", "w"), ("d", "d"), ("h", "h"), ("m", "m"), ("s", "s"), ("ms", "ms"), ("u", "u"), ("ns", "ns"))
_DURATION = re.compile(r"([0-9]+)(ns|ms|[uµsmhdw])")
_EPOCH = date(1970, 1, 1).toordinal()
_MAX_INT64 = (1 << 63) - 1


# ---------------------------------------------------------------- durations


def parse_duration(text: str) -> int:
    """Read an InfluxQL duration such as ``1h30m``, in ns.

    Raises:
        Invalid: ``invalid duration``, or past 64 bits ``overflowed duration …``, as InfluxDB says it.
    """
    body = text.removeprefix("-")
    total, at, last = 0, 0, ("", "")
    while at < len(body):
        match = _DURATION.match(body, at)
        if match is None or len(match[1]) > 30 or int(match[1]) > _MAX_INT64:
            raise Invalid("invalid duration")
        last = (match[1], match[2])
        total += int(match[1]) * UNIT_NS[match[2]]
        at = match.end()
    if at == 0:
        raise Invalid("invalid duration")
    if total > _MAX_INT64:
        raise Invalid(f"overflowed duration {int(last[0])}{last[1]}: choose a smaller duration or INF")
    return -total if len(body) < len(text) else total


def format_duration(ns: int) -> str:
    """*ns* as InfluxQL prints it: one number in the largest unit that divides it, ``0s`` for none."""
    if ns == 0:
        return "0s"
    unit, printed = next((unit, printed) for unit, printed in _PRINTED_UNITS if ns % UNIT_NS[unit] == 0)
    return f"{ns // UNIT_NS[unit]}{printed}"


def format_go_duration(ns: int) -> str:
    """*ns* as Go prints a ``time.Duration``: ``168h0m0s``, ``1.5s``, ``250ms``, ``0s``."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if ns < NS_PER_S:
        for unit, name in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
            if ns >= unit:
                return f"{sign}{_trim(ns // unit, ns % unit, len(str(unit)) - 1)}{name}"
        return "0s"
    minutes, rest = divmod(ns, 60 * NS_PER_S)
    seconds = f"{_trim(rest // NS_PER_S, rest % NS_PER_S, 9)}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _trim(whole: int, fraction: int, digits: int) -> str:
    return f"{whole}.{fraction:0{digits}d}".rstrip("0").rstrip(".") if fraction else str(whole)


# ---------------------------------------------------------------- moments from text

_DATE = r"(\d{4})-(\d\d)-(\d\d)"
_CLOCK = r"(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?"
_RFC3339 = re.compile(rf"{_DATE}T{_CLOCK}(?:(Z)|([+-])(\d\d):(\d\d))", re.ASCII)
_LOCAL = re.compile(rf"{_DATE} {_CLOCK}", re.ASCII)
_DAY = re.compile(_DATE, re.ASCII)
# What InfluxQL takes for a time at all when a string meets ``time``.
_LOOKS_LIKE_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:.+)?", re.ASCII)


def parse_rfc3339(text: str) -> int:
    """Read ``2024-03-05T08:00:00.123456789Z`` (or ``+01:00``), in ns; digits past the ninth are dropped.

    Raises:
        Invalid: not of that form, no such day or hour, or outside the range of 64-bit ns.
    """
    ns = _rfc3339_ns(text)
    if not -MAX_TIME_NS - 2 <= ns <= MAX_TIME_NS + 1:
        raise Invalid(f"cannot read {text!r} as a time: outside the range of 64-bit nanoseconds")
    return ns


def _rfc3339_ns(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise Invalid(f"cannot read {text!r} as an RFC 3339 time")
    zone = match.groups()[7:]
    offset_s = 0
    if zone[0] is None:
        hours, minutes = int(zone[2]), int(zone[3])
        if hours > 24 or minutes > 60:
            raise Invalid(f"cannot read {text!r} as an RFC 3339 time")
        offset_s = (hours * 3600 + minutes * 60) * (-1 if zone[1] == "-" else 1)
    return _ns_of(match.groups()[:7], offset_s, text)


def parse_time_string(text: str, zone: ZoneInfo | None = None) -> int | None:
    """Read a string that InfluxQL compares with ``time``: RFC 3339, ``2024-03-05 08:21:00.5`` or ``2024-03-05``.

    Args:
        zone: of forms that name none; None = UTC.

    Returns:
        ns since the epoch, of years 1 to 9999, so beyond 64 bits too; or None when *text* does not even look like a
        time.
    Raises:
        Invalid: ``invalid timestamp string``: it looks like a time and is none.
    """
    if _LOOKS_LIKE_TIME.fullmatch(text) is None:
        return None
    try:
        match = _LOCAL.fullmatch(text)
        if match is not None:
            return _local_ns(match.groups(), zone, text)
        match = _DAY.fullmatch(text)
        if match is not None:
            return _local_ns((*match.groups(), "0", "0", "0", None), zone, text)
        return _rfc3339_ns(text)
    except Invalid:
        raise Invalid("invalid timestamp string") from None


def _local_ns(parts: tuple[str | None, ...], zone: ZoneInfo | None, text: str) -> int:
    utc_ns = _ns_of(parts, 0, text)
    if zone is None:
        return utc_ns
    local = datetime(1970, 1, 1) + timedelta(seconds=utc_ns // NS_PER_S)  # the wall clock
    offset = local.replace(tzinfo=zone).utcoffset()
    return utc_ns - (0 if offset is None else round(offset.total_seconds())) * NS_PER_S


def _ns_of(parts: tuple[str | None, ...], offset_s: int, text: str) -> int:
    year, month, day, hour, minute, second = (int(part or 0) for part in parts[:6])
    fraction = (parts[6] or "")[:9].ljust(9, "0")
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        raise Invalid(f"cannot read {text!r} as a time: no such day") from None
    if hour > 23 or minute > 59 or second > 59:
        raise Invalid(f"cannot read {text!r} as a time: no such hour")
    return (days * 86_400 + hour * 3600 + minute * 60 + second - offset_s) * NS_PER_S + int(fraction)


# ---------------------------------------------------------------- moments to text


def format_rfc3339(ns: int) -> str:
    """*ns* in UTC with as many digits of the second as it needs: ``2024-03-05T08:00:00.5Z``."""
    return _format_local(ns, 0) + "Z"


def format_rfc3339_micros(ns: int) -> str:
    """*ns* in UTC, cut to microseconds: what clients that read at most six digits can read."""
    return format_rfc3339(ns - ns % 1_000)


def _format_local(ns: int, offset_s: int) -> str:
    return _format_few([ns + offset_s * NS_PER_S], "")[0]


def format_offset(offset_s: int) -> str:
    """The zone of an RFC 3339 time: ``Z`` or ``-05:00``."""
    if offset_s == 0:
        return "Z"
    minutes = abs(offset_s) // 60
    return f"{'-' if offset_s < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def format_rfc3339_array(times: NDArray[np.int64], zone: ZoneInfo | None = None) -> list[str]:
    """Many moments at once, about 0.1 µs each; in local time of *zone* with its offset, None = UTC."""
    if len(times) == 0:
        return []
    if zone is None:
        return _format_array(times, "Z")
    offsets = utc_offsets(times, zone)
    result = np.empty(len(times), dtype=object)
    for offset in np.unique(offsets):
        rows = np.flatnonzero(offsets == offset)
        # A local time may lie just past the range of 64 bits; such rows go one by one.
        local = times[rows]
        inside = abs(local) < MAX_TIME_NS - 86_400 * NS_PER_S
        suffix = format_offset(int(offset))
        result[rows[inside]] = _format_array(local[inside] + int(offset) * NS_PER_S, suffix)
        for row in rows[~inside]:
            result[row] = _format_local(int(times[row]), int(offset)) + suffix
    strings: list[str] = result.tolist()
    return strings


# Up to so many are put together one by one: the tables of the others have to be brought into the processor's caches.
FEW_TIMES = 256


def _format_array(times: NDArray[np.int64], suffix: str) -> list[str]:
    if len(times) <= FEW_TIMES:
        return _format_few(times.tolist(), suffix)
    # The text is put together in one buffer: days are few, seconds of a day come from a table.
    seconds = times // NS_PER_S
    fractions = times - seconds * NS_PER_S
    days, which = np.unique(seconds // 86_400, return_inverse=True)
    dates = np.datetime_as_string(days.astype("datetime64[D]")).astype("S10").view(np.uint8).reshape(-1, 10)
    exact = not fractions.any()
    width = 19 if exact else 29
    rows = np.empty((len(times), width), dtype=np.uint8)
    rows[:, :10] = dates[which.reshape(-1)]
    rows[:, 10:19] = _clock_table()[seconds % 86_400]
    if exact:
        text = rows.tobytes().decode("ascii")
        return [text[start : start + 19] + suffix for start in range(0, len(text), 19)]
    rows[:, 19] = ord(".")
    lengths = np.full(len(times), 19)
    for digit in range(9):
        value = fractions // 10 ** (8 - digit) % 10
        rows[:, 20 + digit] = value + ord("0")
        lengths[value != 0] = 21 + digit
    text = rows.tobytes().decode("ascii")
    starts = range(0, len(text), 29)
    return [text[start : start + size] + suffix for start, size in zip(starts, lengths.tolist(), strict=True)]


def _format_few(times: list[int], suffix: str) -> list[str]:
    texts = []
    for time in times:
        seconds, fraction = divmod(time, NS_PER_S)
        minutes, second = divmod(seconds, 60)
        text = _minute(minutes) + _SECONDS[second]
        texts.append(f"{text}.{fraction:09}".rstrip("0") + suffix if fraction else text + suffix)
    return texts


@lru_cache(maxsize=4_096)
def _minute(minutes: int) -> str:
    """``2024-03-05T08:00``, *minutes* since the epoch."""
    days, minute = divmod(minutes, 1_440)
    return f"{date.fromordinal(_EPOCH + days).isoformat()}T{minute // 60:02}:{minute % 60:02}"


_SECONDS = tuple(f":{second:02}" for second in range(60))


@lru_cache(maxsize=1)
def _clock_table() -> NDArray[np.uint8]:
    """``T00:00:00`` to ``T23:59:59``, a row a second."""
    digits = np.array([list(b"%02d" % value) for value in range(60)], dtype=np.uint8)
    table = np.full((24, 60, 60, 9), ord(":"), dtype=np.uint8)
    table[..., 0] = ord("T")
    table[..., 1:3] = digits[:24, np.newaxis, np.newaxis]
    table[..., 4:6] = digits[:, np.newaxis]
    table[..., 7:9] = digits
    return table.reshape(86_400, 9)


def utc_offsets(times: NDArray[np.int64], zone: ZoneInfo) -> NDArray[np.int64]:
    """Seconds to add to UTC at each of *times* (ns) to get the wall clock of *zone*."""
    # Zones change on full quarters of an hour but for a few before 1972: those quarters are looked at closely.
    quarters, which = np.unique(times // (900 * NS_PER_S), return_inverse=True)
    first = np.array([_offset_at(zone, int(quarter) * 900) for quarter in quarters], dtype=np.int64)
    after = np.array([_offset_at(zone, int(quarter) * 900 + 899) for quarter in quarters], dtype=np.int64)
    offsets = first[which]
    for row in np.flatnonzero((first != after)[which]):
        offsets[row] = _offset_at(zone, int(times[row]) // NS_PER_S)
    return offsets


@lru_cache(maxsize=65_536)
def _offset_at(zone: ZoneInfo, second: int) -> int:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=second)  # noqa: UP017
    offset = moment.astimezone(zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def epoch_array(times: NDArray[np.int64], unit_ns: int) -> NDArray[np.int64]:
    """*times* in whole units, rounded toward zero as there."""
    if unit_ns == 1:
        return times
    whole = times // unit_ns
    units: NDArray[np.int64] = whole + ((times < 0) & (whole * unit_ns != times))
    return units
