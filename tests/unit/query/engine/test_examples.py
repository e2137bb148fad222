"""The recorded examples in process: points become blocks in a storage in memory, no server is started."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from common.errors import Invalid
from services.query.execute import Limits, execute
from services.query.influxql.bind import parse_params
from services.query.influxql.parser import parse
from services.query.influxql.tokens import ParseError
from services.query.render import make_renderer
from services.query.render.renderer import Style, epoch_of
from services.query.statements import EXECUTORS
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.points import read_points

NOW_NS = 1_790_000_000_000_000_000
TESTS = Path(__file__).parents[3]
# Answers that are not those of 2.9.0, by a decision or because the statement is another's: held by the system test.
NOT_HERE = {
    "multi-1", "multi-4", "epoch-8", "errors.parse-1", "policies-10",
}  # fmt: skip
TOPICS_NOT_HERE = {"errors.parse", "admin"}


@lru_cache
def recorded() -> tuple[dict[str, Any], dict[str, Any]]:
    text = (TESTS / "data" / "influxql-examples.jsonl").read_text()
    items = [json.loads(line) for line in text.splitlines()]
    cases = {item["id"]: item for item in items if item["type"] == "case"}
    return {item["id"]: item for item in items if item["type"] == "dataset"}, cases


def case_ids() -> Iterator[str]:
    for id, case in recorded()[1].items():
        if case["topic"] not in TOPICS_NOT_HERE and id not in NOT_HERE and "volatile" not in case:
            yield id


@lru_cache
def storage_of(dataset: str) -> MemoryStorage:
    storage = MemoryStorage()
    for write in recorded()[0][dataset]["writes"]:
        points = read_points(write["lines"], write["precision"])
        storage.write(bucket_of(dataset, write["rp"]).id, points)
    return storage


async def ask(case: dict[str, Any], now_ns: int = NOW_NS) -> tuple[int, list[Any]]:
    params, dataset = case["params"], recorded()[0][case["dataset"]]
    try:
        statements = parse(case["query"], parse_params(params.get("params", "")))
    except ParseError as error:
        return 400, [{"code": "invalid", "message": f"failed to parse query: {error}"}]
    except Invalid as error:
        return 400, [{"code": "invalid", "message": str(error)}]
    context = make_context(storage_of(case["dataset"]), dataset["id"], dataset["rps"], params.get("rp", ""), now_ns)
    chunked = params.get("chunked") == "true"
    renderer = make_renderer("application/json", Style(epoch_of(params.get("epoch", "")), chunked))
    limits = Limits(int(params.get("chunk_size", 10_000)), 1e12, chunked)
    body = b"".join([piece async for piece in execute(statements, context, renderer, limits, EXECUTORS)])
    return 200, [json.loads(line) for line in body.splitlines() if line]


def same(got: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(wanted, dict) and isinstance(got, dict):
        return got.keys() == wanted.keys() and all(same(got[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, list) and isinstance(got, list):
        return len(got) == len(wanted) and all(same(a, b, tolerance) for a, b in zip(got, wanted, strict=True))
    if isinstance(wanted, float) or isinstance(got, float):
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (got, wanted))
        return numbers and math.isclose(got, wanted, rel_tol=tolerance, abs_tol=1e-12)
    return type(got) is type(wanted) and bool(got == wanted)


def expected_failures() -> set[str]:
    lines = (TESTS / "cases" / "influxql_expected_failures.txt").read_text().splitlines()
    return {line.split()[0] for line in lines if line and not line.startswith("#")}


def marked(ids: Iterator[str]) -> Iterator[Any]:
    failing = expected_failures()
    for id in ids:
        yield pytest.param(id, marks=pytest.mark.xfail(strict=True)) if id in failing else id


@pytest.mark.parametrize("id", list(marked(case_ids())))
async def test_a_recorded_question_gets_the_recorded_answer(id: str) -> None:
    case = recorded()[1][id]
    status, answers = await ask(case)
    wanted = case["response_chunks"] if "response_chunks" in case else [case["response"]]
    assert status == case["status"]
    assert same(answers, wanted, case.get("tolerance", 1e-9)), (case["query"], answers, wanted)
