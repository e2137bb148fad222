"""InfluxQL as its clients send it: Grafana's data source, Chronograf, the 1.x shell's formats, PyPI's influxdb.

The requests of Grafana and of Chronograf have the method, headers, parameters and texts that these programs send.
Source: clients.md, 2.2, 2.7, 2.9, 2.10 and 4.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable
from typing import Any

import influxdb
import pandas
import pytest
import requests

from tests.stack import Stack
from tests.system.test_clients import shell
from tests.system.test_documented_requests import bucket_token, legacy

PASSWORD = "legacy-password"
START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
# Hosts a to c in two regions, a value a minute for five minutes; v counts on from host to host.
MINUTES = 5
LINES = "\n".join(
    f"cpu,host={host},dc={dc} v={10 * n + minute},n={minute}i,ok={str(minute % 2 == 0).lower()} "
    f"{START_MS + minute * MINUTE_MS}"
    for n, (host, dc) in enumerate([("a", "east"), ("b", "east"), ("c", "west")])
    for minute in range(MINUTES)
)


@pytest.fixture(scope="module")
def database(stack: Stack) -> str:
    """A bucket with LINES, and a point a host and second of the last minute in ``recent``."""
    name = f"b{uuid.uuid4().hex[:12]}"
    stack.make_bucket(name)
    assert stack.write(LINES, name, precision="ms").status_code == 204
    assert stack.write('recent,host=a f=1\nrecent,host=h f=2\nother,dc=x s="t"', name).status_code == 204
    return name


@pytest.fixture(scope="module")
def user(stack: Stack, database: str) -> str:
    """A 1.x name that may read and write the bucket."""
    return legacy(stack, database)


@pytest.fixture(scope="module")
def token(stack: Stack, database: str) -> str:
    """An API token that may read the bucket."""
    return bucket_token(stack, database, "read")


Ask = Callable[[str], requests.Response]


def results_of(answer: requests.Response) -> list[dict[str, Any]]:
    """The results of an answer that has to be good and of JSON."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [result["statement_id"] for result in results] == list(range(len(results)))
    assert not any("error" in result for result in results), results
    return results


def tables(result: dict[str, Any]) -> dict[tuple[str, ...], list[list[Any]]]:
    """(name, tag values) → rows."""
    return {
        (each.get("name", ""), *each.get("tags", {}).values()): each.get("values", [])
        for each in result.get("series", [])
    }


# ---------------------------------------------------------------- Grafana


def by_get(stack: Stack, database: str, user: str, token: str, **more: str) -> Ask:
    """HTTP method GET, a custom header with the token."""
    headers = {"Authorization": f"Token {token}", "User-Agent": "Grafana/11.0.0", "Accept-Encoding": "gzip"}
    return lambda q: requests.get(
        f"{stack.url}/query", params={"db": database, "epoch": "ms", "q": q, **more}, headers=headers, timeout=30
    )


def by_post(stack: Stack, database: str, user: str, token: str, **more: str) -> Ask:
    """HTTP method POST: the text in a form, the rest in the address; Basic credentials."""
    return lambda q: requests.post(
        f"{stack.url}/query", params={"db": database, "epoch": "ms", **more}, data={"q": q}, auth=(user, PASSWORD),
        headers={"User-Agent": "Grafana/11.0.0", "Accept-Encoding": "gzip"}, timeout=30,
    )  # fmt: skip


def by_address(stack: Stack, database: str, user: str, token: str, **more: str) -> Ask:
    """Older versions: name and password in the address."""
    params = {"db": database, "epoch": "ms", "u": user, "p": PASSWORD, **more}
    return lambda q: requests.get(f"{stack.url}/query", params={**params, "q": q}, timeout=30)


@pytest.fixture(params=[by_get, by_post, by_address], ids=["get", "post", "address"])
def grafana(request: pytest.FixtureRequest, stack: Stack, database: str, user: str, token: str) -> Ask:
    """Grafana's data source in each of its ways."""
    made: Ask = request.param(stack, database, user, token)
    return made


TIME_FILTER = f"time >= {START_MS}ms and time <= {START_MS + 4 * MINUTE_MS}ms"


@pytest.mark.parametrize(
    ("q", "wanted"),
    [
        # health of the source, old and new
        ("SHOW MEASUREMENTS LIMIT 1", {("measurements",): [["cpu"]]}),
        ("SHOW measurements", {("measurements",): [["cpu"], ["other"], ["recent"]]}),
        # the editor's lists
        ("SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)CP/ LIMIT 100", {("measurements",): [["cpu"]]}),
        ("SHOW MEASUREMENTS WHERE \"dc\" = 'x' LIMIT 100", {("measurements",): [["other"]]}),
        ('SHOW TAG KEYS FROM "cpu"', {("cpu",): [["dc"], ["host"]]}),
        ("SHOW TAG KEYS FROM \"autogen\".\"cpu\" WHERE \"host\" = 'a'", {("cpu",): [["dc"], ["host"]]}),
        ('SHOW FIELD KEYS FROM "autogen"."cpu"', {("cpu",): [["n", "integer"], ["ok", "boolean"], ["v", "float"]]}),
        # variables, ad-hoc filters
        ('SHOW TAG VALUES FROM "cpu" WITH KEY = "host" WHERE "dc" =~ /^(east|y)$/',
         {("cpu",): [["host", "a"], ["host", "b"]]}),
        ('SHOW TAG VALUES WITH KEY = "host"',
         {("cpu",): [["host", "a"], ["host", "b"], ["host", "c"]], ("recent",): [["host", "a"], ["host", "h"]]}),
        ('SHOW TAG VALUES FROM "cpu" WITH KEY IN ("dc") WHERE "host"::tag = \'c\'', {("cpu",): [["dc", "west"]]}),
    ],
)  # fmt: skip
def test_grafana_fills_its_lists(grafana: Ask, q: str, wanted: dict[tuple[str, ...], Any]) -> None:
    (result,) = results_of(grafana(q))
    assert tables(result) == wanted


def test_grafana_lists_the_policies(grafana: Ask, database: str) -> None:
    (result,) = results_of(grafana(f'SHOW RETENTION POLICIES on "{database}"'))
    assert tables(result) == {("",): [["autogen", "0s", "168h0m0s", 1, True]]}


def at(*minutes: int) -> list[int]:
    return [START_MS + minute * MINUTE_MS - START_MS % MINUTE_MS for minute in minutes]


PANELS = [
    # the query editor's default
    (f'SELECT mean("v") FROM "cpu" WHERE {TIME_FILTER} GROUP BY time(1m) fill(null)',
     {("cpu",): [[t, 10.0 + n] for n, t in enumerate(at(0, 1, 2, 3, 4))]}),
    # an ad-hoc filter beside tags of a variable; the newest first
    (f'SELECT last("v") FROM "autogen"."cpu" WHERE ("host"::tag =~ /^(a|b)$/ AND "dc" = \'east\') AND {TIME_FILTER} '
     "GROUP BY time(1m), \"host\"::tag fill(null) ORDER BY time DESC limit 2 slimit 5 tz('Europe/Berlin')",
     {("cpu", "b"): [[at(4)[0], 14], [at(3)[0], 13]], ("cpu", "a"): [[at(4)[0], 4], [at(3)[0], 3]]}),
    # math, alias, several selects
    (f'SELECT mean("n")  * 10 / 8 AS "x", max("n") - min("n") FROM "cpu" WHERE {TIME_FILTER} GROUP BY time(5m) fill(0)',
     {("cpu",): [[START_MS - START_MS % (5 * MINUTE_MS), 0.625, 1], [START_MS - START_MS % (5 * MINUTE_MS)
                                                                    + 5 * MINUTE_MS, 3.75, 2]]}),
    # a rate, by tag, empty windows left out
    (f'SELECT non_negative_derivative(mean("v"), 1m) FROM "cpu" WHERE "dc" = \'west\' AND {TIME_FILTER} '
     'GROUP BY time(1m), "host" fill(none)',
     {("cpu", "c"): [[t, 1] for t in at(1, 2, 3, 4)]}),
    # a table panel, a raw query
    (f'SELECT "n"::field, "host"::tag FROM "cpu" WHERE "n"::field > 3 AND {TIME_FILTER}',
     {("cpu",): [[START_MS + 4 * MINUTE_MS, 4, host] for host in "abc"]}),
    # what alerting sends: one number a host
    (f'SELECT max("v") FROM "cpu" WHERE {TIME_FILTER} GROUP BY "host"',
     {("cpu", host): [[START_MS + 4 * MINUTE_MS, 10 * n + 4]] for n, host in enumerate("abc")}),
    (f'SELECT count(distinct("host")) FROM (SELECT "v", "host" FROM "cpu" WHERE {TIME_FILTER})',
     {("cpu",): [[0, 3]]}),
    (f'SELECT percentile("v", 50) FROM /^cp/ WHERE {TIME_FILTER} GROUP BY time(1h) fill(linear)',
     {("cpu",): [[START_MS - START_MS % (60 * MINUTE_MS), 12]]}),
]  # fmt: skip


@pytest.mark.parametrize(("q", "wanted"), PANELS)
def test_grafana_draws_its_panels(grafana: Ask, q: str, wanted: dict[tuple[str, ...], Any]) -> None:
    (result,) = results_of(grafana(q))
    assert tables(result) == wanted
    assert list(tables(result)) == list(wanted)


@pytest.mark.parametrize("between", [";", ";\n", ";\n\n", " ; "])
def test_grafana_sends_the_targets_of_a_panel_together(grafana: Ask, between: str) -> None:
    results = results_of(grafana(between.join(q for q, _ in PANELS) + between))
    assert [tables(result) for result in results] == [wanted for _, wanted in PANELS]


@pytest.mark.parametrize("function", [
    "count", "distinct", "mean", "median", "mode", "sum", "first", "last", "max", "min", "spread", "stddev",
])  # fmt: skip
def test_each_aggregation_of_the_editor_answers(grafana: Ask, function: str) -> None:
    (result,) = results_of(
        grafana(f'SELECT {function}("v") FROM "cpu" WHERE {TIME_FILTER} GROUP BY time(10s), "host" fill(none)')
    )
    assert {key: len(rows) for key, rows in tables(result).items()} == {("cpu", host): 5 for host in "abc"}


@pytest.mark.parametrize("call", [
    'bottom("v", 3)', 'top("v", 3)', 'percentile("v", 95)', 'sample("v", 3)', 'derivative(mean("v"), 10s)',
    'non_negative_derivative(mean("v"), 10s)', 'difference(mean("v"))', 'non_negative_difference(mean("v"))',
    'moving_average(mean("v"), 2)', 'cumulative_sum(mean("v"))', 'elapsed(mean("v"), 10s)',
    'holt_winters(mean("v"), 2, 0)', 'holt_winters_with_fit(mean("v"), 2, 0)',
    'exponential_moving_average(mean("v"), 2)', 'integral("v", 1m)',
])  # fmt: skip
def test_each_selector_and_transformation_of_the_editor_answers(grafana: Ask, call: str) -> None:
    (result,) = results_of(
        grafana(f'SELECT {call} FROM "cpu" WHERE {TIME_FILTER} GROUP BY time(1m), "host" fill(null)')
    )
    assert set(tables(result)) == {("cpu", host) for host in "abc"}


def test_a_range_up_to_now_sees_what_has_just_come(grafana: Ask) -> None:
    for since in ("now() - 1h", "now()-1h", "now() - 3600000ms"):
        (result,) = results_of(grafana(f'SELECT mean("f") FROM "recent" WHERE time > {since} GROUP BY "host"'))
        assert {key: rows[0][1] for key, rows in tables(result).items()} == {("recent", "a"): 1, ("recent", "h"): 2}


def test_grafana_names_the_policy_beside_the_database(stack: Stack, database: str, user: str, token: str) -> None:
    for make in (by_get, by_post, by_address):
        (result,) = results_of(make(stack, database, user, token, rp="autogen")('SELECT count("v") FROM "cpu"'))
        assert tables(result) == {("cpu",): [[0, 15]]}


def test_grafana_reads_what_is_wrong(grafana: Ask) -> None:
    unparsed = grafana("SELEC mean(v) FROM cpu")
    assert unparsed.status_code == 400
    assert {"message", "error"} <= unparsed.json().keys()
    assert "found SELEC" in unparsed.json()["message"]
    refused = grafana("SELECT nosuch(v) FROM cpu")
    assert (refused.status_code, refused.json()["results"][0]["error"]) == (200, "undefined function nosuch()")


# ---------------------------------------------------------------- Chronograf


@pytest.fixture(params=["token", "basic"])
def chronograf(request: pytest.FixtureRequest, stack: Stack, user: str, token: str) -> Callable[..., requests.Response]:
    """Everything in the address, a JSON type and no body."""
    auth = (user, PASSWORD) if request.param == "basic" else None
    headers = {"Content-Type": "application/json"} | ({} if auth else {"Authorization": f"Token {token}"})

    def ask(q: str, db: str = "", rp: str = "") -> requests.Response:
        params = {"q": q, "db": db, "rp": rp, "epoch": "ms"}
        return requests.post(f"{stack.url}/query", params=params, headers=headers, auth=auth, timeout=30)

    return ask


def test_chronograf_looks_round(chronograf: Callable[..., requests.Response], database: str) -> None:
    (result,) = results_of(chronograf("SHOW DATABASES"))
    assert [database] in tables(result)["databases",]
    results = results_of(chronograf(f'SHOW RETENTION POLICIES ON "{database}";SHOW MEASUREMENTS ON "{database}"'))
    assert tables(results[0]) == {("",): [["autogen", "0s", "168h0m0s", 1, True]]}
    assert tables(results[1]) == {("measurements",): [["cpu"], ["other"], ["recent"]]}


@pytest.mark.parametrize(
    ("q", "wanted"),
    [
        ("SHOW MEASUREMENTS", {("measurements",): [["cpu"], ["other"], ["recent"]]}),
        ("SHOW MEASUREMENTS WHERE \"host\" = 'h'", {("measurements",): [["recent"]]}),
        ('SHOW TAG KEYS FROM "autogen"."cpu"', {("cpu",): [["dc"], ["host"]]}),
        ('SHOW TAG KEYS ON "DB" FROM "cpu"', {("cpu",): [["dc"], ["host"]]}),
        ('SHOW TAG VALUES FROM "autogen"."cpu" WITH KEY IN ("dc", "host")',
         {("cpu",): [["dc", "east"], ["dc", "west"], ["host", "a"], ["host", "b"], ["host", "c"]]}),
        ('SHOW TAG VALUES ON "DB" FROM "cpu" WITH KEY = "dc"', {("cpu",): [["dc", "east"], ["dc", "west"]]}),
        ('SHOW TAG VALUES FROM "recent" WITH KEY = "host" WHERE TIME > now() - 10m;',
         {("recent",): [["host", "a"], ["host", "h"]]}),
        ('SHOW FIELD KEYS FROM "autogen"."other"', {("other",): [["s", "string"]]}),
        ('SHOW FIELD KEYS ON "DB" FROM "other"', {("other",): [["s", "string"]]}),
        (f'SELECT mean("v") AS "mean_v" FROM "DB"."autogen"."cpu" WHERE time > {START_MS - 1}ms AND '
         f"time < {START_MS + 20_000}ms AND \"host\"='b' GROUP BY time(60000ms) FILL(null)",
         {("cpu",): [[at(0)[0], 10]]}),
        ('SELECT max("v")-last("v") FROM "DB".."cpu"', {("cpu",): [[0, 0]]}),
        ('SELECT mean("f") AS "mean_f" FROM "DB"."autogen"."recent" WHERE time > now() - 1h AND time < now() AND '
         "\"host\"='h' FILL(null)", None),
    ],
)  # fmt: skip
def test_chronograf_explores(
    chronograf: Callable[..., requests.Response], database: str, q: str, wanted: dict[tuple[str, ...], Any] | None
) -> None:
    (result,) = results_of(chronograf(q.replace("DB", database), db=database, rp="autogen"))
    if wanted is None:
        assert tables(result)["recent",][0][1] == 2
    else:
        assert tables(result) == wanted


def test_chronograf_sees_and_ends_queries(stack: Stack, database: str) -> None:
    params = {"q": "SHOW QUERIES", "db": database, "rp": "", "epoch": "ms"}
    (result,) = results_of(stack.request("POST", "/query", params=params, headers={"Content-Type": "application/json"}))
    columns = result["series"][0]["columns"]
    assert columns[:4] == ["qid", "query", "database", "duration"]
    own = [dict(zip(columns, row, strict=True)) for row in result["series"][0]["values"]]
    assert any(entry["query"] == "SHOW QUERIES" for entry in own)


# ---------------------------------------------------------------- influx 1.6, the shell


def run(stack: Stack, database: str, user: str, execute: str, *options: str) -> str:
    """What the shell prints for one -execute, which has to go well."""
    done = shell(stack, "-database", database, "-execute", execute, *options, user=user, password=PASSWORD)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


GROUPED = 'SELECT count("v"), max("n") FROM cpu GROUP BY host'


def test_the_shell_prints_json(stack: Stack, database: str, user: str) -> None:
    plain = run(stack, database, user, GROUPED, "-format", "json")
    pretty = run(stack, database, user, GROUPED, "-format", "json", "-pretty")
    assert json.loads(plain) == json.loads(pretty)
    assert len(pretty.splitlines()) > len(plain.splitlines())
    # A series is a chunk, and each chunk a result to this client.
    assert [series for result in json.loads(plain)["results"] for series in result["series"]] == [
        {"name": "cpu", "tags": {"host": host}, "columns": ["time", "count", "max"], "values": [[0, 5, 4]]}
        for host in "abc"
    ]


def test_the_shell_prints_csv(stack: Stack, database: str, user: str) -> None:
    rows = list(csv.reader(io.StringIO(run(stack, database, user, GROUPED, "-format", "csv"))))
    assert [row for row in rows if row] == [
        row for host in "abc" for row in (
            ["name", "tags", "time", "count", "max"], ["cpu", f"host={host}", "0", "5", "4"],
        )
    ]  # fmt: skip


def test_the_shell_prints_columns(stack: Stack, database: str, user: str) -> None:
    text = run(stack, database, user, GROUPED, "-format", "column")
    assert [line.split() for line in text.splitlines() if line] == [
        word for host in "abc" for word in (
            ["name:", "cpu"], ["tags:", f"host={host}"], ["time", "count", "max"], ["----", "-----", "---"],
            ["0", "5", "4"],
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "shown"),
    [("rfc3339", "2023-11-14T22:13:20Z"), ("ns", "1700000000000000000"), ("u", "1700000000000000"),
     ("ms", "1700000000000"), ("s", "1700000000"), ("m", "28333333"), ("h", "472222")],
)  # fmt: skip
def test_the_shell_shows_times_in_each_precision(
    stack: Stack, database: str, user: str, precision: str, shown: str
) -> None:
    text = run(stack, database, user, "SELECT v FROM cpu LIMIT 1", "-format", "csv", "-precision", precision)
    assert text.splitlines() == ["name,time,v", f"cpu,{shown},0"]


def test_the_shell_runs_what_comes_in_by_its_input(stack: Stack, user: str, database: str) -> None:
    typed = 'SHOW TAG VALUES FROM cpu WITH KEY = "dc"; SELECT sum(n) FROM cpu; DROP MEASUREMENT "no such"\n'
    done = shell(stack, "-database", database, "-format", "csv", user=user, password=PASSWORD, typed=typed)
    rows = [row for row in csv.reader(io.StringIO(done.stdout)) if row]
    assert rows == [
        ["name", "key", "value"], ["cpu", "dc", "east"], ["cpu", "dc", "west"], ["name", "time", "sum"],
        ["cpu", "0", "30"],
    ]  # fmt: skip


def test_the_shell_inserts_into_a_policy(stack: Stack, database: str, user: str) -> None:
    run(stack, database, user, "INSERT INTO autogen typed,host=x v=1i 10", "-precision", "s")
    assert stack.rows("SELECT v, host FROM typed", database, epoch="s") == [[10, 1, "x"]]
    run(stack, database, user, "DROP MEASUREMENT typed")
    assert stack.rows("SELECT v FROM typed", database) == []


def test_the_shell_prints_several_statements_and_the_error_of_one(stack: Stack, database: str, user: str) -> None:
    done = shell(
        stack, "-database", database, "-execute", "SELECT count(v) FROM cpu; SELECT nosuch(v) FROM cpu", "-format",
        "csv", user=user, password=PASSWORD,
    )  # fmt: skip
    assert "cpu,0,15" in done.stdout
    assert "undefined function nosuch()" in done.stdout + done.stderr
    assert done.returncode == 1


# ---------------------------------------------------------------- influxdb 5 (v1), data frames


@pytest.fixture
def frames(stack: Stack, bucket: str) -> influxdb.DataFrameClient:
    return influxdb.DataFrameClient("127.0.0.1", stack.port, legacy(stack, bucket), PASSWORD, bucket)


def test_a_data_frame_is_written_and_read(frames: influxdb.DataFrameClient) -> None:
    index = pandas.date_range("2024-03-05", periods=4, freq="min", tz="UTC")
    frame = pandas.DataFrame({"v": [0.5, 1.5, 2.5, 3.5], "n": [1, 2, 3, 4], "s": list("abcd")}, index=index)
    assert frames.write_points(frame, "m", tags={"host": "a"})
    assert frames.write_points(frame * 1, "m", tags={"host": "b"}, field_columns=["v"])
    read = frames.query("SELECT v, n, s FROM m WHERE host = 'a'")["m"]
    assert read[["v", "n", "s"]].to_dict("list") == frame.to_dict("list")
    assert [time.isoformat() for time in read.index] == [time.isoformat() for time in index]
    grouped = frames.query("SELECT mean(v) FROM m GROUP BY host")
    assert {key[1]: each["mean"].tolist() for key, each in grouped.items()} == {
        (("host", "a"),): [2.0],
        (("host", "b"),): [2.0],
    }


def test_a_data_frame_is_bound_and_chunked(frames: influxdb.DataFrameClient) -> None:
    index = pandas.to_datetime([n * 10**9 for n in range(1, 1001)], utc=True)
    assert frames.write_points(pandas.DataFrame({"v": range(1000)}, index=index), "m", batch_size=300)
    bound = frames.query("SELECT v FROM m WHERE v > $least", bind_params={"least": 996})
    assert bound["m"]["v"].tolist() == [997, 998, 999]
    assert frames.query("SELECT v FROM nothing") == {}
