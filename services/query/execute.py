"""Statements, one after the other → the bytes of the answer, in pieces.

A statement that fails shows its error in its own entry and the later ones say ``not executed`` (spec/README.md,
decision 7). A trouble of the service's own is no statement error: it is raised, so that the request as a whole says
503, or, once bytes have left, the connection breaks. Source: spec/http-query-v1.md, 2 and 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from common.errors import InfluxError
from services.query.context import QueryContext
from services.query.influxql import refused, tree
from services.query.render.document import Cutter, Document, RowCap
from services.query.render.renderer import Renderer
from services.query.render.result import ResultSeries, Told

# A statement's bytes are kept back until this many have come, so that an error in it can still take their place.
HELD_BYTES = 1 << 20
# Of a piece of an answer that is not chunked.
MAX_CELLS = 100_000
# A document with more cells than this is printed in a thread.
CELLS_ON_LOOP = 2_500
# Errors that belong to a statement; all others are the service's own.
STATEMENT_CODES = frozenset(
    ("invalid", "not found", "not implemented", "forbidden", "unprocessable entity", "conflict", "empty value")
)

Executor = Callable[[Any, QueryContext], AsyncIterator[ResultSeries] | AsyncIterator[list[ResultSeries]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request: rows a document, the moment (of the loop's clock) at which it has to be done, and how many rows
    an answer may have that is not chunked (0 = any)."""

    max_rows: int
    deadline_s: float
    chunked: bool = False
    row_cap: int = 0


def run_statement(
    statement: tree.Statement, context: QueryContext, executors: Mapping[type, Executor]
) -> AsyncIterator[ResultSeries] | AsyncIterator[list[ResultSeries]]:
    """The series that *statement* answers, by its row of *executors*.

    Raises:
        NotImplementedHere: the statement has no row; in InfluxDB's words.
    """
    executor = executors.get(type(statement))
    if executor is None:
        raise refused.refusal(refused.WORDS[type(statement)])
    if isinstance(statement, tree.Select) and statement.into is not None:
        raise refused.refusal("SELECT INTO")
    return executor(statement, context)


async def execute(
    statements: Sequence[tree.Statement],
    context: QueryContext,
    renderer: Renderer,
    limits: Limits,
    executors: Mapping[type, Executor],
) -> AsyncGenerator[bytes, None]:
    """Run *statements* in order and print what they answer.

    Yields:
        The body in pieces, never empty ones.
    Raises:
        InfluxError: a trouble of the service's own; what was yielded before is not a whole answer.
    """
    held = bytearray()
    cap = RowCap(0 if limits.chunked else limits.row_cap)
    for number, statement in enumerate(statements):
        before: Renderer | None = copy(renderer)
        kept = len(held)
        held += renderer.begin(number)
        try:
            series, cutter = run_statement(statement, context, executors), _cutter(statement, limits)
            try:
                told: Told | None = ()
                while told is not None:
                    # The time of whoever takes the rows does not count: the block holds no yield.
                    with context.running.step(limits.deadline_s):
                        told = await anext(series, None)
                    for document in cutter.finish() if told is None else cutter.take(told):
                        document = cap.cut(document)
                        context.running.cost.rows_told += document.rows
                        held += await _print(renderer, document)
                        if limits.chunked or len(held) >= HELD_BYTES:
                            yield bytes(held)
                            held.clear()
                            before = None
                        if cap.full:
                            told = None
                            break
            finally:
                await _close(series)
            held += renderer.end()
        except InfluxError as error:
            if error.code not in STATEMENT_CODES:
                raise
            if before is not None:
                renderer = before
                del held[kept:]
                held += renderer.begin(number)
            held += renderer.fail(str(error))
            for later in range(number + 1, len(statements)):
                held += renderer.begin(later) + renderer.fail("not executed")
            break
        if limits.chunked and held:
            yield bytes(held)
            held.clear()
    held += renderer.finish()
    if held:
        yield bytes(held)


def _cutter(statement: tree.Statement, limits: Limits) -> Cutter:
    if not limits.chunked:
        return Cutter(limits.max_rows, max_cells=MAX_CELLS, together=True)
    # Only SELECT is split into chunks there; SHOW answers come in one.
    return Cutter(limits.max_rows) if isinstance(statement, tree.Select) else Cutter.whole()


async def _close(series: AsyncIterator[ResultSeries] | AsyncIterator[list[ResultSeries]]) -> None:
    close = getattr(series, "aclose", None)
    if close is not None:
        await close()


async def _print(renderer: Renderer, document: Document) -> bytes:
    if document.cells <= CELLS_ON_LOOP:
        return renderer.document(document)
    return await asyncio.to_thread(renderer.document, document)
