"""The texts of a write that went wrong."""

from __future__ import annotations

import pytest

from common.model import MAX_TIME_NS, MIN_TIME_NS
from services.ingest import messages


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (MIN_TIME_NS, "1677-09-21T00:12:43.145224194Z"),
        (MAX_TIME_NS, "2262-04-11T23:47:16.854775806Z"),
    ],
)
def test_times_are_printed_as_go_does(time_ns: int, text: str) -> None:
    assert messages.format_time(time_ns) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3600, "1h0m0s"), (604_800, "168h0m0s"), (90, "1m30s"), (59, "59s"), (1.5, "1.5s"), (3661, "1h1m1s")],
)
def test_durations_are_printed_as_go_does(seconds: float, text: str) -> None:
    assert messages.format_duration(int(seconds * 1_000_000_000)) == text


def test_a_text_keeps_as_many_parts_as_fit_and_counts_the_rest() -> None:
    assert messages.join_parts(["a", "b"], 2) == "a\nb"
    assert messages.join_parts(["aaaa", "bbbb", "cccc"], 3, max_bytes=10) == "aaaa\nbbbb\nand 1 more"
    cut = messages.join_parts(["x" * 1000, "b"], 2, max_bytes=100)
    assert len(cut) < 120
    assert cut.endswith("\nand 1 more")


def test_partial_writes_have_influxdbs_words() -> None:
    reason = 'field type conflict: input field "v" on measurement "m" is type float, already exists as type integer'
    assert messages.store_failure(messages.partial_write(reason, 3)) == (
        "failure writing points to database: partial write: field type conflict: "
        'input field "v" on measurement "m" is type float, already exists as type integer dropped=3'
    )
    hour = 3_600_000_000_000
    reason = messages.beyond_retention(2, hour, 10 * hour, ("a", 0), ("b", hour))
    assert messages.partial_write(reason, 2, "00000000000000aa") == (
        "partial write: dropped 2 points outside retention policy of duration 1h0m0s - oldest point a at "
        "1970-01-01T00:00:00Z dropped because it violates a Retention Policy Lower Bound at 1970-01-01T10:00:00Z, "
        "newest point b at 1970-01-01T01:00:00Z dropped because it violates a Retention Policy Lower Bound at "
        "1970-01-01T10:00:00Z dropped=2 for database: 00000000000000aa for retention policy: autogen"
    )
