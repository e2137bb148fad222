"""Statements made at random, asked of Tidegate and of InfluxDB 1.6.7 over the same data: the answers are the same.

Where 1.6.7 is known to answer otherwise than 2.9, or to leave open what it answers, ``KNOWN`` tells why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests

from tests.bench.servers import Influx
from tests.conftest import need
from tests.stack import Stack
from tests.system.test_influxql_examples import DATASETS, same
from tests.unit.query.engine.statements import WITH_PERIOD, StatementMaker

# Data sets that 1.6.7 takes as they are: no unsigned values, no shards of several types, one policy.
OVER = ("greenhouse", "sparse", "ties", "fleet")
STATEMENTS = 100  # over each
TOLERANCE = 1e-9

# (why, of which statements): answers are asked for, not compared.
KNOWN: list[tuple[str, Callable[[str], Any]]] = [
    ("functions that 1.6.7 does not know, or whose fits differ by rounding",
     re.compile("|".join((*WITH_PERIOD, "holt_winters"))).search),
    ("a draw between equal values or times is left open", re.compile(r"mode\(|sample\(|percentile\(").search),
    ("top() and bottom() run forward in 1.6.7", re.compile(r"(top|bottom)\(.*DESC").search),
    ("OFFSET without LIMIT stops early in 1.6.7", re.compile(r"^(?!.*LIMIT).*OFFSET").search),
    ("unsigned, and casts out of range", re.compile(r"unsigned|18446744073709551615").search),
    ("a missing boolean counts as false in 2.9", re.compile(r"(vent|flag|b) (=|!=) (true|false)").search),
    ("the order of equal times of what a subquery gives is left open", re.compile(r"^SELECT [^(]*FROM \(").search),
    ("with ORDER BY time DESC areas are negative in 1.6.7; its last window may be one without any",
     re.compile(r"integral\(").search),
    ("deviations of single points inside another function", re.compile(r"\w\(stddev\(").search),
    ("top() and bottom() of booleans", re.compile(r"(top|bottom)\((b|flag|vent),").search),
    ("a condition on a field that only another measurement has", re.compile(r"FROM /.*WHERE.*(temp|load|used)").search),
    ("a number for functions of tags", re.compile(r"\((host|dc|gen|site|room|shelf|t)\).*fill\(-?\d").search),
]  # fmt: skip


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """InfluxDB 1.6.7 with the data sets."""
    need("influxd", "influxdb")
    server = Influx(tmp_path_factory.mktemp("influx") / "data")
    server.start()
    yield server
    server.stop()


def write(dataset: dict[str, Any], database: str, stack: Stack, influx: Influx) -> None:
    stack.make_bucket(database)
    influx.make_database(database)
    for each in dataset["writes"]:
        lines = each["lines"] if isinstance(each["lines"], str) else "\n".join(each["lines"])
        params = {"db": database, "precision": each["precision"]}
        assert stack.write(lines, **params).status_code == 204
        answer = requests.post(f"{influx.url}/write", params=params, data=lines.encode(), timeout=30)
        assert answer.status_code == 204, answer.text


def equal(got: Any, wanted: Any) -> bool:
    """Whether the answers agree, in what they refuse at least in kind."""
    if same(got, wanted, TOLERANCE):
        return True
    results = [body.get("results", [{}])[0] if isinstance(body, dict) else {} for body in (got, wanted)]
    errors = [result.get("error", "") for result in results]
    # 1.6.7 prints floats in type errors with three digits; and reads nothing, so refuses nothing, where no point or
    # no column of a subquery is asked for.
    alike = all(error.startswith("type error") for error in errors)
    needless = wanted == {"results": [{"statement_id": 0}]} and errors[0].startswith(("unsupported", "type error"))
    return alike or needless


def told(answer: requests.Response) -> Any:
    """What an answer says, refusals in one dress."""
    body = answer.json()
    text = body.get("message", body.get("error"))
    return re.sub("^(failed to parse|error parsing) query: ", "", text) if answer.status_code == 400 else body


@pytest.mark.parametrize("name", OVER)
def test_statements_are_answered_as_influxdb_answers(name: str, stack: Stack, influx: Influx, tmp_path: Path) -> None:
    database = f"beside-{name}"
    write(DATASETS[name], database, stack, influx)
    random, other, compared = Random(7), [], 0
    for _ in range(STATEMENTS):
        text = StatementMaker(random, name).select()
        params = {"db": database, "q": text}
        got = told(stack.request("POST", "/query", data=params))
        wanted = told(requests.post(f"{influx.url}/query", data=params, timeout=30))
        if any(holds(text) for _, holds in KNOWN):
            continue
        compared += 1
        if not equal(got, wanted):
            other.append(f"{text}\n  got    {json.dumps(got)[:600]}\n  wanted {json.dumps(wanted)[:600]}")
    assert not other, "\n".join(other)
    assert compared > STATEMENTS // 5
