"""SHOW, DELETE, nested SELECTs and texts that don't parse, made at random, asked of Tidegate and of InfluxDB 1.6.7.

Where 1.6.7 is known to answer otherwise than 2.9, or is not followed, the lists of what is known tell why.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest

from tests.bench.servers import Influx
from tests.stack import Stack
from tests.system.beside import Known, Pair, differences, equal
from tests.system.made_statements import LINES, BreakMaker, DeleteMaker, NestedMaker, ShowMaker
from tests.system.test_influxql_examples import CASES

SHOWN, DELETED, NESTED, BROKEN = 150, 25, 120, 400


@pytest.fixture(scope="module")
def pair(stack: Stack, influx: Influx) -> Pair:
    made = Pair(stack, influx, "made-statements")
    made.make()
    made.write(LINES)
    return made


OF_SHOW: Known = [
    ("values are asked for of an index that knows no series", re.compile(r"TAG VALUES .*\bOR\b").search),
    ("what several sources name is counted more than once", re.compile(r"CARDINALITY FROM .*,").search),
]


def test_show(pair: Pair) -> None:
    maker = ShowMaker(Random(11))
    assert not differences(pair, [maker.show() for _ in range(SHOWN)], OF_SHOW)


STATE = ("SELECT * FROM /./", "SHOW SERIES", "SHOW MEASUREMENTS", "SHOW TAG KEYS", "SHOW TAG VALUES WITH KEY =~ /./")


def test_what_deletes_leave(stack: Stack, influx: Influx) -> None:
    maker = DeleteMaker(Random(12))
    for number in range(DELETED):
        text = maker.statement()
        pair = Pair(stack, influx, f"deleted-{number}")
        pair.make()
        pair.write(LINES)
        assert not differences(pair, [text, *STATE], []), text


# Rows of a subquery come in no order that can be relied on.
OF_NESTED: Known = [("the order of rows", re.compile(r"^SELECT x\b|(first|last)\(x\)").search)]


@pytest.mark.parametrize("deep", [1, 2, 3])
def test_nested_selects(pair: Pair, deep: int) -> None:
    maker = NestedMaker(Random(deep))
    assert not differences(pair, [maker.select(deep) for _ in range(NESTED // 3)], OF_NESTED)


OF_TEXTS: Known = [
    ("statements that only one of them has", re.compile(r"WITH\s+KEY|\bON\b|EXACT|SUBSCRIPTION|CONTINUOUS").search),
    ("a name right before a quote is lost", re.compile(r"\w\"").search),
    ("a slash after a measurement is taken for a pattern", re.compile(r"[\w\")]\s*,?/").search),
    ("casts name unsigned", re.compile("::").search),
    ("a dot at the end stands one further", re.compile(r"\.\s*$").search),
]


def parses_alike(got: Any, wanted: Any) -> bool:
    """Whether both refuse the text in the same words, or both take it."""
    refused = [isinstance(answer, str) for answer in (got, wanted)]
    return got == wanted if any(refused) else True


def test_texts_that_do_not_parse(pair: Pair) -> None:
    maker, random = BreakMaker(Random(13)), Random(14)
    show, nested, deletes = ShowMaker(random), NestedMaker(random), DeleteMaker(random)
    recorded = [case["query"] for case in CASES if 0 < len(case["query"]) < 300]
    texts: list[str] = []
    while len(texts) < BROKEN:
        made = [show.show(), deletes.statement(), nested.select(1), random.choice(recorded)]
        texts.append(maker.broken(random.choice(made)))
    # What parses is not run: a database that nobody has.
    elsewhere = Pair(pair.stack, pair.influx, "nobody-has-it")
    assert not differences(elsewhere, texts, OF_TEXTS, parses_alike)


def test_same_is_not_all() -> None:
    rows = {"results": [{"statement_id": 0, "series": [{"columns": ["time", "x"], "values": [[1, 2.0]]}]}]}
    assert equal(rows, rows)
    assert not equal(rows, {"results": [{"statement_id": 0}]})
    assert not parses_alike("found x", {"results": []})
