"""The newest windows first: the same answers as over everything, from fewer segments."""

from __future__ import annotations

import functools
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from common.budget import Budget
from services.query.evaluation import newest
from services.query.evaluation.select import select
from services.query.influxql.parser import parse
from services.query.reading import units
from services.query.reading.reader import Reader
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.points import Point

S = 10**9


def stored() -> MemoryStorage:
    """Ten commits of a hundred seconds, one after the other in one shard, with a gap in the last."""
    storage = MemoryStorage()
    for part in range(10):
        seconds = [part * 100 + second for second in range(100) if part < 9 or not 40 <= second < 80]
        storage.write(bucket_of("db", "autogen").id, [
            Point("m", (("h", f"h{n}"),), (("v", float(second * 7 % 31)), ("w", second)), second * S)
            for n in range(2) for second in seconds
        ], level=1)  # fmt: skip
    return storage


shared = functools.cache(stored)


async def ask(storage: MemoryStorage, text: str) -> list[Any]:
    (statement,) = parse(text)
    context = make_context(storage, "db", reader=Reader(storage, "memory:", Budget(1 << 30)))  # type: ignore[arg-type]
    with patch.object(units, "SMALL_ROWS", 1):
        return [
            (series.tags, [np.asarray(column.values).tolist() for column in series.own_columns],
             [None if column.valid is None else column.valid.tolist() for column in series.own_columns])
            async for series in select(statement, context)  # type: ignore[arg-type]
        ]  # fmt: skip


@pytest.mark.parametrize("fill", ["", " fill(none)", " fill(previous)", " fill(linear)", " fill(3)"])
@pytest.mark.parametrize("call", ["max(v)", "mean(v)", "count(v)", "last(v), w", "max(v) + 1", "derivative(mean(v))",
                                  "top(v, 2)", "max(v), min(w)"])  # fmt: skip
@pytest.mark.parametrize("where", ["time < 1000s", "time < 970s", "time < 1500s", "time >= 950s AND time < 1000s",
                                   "time < 20s", "w < 300 AND time < 1000s", "h = 'h0' AND time < 1000s"])  # fmt: skip
async def test_newest_windows_answer_as_all_do(call: str, fill: str, where: str) -> None:
    storage = shared()
    text = f"SELECT {call} FROM m WHERE {where} GROUP BY time(10s){fill} ORDER BY time DESC LIMIT 3 OFFSET 1"
    with patch.object(newest, "TRIES", 0):
        everything = await ask(storage, text)
    assert await ask(storage, text) == everything


async def test_older_segments_are_not_read() -> None:
    storage = stored()
    text = "SELECT max(v) FROM m WHERE time < 1000s GROUP BY time(5s) ORDER BY time DESC LIMIT 4"
    ((_, columns, _),) = await ask(storage, text)
    assert columns[0] == [995 * S, 990 * S, 985 * S, 980 * S]
    assert storage.fetched == {10}
