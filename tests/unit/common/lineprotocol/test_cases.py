"""The tables of tests/cases/lineprotocol, by both forms of the parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.lineprotocol import compiled
from common.lineprotocol.format import Point, format_point, points_of
from common.lineprotocol.kernels import PLAIN, current, use
from common.lineprotocol.parse import Body, parse

FOLDER = Path(__file__).parents[4] / "tests" / "cases" / "lineprotocol"
UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
MARKS = {"<tab>": b"\t", "<nul>": b"\0", "<cr>": b"\r", "<ff>": b"\xff", "<bom>": b"\xef\xbb\xbf", "<lf>": b"\n"}
KEY = bytes(16)


@dataclass(frozen=True)
class Case:
    name: str
    body: Body
    wanted: str


def cases() -> Iterator[Case]:
    for path in sorted(FOLDER.glob("*.txt")):
        for text in re.split(r"\n\n+", path.read_text().strip("\n")):
            head, wanted = text.split("\n----\n")
            comment, options, lines = re.fullmatch(r"((?:#.*\n)*)parse(.*)\n((?s:.*))", head).groups()  # type: ignore[union-attr]
            settings = dict(option.split("=") for option in options.split())
            now_ns = int(settings.get("now", 0))
            body = Body(body_of(lines), UNITS[settings.get("precision", "ns")], now_ns)
            yield Case(f"{path.stem}: {comment.replace('# ', '').strip()}", body, wanted)


def body_of(lines: str) -> bytes:
    data = (lines + "\n").encode().replace(b"<empty>", b"").replace(b"<end>\n", b"")
    for mark, byte in MARKS.items():
        data = data.replace(mark.encode(), byte)
    return data


def shown(point: Point) -> str:
    tags = ", ".join(f"{tag}: {value}" for tag, value in point.tags)
    fields = " ".join(f"{name}={format_value(type_.word, value)}" for name, type_, value in point.fields)
    return f"{point.measurement} {{{tags}}} {fields} @{point.time_ns}"


def format_value(word: str, value: object) -> str:
    if isinstance(value, bytes):
        return '"' + "".join(chr(c) for c in value) + '"'
    suffix = {"integer": "i", "unsigned": "u"}.get(word, "")
    return str(value).lower() if word == "boolean" else f"{value!r}{suffix}"


def unescaped(wanted: str) -> str:
    """The table writes what cannot stand in a text file as Python does."""
    escapes = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

    def replace(match: re.Match[str]) -> str:
        return escapes.get(match[0]) or chr(int(match[0][2:], 16))

    return re.sub(r'\\(?:[\\"n]|x[0-9a-f]{2}|u[0-9a-f]{4})', replace, wanted)


@pytest.fixture(params=["plain", "compiled"], scope="module", autouse=True)
def _form(request: pytest.FixtureRequest) -> Iterator[None]:
    compiled.prepare()
    machine = current()
    use(PLAIN if request.param == "plain" else machine)
    yield
    use(machine)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_a_case_reads_as_its_table_says(case: Case) -> None:
    parsed = parse([case.body], KEY)
    found = [(int(line), shown(point)) for line, point in zip(parsed.line, points_of(parsed), strict=True)]
    found += [(error.line, f"line {error.line}: {error.reason}") for error in parsed.errors]
    assert [text for _, text in sorted(found)] == [unescaped(line) for line in case.wanted.split("\n")]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_what_was_read_formats_and_reads_back_the_same(case: Case) -> None:
    parsed = parse([case.body], KEY)
    points = points_of(parsed)
    again = parse([Body(b"\n".join(format_point(point) for point in points), 1, 0)], KEY)
    assert not again.errors
    # repr tells -0.0 from 0.0.
    assert repr(points_of(again)) == repr(points)
    assert (again.series_ids[again.series] == parsed.series_ids[parsed.series]).all()
