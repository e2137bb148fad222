"""A long WHERE costs in proportion to its length: squared, one of these would hold a query service for minutes."""

from __future__ import annotations

import pytest

from tests.unit.query.engine.test_examples import ask

NOW_NS = 1_704_855_000 * 10**9


@pytest.mark.parametrize(
    ("condition", "joint"),
    [("v > 0", " AND "), ("v > {}", " OR "), ("n{} = 1 OR v > 0", " OR ")],
    ids=["and", "or", "names"],
)
async def test_a_condition_of_thousands_of_parts_is_answered(condition: str, joint: str) -> None:
    where = joint.join(condition.format(number) for number in range(10_000))
    status, _ = await ask({"query": f"SELECT v FROM p WHERE {where}", "params": {}, "dataset": "ties"}, NOW_NS)
    assert status == 200
