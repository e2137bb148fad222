"""Several statements in one request: whose error shows where, what is kept back, and what breaks the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from common.errors import Gone, InfluxError, InternalError, Invalid, NotFound, Unavailable
from services.query.execute import HELD_BYTES, Executor, Limits, execute
from services.query.influxql import tree
from services.query.influxql.parser import parse
from services.query.render import make_renderer
from services.query.render.renderer import JSON, Style
from services.query.render.result import Kind, ResultColumn, ResultSeries
from tests.unit.query.schema.test_show import context

FOREVER_S = 1e18


def rows(count: int, name: str = "m", *, continues: bool = False, value: float = 0.5) -> ResultSeries:
    columns = (
        ResultColumn("time", Kind.TIME, np.arange(count)),
        ResultColumn("v", Kind.FLOAT, np.full(count, value)),
    )
    return ResultSeries(name, (), columns, continues)


def answering(*steps: ResultSeries | BaseException) -> Executor:
    """A statement that gives these series and raises these errors, in order."""

    async def run(_statement: tree.Statement, _context: Any) -> AsyncIterator[ResultSeries]:
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            yield step

    return run


def run(
    executors: dict[type, Executor],
    text: str = "SELECT a FROM m; SHOW DATABASES; SELECT b FROM m",
    style: Style | None = None,
    deadline_s: float = FOREVER_S,
    max_rows: int = 10_000,
    on_piece: Callable[[bytes], None] = lambda _: None,
) -> list[bytes]:
    style = style or Style(epoch_ns=1)
    limits = Limits(max_rows, deadline_s, style.chunked)

    async def collect() -> list[bytes]:
        pieces = []
        async for piece in execute(parse(text), context(), make_renderer(JSON, style), limits, executors):
            on_piece(piece)
            pieces.append(piece)
        return pieces

    return asyncio.run(collect())


def results(pieces: list[bytes]) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = json.loads(b"".join(pieces))["results"]
    return answer


@pytest.mark.parametrize("error", [Invalid("what was wrong"), NotFound("what was wrong")])
def test_a_failing_statement_shows_its_error_and_the_later_ones_are_not_executed(error: InfluxError) -> None:
    answer = results(run({tree.Select: answering(rows(1)), tree.ShowDatabases: answering(error)}))
    assert [entry.get("error") for entry in answer] == [None, "what was wrong", "not executed"]
    assert [entry["statement_id"] for entry in answer] == [0, 1, 2]
    assert answer[0]["series"][0]["values"] == [[0, 0.5]]


def test_an_error_after_rows_takes_their_place() -> None:
    failing = answering(rows(2), rows(1, "n"), Invalid("too late"))
    assert results(run({tree.Select: failing}, "SELECT a FROM m")) == [{"statement_id": 0, "error": "too late"}]


def test_an_infinity_anywhere_fails_the_statement() -> None:
    infinite = answering(rows(1), rows(1, "n", value=np.inf))
    answer = results(run({tree.Select: infinite}, "SELECT a FROM m"))
    assert answer == [{"statement_id": 0, "error": "json: unsupported value: +Inf"}]


def test_an_error_after_much_has_left_is_said_beside_it() -> None:
    many = [rows(10_000, f"m{index}") for index in range(40)]
    pieces = run({tree.Select: answering(*many, Invalid("too late"))}, "SELECT a FROM m")
    assert len(pieces) > 1
    assert len(pieces[0]) >= HELD_BYTES
    (entry,) = results(pieces)
    assert entry["error"] == "too late"
    assert len(entry["series"]) > 1


@pytest.mark.parametrize("error", [Unavailable("storage is away"), InternalError("x"), Gone("x"), RuntimeError("x")])
def test_a_trouble_of_our_own_is_no_statement_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        run({tree.Select: answering(rows(1)), tree.ShowDatabases: answering(error)})


def test_a_trouble_in_mid_stream_does_not_end_the_answer() -> None:
    pieces: list[bytes] = []
    many = [rows(10_000, f"m{index}") for index in range(40)]
    with pytest.raises(Unavailable):
        run({tree.Select: answering(*many, Unavailable())}, "SELECT a FROM m", on_piece=pieces.append)
    assert pieces
    with pytest.raises(ValueError):
        json.loads(b"".join(pieces))


def test_refused_statements_say_so_in_influxdbs_words() -> None:
    for text, words in (
        ("CREATE DATABASE x", "CREATE DATABASE"), ("KILL QUERY 5", "SHOW QUERIES"), ("SHOW SHARD GROUPS", None),
        ("GRANT ALL PRIVILEGES TO u", "GRANT ALL"), ("SELECT a INTO b FROM m", "SELECT INTO"),
    ):  # fmt: skip
        answer = results(run({tree.Select: answering(rows(1))}, text))
        assert answer == [{"statement_id": 0, "error": f"not implemented: {words or text}"}]


def test_every_statement_has_an_executor_or_words() -> None:
    from services.query.influxql.refused import WORDS
    from services.query.statements import EXECUTORS

    known = set(WORDS) | set(EXECUTORS)
    assert set(tree.Statement.__args__) <= known


def test_time_runs_out() -> None:
    async def slow(_statement: Any, _context: Any) -> AsyncIterator[ResultSeries]:
        yield rows(1)
        await asyncio.sleep(60)

    answer = results(run({tree.Select: slow}, "SELECT a FROM m", deadline_s=0))
    assert answer == [{"statement_id": 0, "error": "query-timeout limit exceeded"}]


def test_chunks_leave_as_they_are_made() -> None:
    executors = {tree.Select: answering(rows(3, continues=True), rows(2)), tree.ShowDatabases: answering(rows(2))}
    pieces = run(executors, "SELECT a FROM m; SHOW DATABASES", Style(epoch_ns=1, chunked=True), max_rows=2)
    chunks = [json.loads(piece)["results"][0] for piece in pieces]
    assert [len(chunk["series"][0]["values"]) for chunk in chunks] == [2, 2, 1, 2]
    assert [chunk.get("partial", False) for chunk in chunks] == [True, True, False, False]
    assert [chunk["statement_id"] for chunk in chunks] == [0, 0, 0, 1]


def test_a_failing_statement_in_chunks_comes_after_its_rows() -> None:
    executors = {tree.Select: answering(rows(2), rows(2, "n"), Invalid("no"))}
    pieces = run(executors, "SELECT a FROM m; SELECT a FROM m", Style(epoch_ns=1, chunked=True), max_rows=2)
    chunks = [json.loads(line)["results"][0] for line in b"".join(pieces).splitlines()]
    assert [chunk.get("error") for chunk in chunks] == [None, "no", "not executed"]


def test_nothing_asked_is_nothing_answered() -> None:
    assert run({}, " ; ") == [b"{}\n"]


def test_whoever_stops_reading_stops_the_statement() -> None:
    closed = []

    async def endless(_statement: Any, _context: Any) -> AsyncIterator[ResultSeries]:
        try:
            while True:
                yield rows(10_000)
        finally:
            closed.append(True)

    async def read_one() -> None:
        limits = Limits(10_000, FOREVER_S)
        pieces = execute(
            parse("SELECT a FROM m"), context(), make_renderer(JSON, Style()), limits, {tree.Select: endless}
        )
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(read_one())
    assert closed
