"""Real input: what a Telegraf wrote, whole, through each path, against a plain reading of its file."""

from __future__ import annotations

import gzip
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.stack import ORG, Stack

DATA = Path(__file__).parent.parent / "data"
SIGNED, UNSIGNED = DATA / "telegraf.lp.gz", DATA / "telegraf-unsigned.lp.gz"
# These files have no escapes; a string value holds no quote.
FIELD = re.compile(r'([^=,]+)=("[^"]*"|[^,]*)(?:,|$)')
WORDS = {"i": "integer", "u": "unsigned"}


@dataclass(frozen=True)
class Line:
    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: dict[str, tuple[str, Any]]  # name → (type, value)
    time_ns: int


def read_plainly(path: Path) -> list[Line]:
    """The lines of one of these two files."""
    lines = []
    for text in gzip.decompress(path.read_bytes()).decode().splitlines():
        rest, _, time = text.rpartition(" ")
        key, _, fields = rest.partition(" ")
        measurement, *tags = key.split(",")
        pairs = sorted(tuple(tag.split("=", 1)) for tag in tags)
        values = {name: value_of(value) for name, value in FIELD.findall(fields)}
        lines.append(Line(measurement, tuple((k, v) for k, v in pairs), values, int(time)))
    return lines


def value_of(text: str) -> tuple[str, Any]:
    if text.startswith('"'):
        return "string", text[1:-1]
    if text[-1] in WORDS and text[:-1].lstrip("-").isdigit():
        return WORDS[text[-1]], int(text[:-1])
    if text in ("true", "false"):
        return "boolean", text == "true"
    return "float", float(text)


@dataclass
class Expected:
    """One field of one series: the value at each time, a later line wins."""

    type: str
    values: dict[int, Any] = field(default_factory=dict)


def expected_of(lines: list[Line]) -> dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, Expected]]:
    series: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, Expected]] = defaultdict(dict)
    for line in lines:
        for name, (type, value) in line.fields.items():
            series[line.measurement, line.tags].setdefault(name, Expected(type)).values[line.time_ns] = value
    return series


def without_conflicts(lines: list[Line], types: dict[tuple[str, str], str]) -> list[Line]:
    """The lines none of whose fields has another type than the first one had; *types* is filled in order."""
    good = []
    for line in lines:
        known = [types.get((line.measurement, name), type) == type for name, (type, _) in line.fields.items()]
        if all(known):
            good.append(line)
            for name, (type, _) in line.fields.items():
                types[line.measurement, name] = type
    return good


def check_stored(stack: Stack, db: str, lines: list[Line]) -> int:
    """Counts, sums and last values of every field of every series; returns how many values were compared."""
    compared = 0
    expected = expected_of(lines)
    for measurement in sorted({name for name, _ in expected}):
        got: dict[tuple[tuple[str, str], ...], dict[str, Any]] = defaultdict(dict)
        for function in ("count", "sum", "last"):
            answer = stack.query(f'SELECT {function}(*) FROM "{measurement}" GROUP BY *', db, epoch="ns")
            for series in answer["results"][0]["series"]:
                tags = tuple(sorted((k, v) for k, v in series["tags"].items() if v != ""))
                for column, value in zip(series["columns"], series["values"][0], strict=True):
                    if column != "time":
                        got[tags][column] = value
        for (name, tags), fields in expected.items():
            if name != measurement:
                continue
            for field_name, wanted in fields.items():
                values = [wanted.values[time] for time in sorted(wanted.values)]
                found = got[tags]
                assert found[f"count_{field_name}"] == len(values), (measurement, tags, field_name)
                assert found[f"last_{field_name}"] == values[-1], (measurement, tags, field_name)
                if wanted.type in ("float", "integer", "unsigned"):
                    total, wanted_sum = found[f"sum_{field_name}"], sum(values)
                    if wanted.type == "float":
                        assert math.isclose(total, wanted_sum, rel_tol=1e-9), (measurement, tags, field_name)
                    else:
                        assert total == wanted_sum, (measurement, tags, field_name)
                compared += 3
    return compared


def write_v1(stack: Stack, db: str, body: bytes) -> Any:
    return stack.request("POST", "/write", params={"db": db}, data=body, headers={"Content-Encoding": "gzip"})


def write_v2(stack: Stack, bucket: str, body: bytes) -> Any:
    params = {"org": ORG, "bucket": bucket}
    return stack.request("POST", "/api/v2/write", params=params, data=body, headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("path", "write"), [(SIGNED, write_v1), (UNSIGNED, write_v2)], ids=["signed v1", "unsigned v2"]
)
def test_a_file_comes_back_equal_to_a_plain_reading(stack: Stack, bucket: str, path: Path, write: Any) -> None:
    answer = write(stack, bucket, path.read_bytes())
    assert (answer.status_code, answer.text) == (204, "")
    lines = read_plainly(path)
    assert len(lines) == 11085
    assert check_stored(stack, bucket, lines) > 500


@pytest.mark.parametrize("write", [write_v1, write_v2], ids=["v1", "v2"])
def test_both_in_one_bucket_conflict_with_the_exact_count(stack: Stack, bucket: str, write: Any) -> None:
    assert write(stack, bucket, SIGNED.read_bytes()).status_code == 204
    signed, unsigned = read_plainly(SIGNED), read_plainly(UNSIGNED)
    types: dict[tuple[str, str], str] = {}
    good = without_conflicts(signed, types)
    assert len(good) == len(signed)
    kept = without_conflicts(unsigned, types)
    dropped = len(unsigned) - len(kept)
    assert 0 < dropped < len(unsigned)

    answer = write(stack, bucket, UNSIGNED.read_bytes())
    assert answer.status_code == 422
    body = answer.json()
    assert body["code"] == "unprocessable entity"
    assert "partial write: field type conflict: input field" in body["message"]
    assert re.search(r"dropped=(\d+)", body["message"]) is not None
    assert body["message"].endswith(f"dropped={dropped}")
    check_stored(stack, bucket, signed + kept)
