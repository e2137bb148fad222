"""JSON and times as Go lays them out."""

from __future__ import annotations

import pytest

from services.auth.rest.jsonlayout import COMPACT, encode, format_time


def test_json_is_laid_out_and_escaped_as_go_does_it() -> None:
    value = {"a": "<&>\u2028", "b": [], "c": {}}
    assert encode(value) == b'{\n\t"a": "\\u003c\\u0026\\u003e\\u2028",\n\t"b": [],\n\t"c": {}\n}'
    assert encode(value, COMPACT) == b'{"a":"\\u003c\\u0026\\u003e\\u2028","b":[],"c":{}}\n'


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1_500_000_000, "1970-01-01T00:00:01.5Z"), (1, "1970-01-01T00:00:00.000000001Z")],
)
def test_times_end_with_no_zeros(time_ns: int, text: str) -> None:
    assert format_time(time_ns) == text
