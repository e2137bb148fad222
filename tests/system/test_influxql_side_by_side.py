"""Statements made at random, asked of Tidegate and of InfluxDB 1.6.7 over the same data: the answers are the same.

Where 1.6.7 is known to answer otherwise than 2.9, or to leave open what it answers, ``KNOWN`` tells why.
"""

from __future__ import annotations

import re
from random import Random

import pytest

from tests.bench.servers import Influx
from tests.stack import Stack
from tests.system.beside import Known, Pair, differences
from tests.system.test_influxql_examples import DATASETS
from tests.unit.query.engine.statements import WITH_PERIOD, StatementMaker

# Data sets that 1.6.7 takes as they are: no unsigned values, no shards of several types, one policy.
OVER = ("greenhouse", "sparse", "ties", "fleet")
STATEMENTS = 100  # over each

# (why, of which statements): answers are asked for, not compared.
KNOWN: Known = [
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


@pytest.mark.parametrize("name", OVER)
def test_statements_are_answered_as_influxdb_answers(name: str, stack: Stack, influx: Influx) -> None:
    pair = Pair(stack, influx, f"beside-{name}")
    pair.make()
    for each in DATASETS[name]["writes"]:
        lines = each["lines"] if isinstance(each["lines"], str) else "\n".join(each["lines"])
        pair.write(lines, each["precision"])
    random = Random(7)
    assert not differences(pair, [StatementMaker(random, name).select() for _ in range(STATEMENTS)], KNOWN)
