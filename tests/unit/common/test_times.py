"""Durations and times, both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import times
from common.errors import Invalid
from common.model import MAX_TIME_NS, MIN_TIME_NS

moments = st.integers(MIN_TIME_NS, MAX_TIME_NS)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("10s", 10**10), ("1h30m", 5400 * 10**9), ("1w", 604800 * 10**9), ("5ns", 5), ("7u", 7000), ("7µ", 7000),
        ("3ms", 3_000_000), ("-2m", -120 * 10**9), ("0s", 0), ("1h0m0s", 3600 * 10**9),
    ],
)  # fmt: skip
def test_a_duration_is_read(text: str, ns: int) -> None:
    assert times.parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "s", "5", "5x", "1.5h", "1h 3m", "-", "1y", "5n", "99999999999999999999s", "1e1"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"^invalid duration$"):
        times.parse_duration(text)


def test_a_duration_past_64_bits_is_refused() -> None:
    with pytest.raises(Invalid, match="overflowed duration 20000w"):
        times.parse_duration("20000w")


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_printed_duration_reads_back(ns: int) -> None:
    assert times.parse_duration(times.format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"), (1, "1ns"), (1_500, "1.5µs"), (1_000_000, "1ms"), (1_500_000_000, "1.5s"), (90 * 10**9, "1m30s"),
        (168 * 3600 * 10**9, "168h0m0s"), (-90 * 10**9, "-1m30s"), (3600 * 10**9 + 1, "1h0m0.000000001s"),
    ],
)  # fmt: skip
def test_a_duration_as_go_prints_it(ns: int, text: str) -> None:
    assert times.format_go_duration(ns) == text


@given(moments)
def test_a_printed_time_reads_back(ns: int) -> None:
    text = times.format_rfc3339(ns)
    assert times.parse_rfc3339(text) == ns
    assert not text.endswith(("0Z", ".Z")) or "." not in text


@given(st.lists(moments, max_size=20), st.sampled_from([None, "America/New_York", "Asia/Kathmandu", "Europe/London"]))
def test_an_array_of_times_prints_as_each_of_them(ns: list[int], name: str | None) -> None:
    zone = None if name is None else ZoneInfo(name)
    printed = times.format_rfc3339_array(np.array(ns, dtype=np.int64), zone)
    if zone is None:
        assert printed == [times.format_rfc3339(value) for value in ns]
    for value, text in zip(ns, printed, strict=True):
        moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value // 10**9)).astimezone(zone)
        assert text[:19] == moment.strftime("%Y-%m-%dT%H:%M:%S") or zone is None


@given(st.lists(moments, min_size=1, max_size=20))
def test_many_times_print_as_each_of_them(ns: list[int]) -> None:
    many = (ns * times.FEW_TIMES)[: times.FEW_TIMES + 1]
    assert times.format_rfc3339_array(np.array(many, dtype=np.int64)) == [times.format_rfc3339(value) for value in many]


def test_every_second_of_a_day_prints_as_its_clock() -> None:
    seconds = range(86_400)
    printed = times.format_rfc3339_array(np.arange(86_400) * 10**9)
    assert printed == [f"1970-01-01T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}Z" for s in seconds]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2024-03-05T08:00:00Z", 1709625600 * 10**9),
        ("2024-03-05T09:00:00+01:00", 1709625600 * 10**9),
        ("2024-03-05 08:00:00", 1709625600 * 10**9),
        ("2024-03-05 08:00:00.5", 1709625600 * 10**9 + 5 * 10**8),
        ("2024-03-05", 1709596800 * 10**9),
        ("9999-12-31T23:59:59Z", 253_402_300_799 * 10**9),
        ("yesterday", None),
    ],
)
def test_a_time_string_of_a_condition(text: str, ns: int | None) -> None:
    assert times.parse_time_string(text) == ns


def test_a_time_string_without_a_zone_is_local_to_tz() -> None:
    zone = ZoneInfo("America/New_York")
    assert times.parse_time_string("2024-03-10 01:00:00", zone) == times.parse_rfc3339("2024-03-10T06:00:00Z")
    assert times.parse_time_string("2024-03-10 03:00:00", zone) == times.parse_rfc3339("2024-03-10T07:00:00Z")


@pytest.mark.parametrize(
    "text", ["2024-13-05", "2024-03-05T25:00:00Z", "2024-03-05 8", "2024-03-05T08:00:00", "0000-01-01"]
)
def test_what_looks_like_a_time_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"^invalid timestamp string$"):
        times.parse_time_string(text)


def test_an_epoch_is_rounded_toward_zero() -> None:
    assert times.epoch_array(np.array([-1_500, -1_000, 1_500], dtype=np.int64), 1_000).tolist() == [-1, -1, 1]
