"""SHOW over tables of series made by hand, and what it says of databases that are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from typing import Any

import pytest

from common.dbrp import Mapping, MappingTable
from common.errors import Invalid, NotImplementedHere
from common.identity import Identity, Permission
from common.model import Bucket, FieldType
from services.query.context import QueryContext
from services.query.engine.frame import SeriesTable, table_of_tags
from services.query.influxql import tree
from services.query.influxql.parser import parse
from services.query.schema import cardinality, show

ORG = "0" * 15 + "1"
WEEK_NS = 7 * 86_400 * 10**9
AUTOGEN = Bucket("a" * 16, ORG, "fleet", 0, WEEK_NS)
ROLL = Bucket("b" * 16, ORG, "fleet/roll", 10 * WEEK_NS, WEEK_NS)
HIDDEN = Bucket("c" * 16, ORG, "hidden", 0, WEEK_NS)

FLEET = {
    "cpu": [
        {"host": "h1", "dc": "east", "gen": "g2"}, {"host": "h2", "dc": "east"},
        {"host": "h3", "dc": "west", "gen": "g2"}, {"host": "h4", "dc": "west"},
    ],
    "disk": [{"host": "h1", "path": "/"}, {"host": "h4", "path": "/var"}],
    "mem": [{}, {"host": "h1"}],
    "my meas": [{"tag one": "va,lue x", "sel=ect": "yes"}],
}  # fmt: skip


@dataclass(frozen=True)
class Info:
    name: str
    series_count: int
    fields: tuple[tuple[int, str, FieldType], ...]


@dataclass(frozen=True)
class State:
    name: str
    fields_by_shard: tuple[tuple[int, str, FieldType], ...]
    living: SeriesTable


@dataclass
class FakeReader:
    """Stands for the reader of storage: measurements and their tag sets by bucket."""

    tags: dict[str, dict[str, list[dict[str, str]]]]
    fields: dict[str, tuple[tuple[int, str, FieldType], ...]] = field(default_factory=dict)

    async def measurements(self, bucket: Bucket) -> list[Info]:
        default = ((0, "load", FieldType.FLOAT), (0, "temp", FieldType.INTEGER))
        held = self.tags.get(bucket.id, {})
        return [Info(name, len(sets), self.fields.get(name, default)) for name, sets in held.items()]

    async def series(self, bucket: Bucket, name: str) -> SeriesTable:
        return table_of_tags(self.tags[bucket.id][name])

    async def measured(self, bucket: Bucket, name: str) -> State | None:
        fields = [info.fields for info in await self.measurements(bucket) if info.name == name]
        return State(name, fields[0], await self.series(bucket, name)) if fields else None


@dataclass
class FakeMappings:
    table: MappingTable
    confirmed: int = 0

    async def of_org(self, org_id: str, *, confirm: bool = False) -> MappingTable:
        self.confirmed += confirm
        return self.table


def mappings() -> FakeMappings:
    entries = [
        Mapping("fleet", "autogen", True, False, AUTOGEN),
        Mapping("fleet", "roll", False, False, ROLL),
        Mapping("hidden", "autogen", True, True, HIDDEN),
    ]
    return FakeMappings(MappingTable(entries))


def context(
    database: str = "fleet", policy: str = "", reader: Any = None, source: FakeMappings | None = None
) -> QueryContext:
    readable = tuple(Permission("read", "buckets", bucket.id, ORG) for bucket in (AUTOGEN, ROLL))
    identity = Identity("token", "t" * 16, "u" * 16, ORG, readable)
    reader = reader or FakeReader({AUTOGEN.id: FLEET, ROLL.id: {"cpu_day": [{"host": "h9"}]}})
    return QueryContext(identity, database, policy, 10**18, source or mappings(), reader)


EXECUTORS: MappingType[type, Any] = {
    tree.ShowDatabases: show.databases,
    tree.ShowRetentionPolicies: show.retention_policies,
    tree.ShowMeasurements: show.measurements,
    tree.ShowTagKeys: show.tag_keys,
    tree.ShowTagValues: show.tag_values,
    tree.ShowFieldKeys: show.field_keys,
    tree.ShowSeries: show.series,
    tree.ShowCardinality: cardinality.cardinality,
}


def ask(text: str, **more: Any) -> list[tuple[str | None, list[tuple[Any, ...]]]]:
    """(name, rows) of each series that the statement answers."""
    (statement,) = parse(text)

    async def run() -> list[Any]:
        return [
            (series.name, list(zip(*(column.values for column in series.columns), strict=True)))
            async for series in EXECUTORS[type(statement)](statement, context(**more))
        ]

    return asyncio.run(run())


def told(text: str, **more: Any) -> str:
    with pytest.raises(Invalid) as raised:
        ask(text, **more)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("SHOW DATABASES", [("databases", [("fleet",)])]),
        ("SHOW MEASUREMENTS", [("measurements", [("cpu",), ("disk",), ("mem",), ("my meas",)])]),
        ("SHOW MEASUREMENTS LIMIT 2 OFFSET 1", [("measurements", [("disk",), ("mem",)])]),
        ("SHOW MEASUREMENTS WITH MEASUREMENT =~ /^.e|m/ LIMIT 1", [("measurements", [("mem",)])]),
        ("SHOW MEASUREMENTS WITH MEASUREMENT = cpu", [("measurements", [("cpu",)])]),
        ("SHOW MEASUREMENTS WHERE host = 'h4'", [("measurements", [("cpu",), ("disk",)])]),
        ("SHOW MEASUREMENTS WHERE host = 'none'", []),
        ("SHOW MEASUREMENTS ON nodb", []),
        ("SHOW MEASUREMENTS WHERE host != 'h4'", [("measurements", [("mem",)])]),
        ("SHOW MEASUREMENTS WHERE host !~ /h[24]/", [("measurements", [("mem",)])]),
        ("SHOW MEASUREMENTS WHERE host = ''", []),
        ("SHOW MEASUREMENTS WHERE host != ''", [("measurements", [("cpu",), ("disk",), ("mem",)])]),
        ("SHOW MEASUREMENTS WHERE host =~ /^$/ OR host !~ /.*/", []),
        ("SHOW MEASUREMENTS WHERE nope != 'x' OR nope = ''", []),
        ("SHOW MEASUREMENTS WHERE host = 'h2' AND dc = 'west'", [("measurements", [("cpu",)])]),
        ("SHOW MEASUREMENTS WHERE host != 'h4' OR (_name = 'disk')", [("measurements", [("disk",), ("mem",)])]),
        ("SHOW MEASUREMENTS WHERE _name !~ /m/", [("measurements", [("cpu",), ("disk",)])]),
        ("SHOW MEASUREMENTS ON fleet.roll", [("measurements", [("cpu_day", "fleet", "roll")])]),
        (
            "SHOW MEASUREMENTS ON *.* WITH MEASUREMENT =~ /cpu/",
            [("measurements", [("cpu", "fleet", "autogen"), ("cpu_day", "fleet", "roll")])],
        ),
        (
            "SHOW TAG KEYS",
            [
                ("cpu", [("dc",), ("gen",), ("host",)]), ("disk", [("host",), ("path",)]), ("mem", [("host",)]),
                ("my meas", [("sel=ect",), ("tag one",)]),
            ],
        ),
        ("SHOW TAG KEYS FROM cpu WHERE host = 'h2'", [("cpu", [("dc",), ("host",)])]),
        ("SHOW TAG KEYS FROM cpu WITH KEY = host LIMIT 1 OFFSET 1 SLIMIT 1", [("cpu", [("gen",)])]),
        ("SHOW TAG KEYS FROM roll.cpu_day", [("cpu_day", [("host",)])]),
        ("SHOW TAG VALUES FROM cpu WITH KEY = gen", [("cpu", [("gen", "g2")])]),
        ("SHOW TAG VALUES FROM cpu, disk WITH KEY IN (host, path) WHERE dc = 'west' OR path =~ /v/",
         [("cpu", [("host", "h3"), ("host", "h4")]), ("disk", [("host", "h4"), ("path", "/var")])]),
        ("SHOW TAG VALUES FROM cpu WITH KEY =~ /^(dc|gen)$/ LIMIT 2", [("cpu", [("dc", "east"), ("dc", "west")])]),
        ("SHOW TAG VALUES FROM cpu WITH KEY !~ /e/ WHERE gen = ''",
         [("cpu", [("dc", "east"), ("dc", "west"), ("host", "h2"), ("host", "h4")])]),
        ("SHOW TAG VALUES FROM mem WITH KEY != dc WHERE _name = 'mem'", [("mem", [("host", "h1")])]),
        ("SHOW TAG VALUES WITH KEY = nosuch", []),
        ("SHOW FIELD KEYS FROM cpu", [("cpu", [("load", "float"), ("temp", "integer")])]),
        ("SHOW FIELD KEYS FROM roll.cpu_day LIMIT 1 OFFSET 1", [("cpu_day", [("temp", "integer")])]),
        ("SHOW SERIES FROM mem", [(None, [("mem",), ("mem,host=h1",)])]),
        ("SHOW SERIES FROM \"my meas\"", [(None, [("my\\ meas,sel\\=ect=yes,tag\\ one=va\\,lue\\ x",)])]),
        ("SHOW SERIES FROM cpu WHERE dc = 'west' LIMIT 1 OFFSET 1", [(None, [("cpu,dc=west,host=h4",)])]),
        ("SHOW SERIES WHERE host != 'h1' AND host != ''", [(None, [
            ("cpu,dc=east,host=h2",), ("cpu,dc=west,gen=g2,host=h3",), ("cpu,dc=west,host=h4",),
            ("disk,host=h4,path=/var",)])]),
        ("SHOW SERIES EXACT CARDINALITY", [("cpu", [(4,)]), ("disk", [(2,)]), ("mem", [(2,)]), ("my meas", [(1,)])]),
        ("SHOW SERIES EXACT CARDINALITY FROM cpu WHERE dc = 'east'", [("cpu", [(2,)])]),
        ("SHOW SERIES CARDINALITY", [(None, [(9,)])]),
        ("SHOW SERIES CARDINALITY FROM cpu", [("cpu", [(4,)])]),
        ("SHOW MEASUREMENT EXACT CARDINALITY", [(None, [(4,)])]),
        ("SHOW MEASUREMENT CARDINALITY", [(None, [(4,)])]),
        ("SHOW TAG KEY CARDINALITY FROM cpu", [("cpu", [(3,)])]),
        ("SHOW TAG VALUES CARDINALITY FROM cpu WITH KEY IN (host, dc)", [("cpu", [(6,)])]),
        ("SHOW FIELD KEY EXACT CARDINALITY FROM cpu", [("cpu", [(2,)])]),
        ("SHOW FIELD KEY EXACT CARDINALITY WHERE host = 'h2'", [("cpu", [(2,)])]),
        ("SHOW FIELD KEY EXACT CARDINALITY WHERE host = 'none'", []),
        # what only points could answer is left open by SHOW SERIES, and counts for none
        ("SHOW SERIES FROM mem WHERE host = 5", [(None, [("mem",), ("mem,host=h1",)])]),
        ("SHOW SERIES FROM cpu WHERE load = 3 AND host = 'h2'", [(None, [("cpu,dc=east,host=h2",)])]),
        ("SHOW SERIES FROM cpu WHERE load::tag = 'x'", []),
        ("SHOW TAG VALUES FROM cpu WITH KEY = dc WHERE load =~ /x/", [("cpu", [("dc", "east"), ("dc", "west")])]),
        ("SHOW SERIES EXACT CARDINALITY FROM cpu WHERE load > 3 OR host = 'h1'", [("cpu", [(1,)])]),
        ("SHOW SERIES EXACT CARDINALITY FROM cpu WHERE dc = 5 OR host < 'h9' OR load != 'x' OR host = host", []),
    ],
)  # fmt: skip
def test_show(text: str, answer: Any) -> None:
    assert ask(text) == answer


def test_retention_policies_say_true_durations() -> None:
    rows = [("autogen", "0s", "168h0m0s", 1, True), ("roll", "1680h0m0s", "168h0m0s", 1, False)]
    assert ask("SHOW RETENTION POLICIES ON fleet") == [(None, rows)]
    assert ask("SHOW RETENTION POLICIES ON nodb") == [(None, [])]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("SHOW SERIES EXACT CARDINALITY FROM cpu WHERE host != 'h1' GROUP BY gen, dc",
         [("cpu", {"dc": "east", "gen": ""}, [1]), ("cpu", {"dc": "west", "gen": ""}, [1]),
          ("cpu", {"dc": "west", "gen": "g2"}, [1])]),
        ("SHOW SERIES EXACT CARDINALITY FROM mem, cpu WHERE host =~ /1/ GROUP BY *",
         [("cpu", {"dc": "east", "gen": "g2", "host": "h1"}, [1]), ("mem", {"dc": "", "gen": "", "host": "h1"}, [1])]),
        ("SHOW SERIES EXACT CARDINALITY FROM cpu GROUP BY /d/",
         [("cpu", {"dc": "east"}, [2]), ("cpu", {"dc": "west"}, [2])]),
        ("SHOW SERIES EXACT CARDINALITY FROM autogen.cpu, roll.cpu_day GROUP BY dc",
         [("cpu", {"dc": "east"}, [2]), ("cpu", {"dc": "west"}, [2]), ("cpu_day", {"dc": ""}, [1])]),
        ("SHOW TAG KEY CARDINALITY FROM cpu GROUP BY gen", [("cpu", {"gen": ""}, [2]), ("cpu", {"gen": "g2"}, [3])]),
        ("SHOW TAG VALUES CARDINALITY FROM cpu WITH KEY IN (host, gen) GROUP BY dc",
         [("cpu", {"dc": "east"}, [3]), ("cpu", {"dc": "west"}, [3])]),
        ("SHOW FIELD KEY CARDINALITY FROM cpu, mem GROUP BY dc",
         [("cpu", {"dc": "east"}, [2]), ("cpu", {"dc": "west"}, [2]), ("mem", {"dc": ""}, [2])]),
        ("SHOW MEASUREMENT EXACT CARDINALITY GROUP BY host",
         [(None, {"host": ""}, [2]), (None, {"host": "h1"}, [3]), (None, {"host": "h2"}, [1]),
          (None, {"host": "h3"}, [1]), (None, {"host": "h4"}, [2])]),
    ],
)  # fmt: skip
def test_what_there_is_is_counted_by_group(text: str, answer: Any) -> None:
    (statement,) = parse(text)

    async def run() -> list[Any]:
        assert isinstance(statement, tree.ShowCardinality)
        counted = cardinality.cardinality(statement, context())
        return [(series.name, dict(series.tags), series.columns[0].values) async for series in counted]

    assert asyncio.run(run()) == answer


def test_nothing_is_counted_by_windows() -> None:
    with pytest.raises(NotImplementedHere, match="GROUP BY anything but tags in SHOW CARDINALITY"):
        ask("SHOW MEASUREMENT EXACT CARDINALITY GROUP BY time(1m)")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("SHOW SERIES CARDINALITY", "cardinality estimation"),
        ("SHOW MEASUREMENT CARDINALITY", "cardinality estimation"),
        ("SHOW MEASUREMENT CARDINALITY LIMIT 1", "count"),
        ("SHOW MEASUREMENT CARDINALITY FROM cpu", "count"),
        ("SHOW SERIES CARDINALITY LIMIT 5", "count"),
        ("SHOW SERIES EXACT CARDINALITY", "count"),
    ],
)
def test_only_the_bare_form_estimates(text: str, column: str) -> None:
    (statement,) = parse(text)

    async def run() -> set[str]:
        assert isinstance(statement, tree.ShowCardinality)
        return {series.columns[0].name async for series in cardinality.cardinality(statement, context())}

    assert asyncio.run(run()) == {column}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SHOW MEASUREMENTS WHERE 'h1' = host", "left side of '=' must be a tag key"),
        ("SHOW MEASUREMENTS WHERE host != dc", "right side of '!=' must be a tag value string"),
        ("SHOW MEASUREMENTS WHERE load = 1", "right side of '=' must be a tag value string"),
        ("SHOW MEASUREMENTS WHERE load > 1", "invalid tag comparison operator"),
        ("SHOW MEASUREMENTS WHERE time > 0", "SHOW MEASUREMENTS doesn't support time in WHERE clause"),
        ("SHOW SERIES ON nodb", "database not found: nodb"),
        ("SHOW FIELD KEYS ON hidden", "database not found: hidden"),
        ("SHOW SERIES EXACT CARDINALITY ON nodb", "database not found: nodb"),
        ("SHOW TAG KEYS ON nodb", "default retention policy not set for: nodb"),
        ("SHOW TAG VALUES ON hidden WITH KEY = x", "default retention policy not set for: hidden"),
        ("SHOW SERIES FROM norp.cpu", "retention policy not found: norp"),
        (
            "SHOW MEASUREMENTS ON *",
            "query 'SHOW MEASUREMENTS ON *' not supported. use 'ON *.*' or specify a database",
        ),
        ("SHOW SERIES WHERE load > 5", "invalid tag comparison operator"),
        ("SHOW SERIES CARDINALITY WHERE time > 0",
         "SHOW SERIES EXACT CARDINALITY doesn't support time in WHERE clause"),
        ("SHOW FIELD KEY CARDINALITY ON nodb WHERE host = 'a' AND time > 0",
         "SHOW FIELD KEY CARDINALITY doesn't support time in WHERE clause"),
        ("SHOW TAG KEYS ON nodb WHERE load > 5", "default retention policy not set for: nodb"),
        ("SHOW TAG VALUES WITH KEY = host WHERE dc = 'x' OR (host = \"h1\")",
         "bad WHERE clause for metaquery; one term must be a string literal tag value within single quotes: host = h1"),
        ("SHOW TAG VALUES WITH KEY = host WHERE load > 4", "expression too complex for metaquery: load > 4"),
        ("SHOW TAG VALUES WITH KEY = host WHERE time > 'yesterday'",
         "invalid operation: time and *influxql.StringLiteral are not compatible"),
        ("SHOW TAG VALUES WITH KEY = host WHERE time != 5", "invalid time comparison operator: !="),
    ],
)  # fmt: skip
def test_what_show_refuses(text: str, message: str) -> None:
    assert told(text) == message


@pytest.mark.parametrize(
    "text", ["SHOW MEASUREMENTS", "SHOW TAG KEYS", "SHOW SERIES", "SHOW FIELD KEYS", "SHOW RETENTION POLICIES"]
)
def test_without_a_database_there_is_nothing_to_show(text: str) -> None:
    assert told(text, database="") == "database name required"


def test_a_refusal_is_confirmed_once() -> None:
    source = mappings()
    assert told("SHOW SERIES ON nodb", source=source) == "database not found: nodb"
    assert source.confirmed == 1


def test_the_policy_of_the_request_counts_where_influxdb_counts_it() -> None:
    assert ask("SHOW SERIES", policy="roll") == [(None, [("cpu_day,host=h9",)])]
    assert ask("SHOW TAG KEYS FROM mem", policy="roll") == [("mem", [("host",)])]
    assert told("SHOW SERIES", policy="norp") == "retention policy not found: norp"
    assert ask("SHOW MEASUREMENTS LIMIT 1", policy="norp") == [("measurements", [("cpu",)])]


def test_time_chooses_whole_shards() -> None:
    reader = FakeReader({AUTOGEN.id: {"old": [{"a": "1"}], "new": [{"a": "2"}]}})
    reader.fields = {"old": ((0, "v", FieldType.FLOAT),), "new": ((WEEK_NS, "v", FieldType.FLOAT),)}
    assert ask(f"SHOW TAG VALUES WITH KEY = a WHERE TIME >= {WEEK_NS}", reader=reader) == [("new", [("a", "2")])]
    assert ask(f"SHOW TAG VALUES WITH KEY = a WHERE time < {WEEK_NS}", reader=reader) == [("old", [("a", "1")])]
    assert len(ask("SHOW TAG VALUES WITH KEY = a WHERE time > now() - 100000d", reader=reader)) == 2


def test_the_same_series_in_two_policies_is_shown_once() -> None:
    reader = FakeReader({AUTOGEN.id: {"m": [{"a": "1"}, {"a": "2"}]}, ROLL.id: {"m": [{"a": "2"}, {"a": "3"}]}})
    assert ask("SHOW SERIES FROM m, roll.m", reader=reader) == [(None, [("m,a=1",), ("m,a=2",), ("m,a=3",)])]
    assert ask("SHOW SERIES EXACT CARDINALITY FROM m, roll.m", reader=reader) == [("m", [(3,)])]
    assert ask("SHOW TAG VALUES FROM m, roll.m WITH KEY = a", reader=reader) == [
        ("m", [("a", "1"), ("a", "2"), ("a", "3")])
    ]


def test_nothing_stored_answers_nothing() -> None:
    for text in ("SHOW MEASUREMENTS", "SHOW TAG KEYS", "SHOW FIELD KEYS", "SHOW SERIES", "SHOW FIELD KEY CARDINALITY"):
        assert ask(text, reader=FakeReader({})) == []
