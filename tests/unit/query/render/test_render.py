"""Results as bytes: the forms of spec/http-query-v1.md, and the same rows from every format."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from copy import copy
from itertools import chain
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid
from common.segment import StringArray
from services.query.render import document as document_module
from services.query.render import make_renderer
from services.query.render.document import Cutter, Document
from services.query.render.renderer import CSV, JSON, MSGPACK, TEXT_CSV, Style, choose_type, epoch_of
from services.query.render.result import Kind, ResultColumn, ResultSeries, Told
from services.query.render.values import format_go_float, format_plain_float


def times(*ns: int) -> ResultColumn:
    return ResultColumn("time", Kind.TIME, np.array(ns, dtype=np.int64))


def floats(name: str, values: Sequence[float], valid: Sequence[bool] | None = None) -> ResultColumn:
    mask = None if valid is None else np.array(valid, dtype=bool)
    return ResultColumn(name, Kind.FLOAT, np.array(values, dtype=np.float64), mask)


def one(*columns: ResultColumn, name: str | None = "m", **more: Any) -> ResultSeries:
    return ResultSeries(name, more.pop("tags", ()), columns, **more)


def render(
    series: Sequence[ResultSeries],
    style: Style | None = None,
    type: str = JSON,
    max_rows: int = 10_000,
    whole: bool = False,
    **more: Any,
) -> bytes:
    """The body of a request with one statement."""
    renderer = make_renderer(type, style or Style())

    body = renderer.begin(0)
    cutter = Cutter.whole() if whole else Cutter(max_rows, **more)
    for document in documents(series, cutter):
        body += renderer.document(document)
    return body + renderer.end() + renderer.finish()


def documents(told: Iterable[Told], cutter: Cutter) -> list[Document]:
    return [*chain.from_iterable(map(cutter.take, told)), *cutter.finish()]


def string_array(values: Sequence[bytes]) -> StringArray:
    offsets = np.concatenate(([0], np.cumsum([len(value) for value in values]))).astype(np.int64)
    return StringArray(offsets, np.frombuffer(b"".join(values), dtype=np.uint8))


# ---------------------------------------------------------------- JSON


def test_a_series_in_json() -> None:
    series = one(
        times(0, 1_500_000_001),
        floats("f", [1.0, 2.5]),
        ResultColumn("i", Kind.INTEGER, np.array([-(2**63), 7]), np.array([True, False])),
        ResultColumn("u", Kind.UNSIGNED, np.array([2**64 - 1, 0], dtype=np.uint64)),
        ResultColumn("b", Kind.BOOLEAN, np.array([True, False])),
        ResultColumn("s", Kind.STRING, string_array([b"a<b>&", "é".encode()])),
        ResultColumn("x", Kind.MIXED, [None, 1.0]),
        tags=(("host", "a"), ("shelf", "")),
    )
    assert render([series]).decode() == (
        '{"results":[{"statement_id":0,"series":[{"name":"m","tags":{"host":"a","shelf":""},'
        '"columns":["time","f","i","u","b","s","x"],"values":['
        '["1970-01-01T00:00:00Z",1,-9223372036854775808,18446744073709551615,true,"a\\u003cb\\u003e\\u0026",null],'
        '["1970-01-01T00:00:01.500000001Z",2.5,null,0,false,"é",1]]}]}]}\n'
    )


def test_no_rows_no_series_no_results() -> None:
    assert render([]) == b'{"results":[{"statement_id":0}]}\n'
    empty = ResultSeries("databases", (), (ResultColumn("name", Kind.STRING, []),))
    assert render([empty]) == b'{"results":[{"statement_id":0,"series":[{"name":"databases","columns":["name"]}]}]}\n'
    assert make_renderer(JSON, Style()).finish() == b"{}\n"


def test_a_name_that_is_none_is_left_out() -> None:
    series = ResultSeries(None, (), (ResultColumn("key", Kind.STRING, ["cpu,host=a"]),))
    assert json.loads(render([series]))["results"][0]["series"] == [{"columns": ["key"], "values": [["cpu,host=a"]]}]


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (1.0, "1"), (-0.0, "-0"), (0.1, "0.1"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e300, "1e+300"),
        (1.2345678901234567e20, "123456789012345670000"), (1e-6, "0.000001"), (1e-7, "1e-7"), (1.5e-10, "1.5e-10"),
        (5e-324, "5e-324"), (9007199254740993.0, "9007199254740992"), (2.1666666666666665, "2.1666666666666665"),
        (123456789.125, "123456789.125"), (0.00001, "0.00001"), (-1e22, "-1e+22"),
    ],
)  # fmt: skip
def test_floats_print_as_go_prints_them(value: float, printed: str) -> None:
    assert format_go_float(value) == printed
    body = render([one(times(0), floats("f", [value]))])
    assert f'["1970-01-01T00:00:00Z",{printed}]'.encode() in body


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=30))
def test_every_float_reads_back_from_json(values: list[float]) -> None:
    body = render([one(times(*range(len(values))), floats("f", values))], Style(epoch_ns=1))
    rows = json.loads(body)["results"][0]["series"][0]["values"]
    read = [None if row[1] is None else float(row[1]) for row in rows]
    assert read == [None if math.isnan(value) else value for value in values]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_in_csv_has_no_exponent_and_reads_back(value: float) -> None:
    text = format_plain_float(value)
    assert "e" not in text
    assert float(text) == value


@pytest.mark.parametrize(("value", "sign"), [(math.inf, "+"), (-math.inf, "-")])
def test_an_infinity_can_not_be_said_in_json(value: float, sign: str) -> None:
    with pytest.raises(Invalid) as raised:
        render([one(times(0), floats("f", [value]))])
    assert str(raised.value) == f"json: unsupported value: {sign}Inf"


def test_an_infinity_under_a_null_does_not_matter() -> None:
    assert b"null" in render([one(times(0), floats("f", [math.inf], [False]))])


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    raw = b"a\xff\xfe\xc3"
    series = one(
        ResultColumn("s", Kind.STRING, string_array([raw])),
        name=raw.decode("utf-8", "surrogateescape"),
        tags=(("k", raw.decode("utf-8", "surrogateescape")),),
    )
    (read,) = json.loads(render([series]))["results"][0]["series"]
    assert read["name"] == read["tags"]["k"] == read["values"][0][0] == "a\ufffd\ufffd\ufffd"


def test_times_of_a_zone_carry_its_offset_but_not_as_epoch() -> None:
    series = one(times(1_710_050_400_000_000_000, 1_710_140_400_000_000_000), utc_offset_zone="America/New_York")
    rows = json.loads(render([series]))["results"][0]["series"][0]["values"]
    assert rows == [["2024-03-10T01:00:00-05:00"], ["2024-03-11T03:00:00-04:00"]]
    assert json.loads(render([series], Style(epoch_ns=10**9)))["results"][0]["series"][0]["values"][0] == [
        1_710_050_400
    ]


def test_only_the_first_column_is_a_time_in_epoch() -> None:
    series = one(times(1_000_000_000), ResultColumn("t", Kind.TIME, np.array([0])))
    rows = json.loads(render([series], Style(epoch_ns=10**9)))["results"][0]["series"][0]["values"]
    assert rows == [[1, "1970-01-01T00:00:00Z"]]


def test_pretty_is_indented_by_four_blanks() -> None:
    series = one(times(0), ResultColumn("s", Kind.STRING, ['a,{}[]:"']))
    assert render([series], Style(pretty=True)).decode() == (
        '{\n    "results": [\n        {\n            "statement_id": 0,\n            "series": [\n                {\n'
        '                    "name": "m",\n                    "columns": [\n                        "time",\n'
        '                        "s"\n                    ],\n                    "values": [\n'
        '                        [\n                            "1970-01-01T00:00:00Z",\n'
        '                            "a,{}[]:\\""\n                        ]\n                    ]\n'
        "                }\n            ]\n        }\n    ]\n}\n"
    )


def test_pieces_of_one_series_come_together() -> None:
    pieces = [one(times(0, 1), continues=True), one(times(2), continues=True), one(times(3)), one(times(4), name="n")]
    for max_rows in (1, 2, 3, 10):
        answer = json.loads(render(pieces, Style(epoch_ns=1), max_rows=max_rows))["results"][0]["series"]
        assert [(s["name"], s["values"]) for s in answer] == [("m", [[0], [1], [2], [3]]), ("n", [[4]])]


def test_a_statement_can_be_taken_back() -> None:
    for style in (Style(), Style(pretty=True)):
        renderer = make_renderer(JSON, style)
        body = renderer.begin(0) + renderer.end()
        before = copy(renderer)
        renderer.begin(1)
        renderer.fail("lost")
        body += before.begin(1) + before.fail("kept") + before.finish()
        assert json.loads(body) == {"results": [{"statement_id": 0}, {"statement_id": 1, "error": "kept"}]}


# ---------------------------------------------------------------- chunks


def chunks(series: Sequence[ResultSeries], size: int, **more: Any) -> list[Any]:
    body = render(series, Style(epoch_ns=1, chunked=True), max_rows=size, **more)
    return [json.loads(line)["results"][0] for line in body.splitlines()]


def test_partial_says_what_goes_on() -> None:
    answer = chunks([one(times(0, 1, 2, 3), name="a"), one(times(4), name="b")], 3)
    assert answer == [
        {
            "statement_id": 0,
            "series": [{"name": "a", "columns": ["time"], "values": [[0], [1], [2]], "partial": True}],
            "partial": True,
        },
        {"statement_id": 0, "series": [{"name": "a", "columns": ["time"], "values": [[3]]}], "partial": True},
        {"statement_id": 0, "series": [{"name": "b", "columns": ["time"], "values": [[4]]}]},
    ]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 5))
def test_chunks_hold_just_so_many_rows_however_the_series_comes(lengths: list[int], size: int) -> None:
    rows = iter(range(100))
    parts = [
        one(times(*[next(rows) for _ in range(length)]), continues=index + 1 < len(lengths))
        for index, length in enumerate(lengths)
    ]
    answer = chunks(parts, size)
    total = sum(lengths)
    sizes = [len(chunk["series"][0].get("values", [])) for chunk in answer]
    assert sizes == [size] * (total // size) + ([total % size] if total % size or not total else [])
    assert ["partial" in chunk for chunk in answer] == [True] * (len(answer) - 1) + [False]


def test_wide_series_come_in_shorter_pieces_unless_chunks_were_asked_for() -> None:
    wide = one(times(*range(10)), *[floats(f"f{index}", [0.5] * 10) for index in range(4)])

    def sizes(max_cells: int | None) -> list[int]:
        return [document.rows for document in documents([wide], Cutter(8, max_cells=max_cells))]

    assert sizes(15) == [3, 3, 3, 1]
    assert sizes(1) == [1] * 10
    assert sizes(None) == [8, 2]


def test_a_whole_answer_is_one_chunk() -> None:
    answer = chunks([one(times(0, 1), name="a"), one(times(2), name="b")], 1, whole=True)
    assert len(answer) == 1
    assert [series["name"] for series in answer[0]["series"]] == ["a", "b"]
    assert "partial" not in answer[0]


# ---------------------------------------------------------------- CSV


def test_csv_as_specified() -> None:
    renderer = make_renderer(CSV, Style())
    statements = [
        [
            one(times(1_600_000_002_000_000_001), floats("v", [3]), name="cpu", tags=(("host", "a"),)),
            one(times(10**18), floats("v", [1]), name="cpu", tags=(("host", "a"), ("region", "x"), ("z", ""))),
        ],
        [],
        [one(times(10**18), floats("free", [1e21], [True]), floats("u", [0], [False]), name="mem")],
    ]

    body = b""
    for number, statement in enumerate(statements):
        body += renderer.begin(number)
        for document in documents(statement, Cutter(100)):
            body += renderer.document(document)
        body += renderer.end()
    assert (body + renderer.finish()).decode() == (
        "name,tags,time,v\n"
        "cpu,host=a,1600000002000000001,3\n"
        'cpu,"host=a,region=x",1000000000000000000,1\n'
        "\n"
        "name,tags,time,free,u\n"
        "mem,,1000000000000000000,1000000000000000000000,\n"
    )


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=6), min_size=1, max_size=5))
def test_any_string_reads_back_from_csv(values: list[str]) -> None:
    body = render([one(times(*range(len(values))), ResultColumn("s", Kind.STRING, values))], type=TEXT_CSV)
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
    assert [row[3] for row in rows[1:]] == values


# ---------------------------------------------------------------- MessagePack


def unpack(body: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(ext_hook=lambda code, raw: (code, raw), strict_map_key=False)
    unpacker.feed(body)
    return list(unpacker)


def test_msgpack_as_specified() -> None:
    series = one(
        times(1_600_000_002_000_000_001),
        floats("f", [1]),
        ResultColumn("i", Kind.INTEGER, np.array([300])),
        floats("n", [math.nan]),
        tags=(("host", "a"),),
    )
    body = render([series], type=MSGPACK)
    moment = b"\xc7\x0c\x05" + (1_600_000_002).to_bytes(8, "big") + (1).to_bytes(4, "big")
    assert moment + b"\xcb\x3f\xf0\0\0\0\0\0\0" + b"\xd1\x01\x2c" + b"\xc0" in body
    (answer,) = unpack(body)
    assert list(answer["results"][0]) == ["statement_id", "series"]
    assert answer["results"][0]["series"][0]["columns"] == ["time", "f", "i", "n"]
    assert make_renderer(MSGPACK, Style()).finish() == b"\x81\xa7results\x90"


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=20))
def test_integers_of_any_size_read_back_from_msgpack(values: list[int]) -> None:
    signed = [value for value in values if value < 2**63] or [0]
    unsigned = [value for value in values if value >= 0] or [0]
    for kind, dtype, column in ((Kind.INTEGER, np.int64, signed), (Kind.UNSIGNED, np.uint64, unsigned)):
        series = one(times(*range(len(column))), ResultColumn("v", kind, np.array(column, dtype=dtype)))
        (answer,) = unpack(render([series], Style(epoch_ns=1), MSGPACK))
        assert [row[1] for row in answer["results"][0]["series"][0]["values"]] == column


def test_msgpack_chunks_are_one_map_each() -> None:
    answer = unpack(render([one(times(0, 1, 2))], Style(epoch_ns=1, chunked=True), MSGPACK, max_rows=2))
    assert [chunk["results"][0]["series"][0]["values"] for chunk in answer] == [[[0], [1]], [[2]]]
    assert [chunk["results"][0].get("partial") for chunk in answer] == [True, None]


def test_a_failed_statement_in_msgpack_is_its_error_only() -> None:
    renderer = make_renderer(MSGPACK, Style())
    body = renderer.begin(0) + renderer.fail("no") + renderer.finish()
    assert unpack(body) == [{"results": [{"error": "no"}]}]


# ---------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("accept", "type"),
    [
        ("", JSON), ("*/*", JSON), ("application/csv", CSV), ("text/csv", TEXT_CSV), ("application/x-msgpack", MSGPACK),
        ("text/csv; charset=utf-8", TEXT_CSV), ("text/html, application/csv;q=0.5", CSV), ("text/*", TEXT_CSV),
        ("application/csv;q=0.1, application/json", JSON), ("image/png", JSON), ("application/csv;q=0", JSON),
        ("application/json, text/csv", JSON), (";;q=x,,", JSON),
    ],
)  # fmt: skip
def test_an_accept_list_is_read(accept: str, type: str) -> None:
    assert choose_type(accept) == type


@pytest.mark.parametrize(
    ("word", "unit"), [("", None), ("ns", 1), ("n", 1), ("u", 1000), ("us", 1000), ("µ", 1000), ("ms", 10**6),
                       ("s", 10**9), ("m", 60 * 10**9), ("h", 3600 * 10**9), ("rfc3339", 1), ("d", 1)],
)  # fmt: skip
def test_the_unit_of_epoch(word: str, unit: int | None) -> None:
    assert epoch_of(word) == unit


# ---------------------------------------------------------------- series that share their columns


@pytest.mark.parametrize("type", [JSON, CSV, MSGPACK])
@pytest.mark.parametrize("chunked", [False, True])
@given(
    cuts=st.lists(st.integers(0, 12), max_size=6),
    portion_cells=st.integers(1, 60),
    max_rows=st.integers(1, 13),
    together=st.booleans(),
)
def test_series_that_share_columns_print_as_those_that_do_not(
    type: str, chunked: bool, cuts: list[int], portion_cells: int, max_rows: int, together: bool
) -> None:
    bounds = sorted({0, *cuts, 12})
    columns = (
        times(*range(12)),
        floats("f", [n / 4 for n in range(12)], [n % 5 != 3 for n in range(12)]),
        ResultColumn("s", Kind.STRING, string_array([b"x" * n for n in range(12)])),
    )
    shared = [
        ResultSeries("m", (("t", str(start)),), columns, span=(start, stop))
        for start, stop in itertools.pairwise(bounds)
    ]
    apart = [ResultSeries(each.name, each.tags, each.own_columns) for each in shared]
    more = {"max_rows": max_rows, "together": together and not chunked}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_module, "PORTION_CELLS", portion_cells)
        assert render(shared, Style(chunked=chunked), type, **more) == render(
            apart, Style(chunked=chunked), type, **more
        )


def test_short_series_are_printed_together_up_to_the_rows_and_cells_allowed() -> None:
    columns = (times(*range(10)), floats("f", [0.5] * 10))
    series = [one(*columns, span=(n, n + 1), tags=(("t", str(n)),)) for n in range(10)]

    def pieces(max_rows: int, max_cells: int) -> list[int]:
        made = documents([series], Cutter(max_rows, max_cells=max_cells, together=True))
        return [len(document.pieces) for document in made]

    assert pieces(4, 100) == [4, 4, 2]
    assert pieces(100, 6) == [3, 3, 3, 1]
    assert pieces(100, 100) == [10]
