"""Rules of SELECT that no recorded example shows, each as InfluxDB 1.6.7 keeps it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.errors import Invalid
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.points import Point
from tests.unit.query.engine.test_oracle import ask

SECOND = 1_000_000_000


def point(host: str, second: int, **fields: Any) -> Point:
    return Point("m", (("host", host),), tuple(fields.items()), second * SECOND)


POINTS = [
    point("a", 10, f=1.5, i=4), point("a", 20, i=7, s="x"), point("a", 40, f=3.0), point("b", 10, f=2.0, s="y"),
    point("b", 30, i=1), Point("other", (("host", "a"),), (("z", 5),), 50 * SECOND),
]  # fmt: skip
WINDOWS = "WHERE time >= 0s AND time < 40s GROUP BY time(20s)"


def rows(text: str) -> list[tuple[Any, ...]]:
    """The rows of the answer, all series together, times in seconds."""
    storage = MemoryStorage()
    storage.write(bucket_of("db", "autogen").id, POINTS, level=0)
    found = asyncio.run(ask(make_context(storage, "db"), text))
    return [(row[0] / SECOND, *row[1:]) for _, each in found for row in each]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # a call without a point beside one that has it; columns without windows; the row before in the same series
        ("SELECT sum(f), last(s) FROM m WHERE host = 'b' GROUP BY host fill(7)", [(0, 2.0, "y")]),
        ("SELECT count(f), sum(i) FROM m WHERE time <= 10s GROUP BY host fill(7)", [(0, 1, 4), (0, 1, 7)]),
        ("SELECT last(i), f FROM m WHERE host = 'a' fill(7)", [(20, 7, 7.0)]),
        ("SELECT f, i FROM m WHERE host = 'a' fill(previous)", [(10, 1.5, 4), (20, 1.5, 7), (40, 3.0, 7)]),
        ("SELECT f, s FROM m WHERE host = 'a' fill(7)", [(10, 1.5, 7), (20, 7.0, "x"), (40, 3.0, 7)]),
        (f"SELECT max(i), f FROM m {WINDOWS}, host fill(previous)", [(0, 4, 1.5), (20, 7, 1.5), (0, None, None),
                                                                       (20, 1, None)]),
        ("SELECT f + 1 FROM m WHERE host = 'a' fill(7)", [(10, 2.5), (40, 4.0)]),
        # tags of a subquery are columns to functions and conditions; each of its rows is one
        ("SELECT count(distinct(host)) FROM (SELECT f, host FROM m)", [(0, 2)]),
        ("SELECT count(host) FROM (SELECT i FROM m GROUP BY host)", [(0, 3)]),
        ("SELECT host FROM (SELECT sum(i) FROM m GROUP BY host)", [(0, "a"), (0, "b")]),
        ("SELECT f FROM (SELECT f, i FROM m WHERE host = 'a') LIMIT 2", [(10, 1.5), (20, None)]),
        ("SELECT sum FROM (SELECT sum(i) FROM m GROUP BY host) WHERE nosuch != 'x'", [(0, 11), (0, 1)]),
        ("SELECT sum FROM (SELECT sum(i) FROM m GROUP BY host) WHERE nosuch > 1", []),
        # backward in time
        ("SELECT elapsed(i, 4s) FROM m WHERE host = 'a' ORDER BY time DESC", [(10, -2)]),
        # the value at a window's edge splits the area, of integers too
        ("SELECT integral(i) FROM m WHERE time < 60s GROUP BY host, time(15s)", [(0, 23.75), (15, 31.25)]),
        # the area of a range stands at its lower bound, beside other aggregates
        ("SELECT integral(i), sum(i) FROM m WHERE time >= 10s AND host = 'a'", [(10, 55.0, 11)]),
        # what the outer query names in GROUP BY, all inside it group by too, however deep; they get no column of it
        ("SELECT x FROM (SELECT max(i) AS x FROM m) GROUP BY host", [(20, 7), (30, 1)]),
        ("SELECT x FROM (SELECT f AS x FROM m LIMIT 1) GROUP BY host", [(10, 1.5), (10, 2.0)]),
        ("SELECT sum(x) FROM (SELECT max(i) AS x FROM (SELECT i FROM m)) GROUP BY host", [(0, 7), (0, 1)]),
        ("SELECT x FROM (SELECT i AS x FROM m) WHERE host = 'b' GROUP BY host", [(30, 1)]),
        ("SELECT * FROM (SELECT * FROM (SELECT i FROM m)) GROUP BY host LIMIT 1", [(10, 4), (30, 1)]),
        ("SELECT sum(x) FROM (SELECT max(i) AS x FROM m) GROUP BY /h/", [(0, 7)]),
        # what LIMIT and SLIMIT leave of a subquery is what there is of it
        ("SELECT count(f) FROM (SELECT f FROM m GROUP BY host LIMIT 1)", [(0, 2)]),
        ("SELECT count(f) FROM (SELECT f FROM m GROUP BY host SLIMIT 1 SOFFSET 1)", [(0, 1)]),
        # a subquery without rows has its columns
        ("SELECT * FROM (SELECT i FROM m WHERE host = 'b'), (SELECT f FROM m WHERE f > 9)", [(30, None, 1)]),
        ("SELECT count(*) FROM (SELECT i FROM m), (SELECT max(f) FROM m WHERE f > 9) fill(0)", [(0, 3, 0)]),
        ("SELECT x FROM (SELECT f AS x FROM m WHERE f > 9)", []),
        ("SELECT count(x) FROM (SELECT f AS x FROM m WHERE f > 9) WHERE time < 9s GROUP BY host, time(1s)", []),
        # a tag that a subquery groups by is "" where it is missing, one that it selects is null
        ("SELECT x, nosuch FROM (SELECT sum(i) AS x FROM m GROUP BY nosuch)", [(0, 12, "")]),
        ("SELECT count(nosuch) FROM (SELECT i FROM m GROUP BY nosuch)", [(0, 3)]),
        ("SELECT last(i), nosuch FROM (SELECT i FROM m GROUP BY nosuch)", [(30, 1, "")]),
        ("SELECT i, host FROM (SELECT i, host FROM m WHERE host = 'b' GROUP BY nosuch) fill(7)", [(30, 1, "b")]),
        # a subquery over several measurements gives of each the columns of all
        ("SELECT i FROM (SELECT * FROM m, other) WHERE time >= 20s", [(20, 7), (30, 1), (40, None), (50, None)]),
        ("SELECT i + z FROM (SELECT i, z FROM m, other) WHERE time >= 30s", [(30, None), (50, None)]),
        ("SELECT count(i), count(z) FROM (SELECT * FROM /./)", [(0, 3, None), (0, None, 1)]),
        # a function of a subquery's column has its own type, not that of what it was made of
        ("SELECT x FROM (SELECT mean(i) AS x FROM m WHERE host = 'a')", [(0, 5.5)]),
        ("SELECT max(x) FROM (SELECT stddev(i) * 2 AS x FROM (SELECT i FROM m) GROUP BY host)", [(0, 2 * 4.5**0.5)]),
        ("SELECT sum(x) FROM (SELECT median(x) AS x FROM (SELECT max(i) AS x FROM m GROUP BY host))", [(0, 4.0)]),
        # integers are divided whole in conditions, towards zero; literals are not
        ("SELECT i, i / 3 FROM m WHERE i / 3 = 2", [(20, 7, 7 / 3)]),
        ("SELECT i FROM m WHERE i / -3 = -2 AND i / 0 = 0 AND i / 3.0 > 2", [(20, 7)]),
        ("SELECT x FROM (SELECT i AS x FROM m) WHERE x / 3 = 1", [(10, 4)]),
        ("SELECT i FROM m WHERE i = 7 / 2 * 2", [(20, 7)]),
        # numbers past all time are its ends, strings may be counted on from by integers, limits may be the largest
        ("SELECT f FROM m WHERE time <= 9223372036854775807 AND time >= -9223372036854775808 LIMIT 1", [(10, 1.5)]),
        ("SELECT f FROM m WHERE time > 9223372036854775807 OR time >= 99999999999.0", []),
        ("SELECT f FROM m WHERE time > '1970-01-01T00:00:10Z' + 1 - 2 AND time < '1970-01-01' + 30000000000 AND f < 2",
         [(10, 1.5)]),
        ("SELECT f FROM m WHERE time > '2300-01-01' - 8700w - 8600w AND f > 2", [(40, 3.0)]),
        ("SELECT f FROM m WHERE f < '9999-12-31' + 15000w AND f > '0001-01-01' - 15000w LIMIT 1", [(10, 1.5)]),
        ("SELECT f FROM m WHERE host = 'a' LIMIT 9223372036854775807 OFFSET 1", [(40, 3.0)]),
        ("SELECT f FROM m GROUP BY host ORDER BY time DESC LIMIT 9223372036854775807 OFFSET 9223372036854775807", []),
        ("SELECT f FROM m GROUP BY host LIMIT 1 SLIMIT 9223372036854775807 SOFFSET 1", [(10, 2.0)]),
        # an infinity that is not told is a value like others
        ("SELECT count(x), sum(i) FROM (SELECT ln(i - i) AS x, i FROM m)", [(0, 3, 12)]),
        ("SELECT i FROM (SELECT ln(i - i) AS x, i FROM m) WHERE x < 0 LIMIT 1", [(10, 4)]),
        # where no series is chosen nothing is refused; a range that ends before it begins has no rows, even behind it
        ("SELECT mean(s) FROM m WHERE host = 'nosuch'", []),
        ("SELECT difference(max(i)) FROM m WHERE time >= 40s AND time < 35s GROUP BY time(20s)", []),
    ],
)  # fmt: skip
def test_a_rule_of_select(text: str, wanted: list[tuple[Any, ...]]) -> None:
    assert rows(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT max(*), f FROM m", "mixing aggregate and non-aggregate queries is not supported"),
        ("SELECT last(/^i$/), f FROM m", "mixing aggregate and non-aggregate queries is not supported"),
        # floats have three digits in such texts
        ("SELECT s + 1.5 FROM m", "type error: s::string + 1.500: incompatible types: string and float"),
        ("SELECT -1.23456 * (s) FROM m", "type error: -1.235 * s::string: incompatible types: float and string"),
        ("SELECT f FROM m WHERE time >= '1600-01-01'", "time 1600-01-01T00:00:00Z underflows time literal"),
        ("SELECT f FROM m WHERE time <= '2300-01-01T00:00:00.5Z'", "time 2300-01-01T00:00:00Z overflows time literal"),
        ("SELECT f FROM m WHERE time < '2262-04-11' + 1w", "time 2262-04-18T00:00:00Z overflows time literal"),
        ("SELECT f FROM m WHERE time < '9999-12-31' + 15000w", "time 9999-12-31T23:59:59Z overflows time literal"),
        ("SELECT top(f, 2.0) FROM m", "expected integer as last argument in top(), found 2.000"),
        # an unknown database is told first, unless the source names its policy
        ("SELECT mean(f), f FROM nodb..m", "database not found: nodb"),
        ("SELECT mean(f) FROM (SELECT foo(f) FROM nodb..m)", "database not found: nodb"),
        ("SELECT foo(f) FROM nodb.autogen.m", "undefined function foo()"),
        ("SELECT foo(f) FROM db..m", "undefined function foo()"),
        ("SELECT atan2(2, 1) FROM m", "field must contain at least one variable"),
        ("SELECT -(ln(2)) FROM m", "field must contain at least one variable"),
        ("SELECT max(s) FROM m", "unsupported max iterator type: *query.stringInterruptIterator"),
        # where series are chosen, types are refused without a row
        ("SELECT mean(s) FROM m WHERE f > 100", "unsupported mean iterator type: *query.stringInterruptIterator"),
        ("SELECT difference(last(s)) FROM m WHERE f > 100 AND time < 40s GROUP BY time(20s)",
         "unsupported difference iterator type: *query.stringInterruptIterator"),
        ("SELECT difference(distinct(s)) FROM m WHERE time < 40s GROUP BY time(20s)",
         "unsupported difference iterator type: *query.stringIntervalIterator"),
        ("SELECT mean(host) FROM (SELECT i FROM m WHERE f > 9 GROUP BY host)",
         "unsupported mean iterator type: *query.stringInterruptIterator"),
        ("SELECT s + 1 FROM (SELECT s FROM m WHERE f > 9)",
         "type error: s::string + 1: incompatible types: string and integer"),
        ("SELECT difference(top(i, 1)) FROM m WHERE time < 40s GROUP BY time(20s)",
         "selector function top() cannot be combined with other functions"),
        ("SELECT f FROM (SELECT f FROM m ORDER BY time DESC)",
         "subqueries must be ordered in the same direction as the query itself"),
        ("SELECT f FROM (SELECT f FROM m ORDER BY time ASC) ORDER BY time DESC",
         "subqueries must be ordered in the same direction as the query itself"),
        ("SELECT x FROM (SELECT ln(i - i) AS x FROM m)", "json: unsupported value: -Inf"),
        ("SELECT top(s, host, 1) FROM m", "unsupported max iterator type: *query.stringInterruptIterator"),
        ("SELECT mean(host) FROM (SELECT f, host FROM m)", "unsupported mean iterator type: "
                                                            "*query.stringInterruptIterator"),
    ],
)  # fmt: skip
def test_what_a_select_may_not_say(text: str, message: str) -> None:
    with pytest.raises(Invalid) as raised:
        rows(text)
    assert str(raised.value) == message
