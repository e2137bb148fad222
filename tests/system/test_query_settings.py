"""Limits of SELECT as settings, what an answer says of its cost, and the statements about the service itself."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.stack import Stack

# One worker runs them all: the stack and its data are made once.
pytestmark = pytest.mark.xdist_group("query settings")

DAY = 86_400
# Of ten hosts one row an hour, over ten days: two shards of a week.
T0 = 1_600_000_000 // (7 * DAY) * (7 * DAY)
ROWS = 10 * 24 * 5 * 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """No SELECT may read more than 2,000 points or 15 series or make more than 100 windows; answers have 50 rows."""
    stack = Stack(
        tmp_path_factory.mktemp("small"),
        {
            "TIDEGATE_QUERY_MAX_POINTS": "2000",
            "TIDEGATE_QUERY_MAX_SERIES": "15",
            "TIDEGATE_QUERY_MAX_BUCKETS": "100",
            "TIDEGATE_QUERY_MAX_ROWS": "50",
            "TIDEGATE_QUERY_SLOW_S": "0.000001",
        },
    ).start()
    stack.make_bucket("d")
    lines = [f"m,h=h{host} a={hour},b={host}i {T0 + 3600 * hour}" for host in range(10) for hour in range(ROWS // 10)]
    lines += [f"many,h=h{n} a=1 {T0}" for n in range(20)]
    assert stack.write("\n".join(lines), "d", precision="s").status_code == 204
    yield stack
    stack.stop()


def error_of(stack: Stack, q: str) -> str:
    error: str = ask(stack, q).json()["results"][0]["error"]
    return error


def test_limits_of_select_speak_as_influxdb_does(small: Stack) -> None:
    assert error_of(small, "SELECT a, b FROM m") == f"max-select-point limit exceed: ({ROWS}/2000)"
    assert error_of(small, "SELECT count(a) FROM many") == "max-select-series limit exceeded: (20/15)"
    windows = f"WHERE time >= {T0}s AND time < {T0 + 101}s GROUP BY time(1s)"
    assert error_of(small, f"SELECT count(a) FROM m {windows}") == "max-select-buckets limit exceeded: (101/100)"
    # At the limit, not past it.
    assert len(small.rows("SELECT count(a) FROM many WHERE h =~ /h[0-9]$/", "d")) == 1
    assert len(small.rows(f"SELECT count(a) FROM m {windows.replace('101', '100')} LIMIT 3", "d")) == 3


def test_an_answer_that_is_not_chunked_ends_at_the_row_cap(small: Stack) -> None:
    q = "SELECT a FROM m WHERE h = 'h1'"
    (series,) = small.query(q, "d")["results"][0]["series"]
    assert (len(series["values"]), series["partial"]) == (50, True)
    packed = ask(small, q, accept="application/x-msgpack")
    (series,) = msgpack.unpackb(packed.content)["results"][0]["series"]
    assert (len(series["values"]), series.get("partial")) == (50, True)
    table = list(csv.reader(io.StringIO(ask(small, q, accept="application/csv").text)))
    assert len(table) == 1 + 50
    (series,) = small.query("SELECT a FROM m WHERE h = 'h1' LIMIT 50", "d")["results"][0]["series"]
    assert (len(series["values"]), "partial" in series) == (50, False)
    chunks = ask(small, q, chunked="true").text.splitlines()
    rows = sum(len(json.loads(chunk)["results"][0]["series"][0]["values"]) for chunk in chunks)
    assert rows == ROWS // 10


def ask(stack: Stack, q: str, accept: str = "application/json", **params: str) -> Any:
    answer = stack.request("GET", "/query", params={"db": "d", "q": q, **params}, headers={"Accept": accept})
    assert answer.status_code == 200
    return answer


def test_explain_tells_what_is_read(small: Stack) -> None:
    lines = [row[0] for row in small.rows("EXPLAIN SELECT mean(a) FROM m WHERE h = 'h1'", "d")]
    assert lines[0] == "EXPRESSION: mean(a::float)"
    assert "NUMBER OF SERIES: 1" in lines
    assert "NUMBER OF SHARDS: 2" in lines
    sizes = {line.partition(": ")[0]: int(line.partition(": ")[2]) for line in lines if line.split(": ")[-1].isdigit()}
    # From blocks or from the cache; a segment has the rows of all hosts.
    assert sizes["NUMBER OF BLOCKS"] + sizes["CACHED VALUES"] > 0


def test_explain_analyze_tells_what_was_read_and_skipped(small: Stack) -> None:
    q = f"EXPLAIN ANALYZE SELECT median(a) FROM m WHERE time >= {T0 + 8 * DAY}s"
    figures = {}
    for (line,) in small.rows(q, "d"):
        name, _, value = line.strip("│├└─ ").partition(": ")
        figures[name] = value
    assert int(figures["segments_read"]) >= 1
    assert int(figures["segments_skipped"]) >= 1
    assert int(figures["bytes"]) > 0
    assert (figures["series"], figures["rows_scanned"], figures["rows_told"]) == ("10", "480", "1")
    for name in ("execution_time", "planning_time", "total_time", "time"):
        assert figures[name].endswith("s"), name


def test_an_answer_says_what_it_cost(small: Stack) -> None:
    answer = ask(small, "SELECT a, b FROM m WHERE h = 'h1' LIMIT 7")
    figures = dict(pair.split("=") for pair in answer.headers["X-Tidegate-Stats"].split(";"))
    assert (figures["series"], figures["rows_told"]) == ("1", "7")
    assert int(figures["segments_read"]) >= 1
    assert int(figures["bytes_read"]) > 0
    assert float(figures["reading_ms"]) >= 0


def test_statements_about_the_service(small: Stack) -> None:
    (shards,) = [each for each in small.query("SHOW SHARDS")["results"][0]["series"] if each["name"] == "d"]
    assert shards["columns"][:5] == ["id", "database", "retention_policy", "shard_group", "start_time"]
    assert len(shards["values"]) == 2
    (groups,) = small.query("SHOW SHARD GROUPS")["results"][0]["series"]
    assert {row[0] for row in shards["values"]} <= {row[0] for row in groups["values"]}
    stats = small.query("SHOW STATS")["results"][0]["series"]
    executor = next(each for each in stats if each["name"] == "queryExecutor")
    row = dict(zip(executor["columns"], executor["values"][0], strict=True))
    assert row["queriesActive"] == 1
    assert row["queriesExecuted"] == row["queriesFinished"] + 1
    (memory,) = small.query("SHOW STATS FOR 'memory'")["results"][0]["series"]
    assert memory["name"] == "memory"
    names = [each["name"] for each in small.query("SHOW DIAGNOSTICS")["results"][0]["series"]]
    assert names == ["runtime", "system"]
    ((_, text, database, _, status),) = small.rows("SHOW QUERIES", "d")
    assert (text, database, status) == ("SHOW QUERIES", "d", "planning")


def test_slow_queries_are_logged_without_secrets(small: Stack) -> None:
    small.query("SELECT median(b) FROM m WHERE h = 'h7'; CREATE USER x WITH PASSWORD 'hidden-word'", "d")
    deadline_s = time.monotonic() + 10
    while not (lines := [line for line in small.log_path.read_text().splitlines() if "median(b)" in line]):
        assert time.monotonic() < deadline_s, "no line tells of the slow query"
        time.sleep(0.05)
    line = json.loads(lines[0])
    assert line["event"] == "slow query"
    assert "rows_scanned=" in line["cost"]
    assert "CREATE USER x WITH PASSWORD" in line["query"]
    assert "hidden-word" not in small.log_path.read_text()
