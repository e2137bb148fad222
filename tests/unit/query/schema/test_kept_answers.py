"""Answers of SHOW that are told again: the same as worked out anew, and never older than the series asked about."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from common.model import Bucket, FieldType
from services.query.engine.frame import ANSWER_BYTES, SeriesTable, table_of_tags
from services.query.engine.kept import Kept
from services.query.execute import Limits, execute
from services.query.influxql.parser import parse
from services.query.render import make_renderer
from services.query.render.renderer import CSV, JSON, MSGPACK, Style
from tests.unit.query.schema.test_show import EXECUTORS, State, context

HOSTS = [{"host": f'h<{n}>"', "dc": "east" if n % 3 else "west", "é": "à"} for n in range(60)]
STATEMENTS = (
    "SHOW TAG VALUES FROM cpu WITH KEY = host",
    "SHOW TAG VALUES FROM cpu WITH KEY = dc",
    "SHOW TAG VALUES FROM cpu WITH KEY IN (dc, host) LIMIT 7 OFFSET 2",
    "SHOW TAG VALUES FROM cpu WITH KEY =~ /^(dc|é)$/",
    "SHOW TAG VALUES FROM cpu WITH KEY = host WHERE dc = 'west'",
    "SHOW TAG VALUES FROM cpu WITH KEY = host WHERE dc = 'west' OR dc =~ /e/",
    "SHOW TAG VALUES FROM cpu WITH KEY = host WHERE late = 'x'",
    "SHOW TAG VALUES FROM cpu WITH KEY = nosuch",
    "SHOW TAG KEYS FROM cpu",
    "SHOW TAG KEYS FROM cpu LIMIT 1",
    "SHOW TAG KEYS FROM cpu WHERE host = 'none'",
)


@dataclass
class Tables:
    """Stands for the reader: one measurement whose table stays the same until another is given."""

    table: SeriesTable
    fields: tuple[tuple[int, str, FieldType], ...] = ((0, "load", FieldType.FLOAT),)

    async def measured(self, _: Bucket, name: str) -> State:
        return State(name, self.fields, self.table)


def ask(reader: Tables, text: str, content_type: str = JSON, style: Style = Style(), max_rows: int = 1_000) -> bytes:
    async def run() -> bytes:
        asked: Any = context(reader=reader)
        limits = Limits(max_rows, asyncio.get_running_loop().time() + 60, style.chunked)
        pieces = execute(parse(text), asked, make_renderer(content_type, style), limits, EXECUTORS)
        return b"".join([piece async for piece in pieces])

    return asyncio.run(run())


@pytest.mark.parametrize("max_rows", [1_000, 7])
@pytest.mark.parametrize("style", [Style(), Style(1), Style(chunked=True), Style(pretty=True)], ids=repr)
@pytest.mark.parametrize("content_type", [JSON, CSV, MSGPACK])
def test_what_is_told_again_has_the_same_bytes(content_type: str, style: Style, max_rows: int) -> None:
    reader = Tables(table_of_tags(HOSTS))
    for _ in range(2):
        for text in STATEMENTS:
            anew = ask(Tables(table_of_tags(HOSTS)), text, content_type, style, max_rows)
            assert ask(reader, text, content_type, style, max_rows) == anew
    assert reader.table.answers.used_bytes > 0


def test_a_series_that_came_since_is_told() -> None:
    reader = Tables(table_of_tags(HOSTS[:5]))
    text = "SHOW TAG VALUES FROM cpu WITH KEY = host"
    assert b"h9" not in ask(reader, text)
    reader.table = table_of_tags([*HOSTS[:5], {"host": "h9"}])
    assert b"h9" in ask(reader, text)


def test_a_field_that_came_since_is_no_tag_any_more() -> None:
    reader = Tables(table_of_tags(HOSTS))
    text = "SHOW TAG VALUES FROM cpu WITH KEY = host WHERE dc = 'none'"
    assert b"h<" not in ask(reader, text) and b"values" not in ask(reader, text)
    reader.fields = (*reader.fields, (0, "dc", FieldType.STRING))
    anew = ask(Tables(table_of_tags(HOSTS), reader.fields), text)
    assert ask(reader, text) == anew


def test_answers_are_kept_as_room_allows() -> None:
    table = table_of_tags(HOSTS)
    reader = Tables(table)
    for n in range(200):
        ask(reader, f"SHOW TAG VALUES FROM cpu WITH KEY = host WHERE dc != '{n}'")
        assert 0 < table.answers.used_bytes <= table.answers.room_bytes == ANSWER_BYTES * len(HOSTS)


def test_the_least_recently_used_go_first_and_what_is_too_large_is_not_kept() -> None:
    kept: Kept[str] = Kept(10)
    kept.keep("a", "A", 4)
    kept.keep("b", "B", 4)
    assert kept.find("a") == "A"
    kept.keep("c", "C", 4)
    assert (kept.find("a"), kept.find("b"), kept.find("c")) == ("A", None, "C")
    kept.keep("a", "A2", 11)
    assert kept.find("a") is None and kept.used_bytes == 4
