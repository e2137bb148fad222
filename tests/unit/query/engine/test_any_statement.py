"""Whatever a SELECT asks, it gets an answer or an error with a code; nothing else comes out of the engine."""

from __future__ import annotations

import os
from random import Random

import pytest

from services.query.compile import prepare
from tests.unit.query.engine.statements import SOURCES, StatementMaker
from tests.unit.query.engine.test_examples import ask

STATEMENTS = int(os.environ.get("TIDEGATE_ANY_STATEMENTS", "700"))


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    prepare()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dataset", SOURCES)
async def test_any_statement_is_answered(dataset: str) -> None:
    random = Random(f"{dataset} {STATEMENTS}")
    # Soon after the data: windows up to a distant now would be millions.
    now_ns = (SOURCES[dataset][2] + 10_000) * 10**9
    for _ in range(STATEMENTS // len(SOURCES)):
        text = StatementMaker(random, dataset).select()
        try:
            status, _ = await ask({"query": text, "params": {}, "dataset": dataset}, now_ns)
        except Exception as error:
            raise AssertionError(text) from error
        assert status in (200, 400), text
