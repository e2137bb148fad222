"""What the query benchmark asks: twelve shapes of question over the hosts' cpu table, in InfluxQL and PromQL · pure.

The shapes are those of the Time Series Benchmark Suite's cpu-only case and of dashboards. Each is asked in several
variants (other hosts, other ranges), so that no server answers from memory of the very same text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

import numpy as np

from tests.bench.workload import FIELDS, START_NS

DATABASE = "cpu3h"
WIDE = "wide"  # the database with a series a host and one point in each
HOURS = 3
VARIANTS = 8
_START_S = START_NS // 1_000_000_000
_END_S = _START_S + HOURS * 3600


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the table.

    Attributes:
        influxql: the statement of each variant.
        promql: path and parameters of each variant, empty where PromQL has no such question.
        least, goal: multiples of InfluxDB's speed.
        connections: of the run that counts answers a second.
        rated: by answers a second; otherwise by the mean latency of one client.
    """

    name: str
    title: str
    influxql: Sequence[str]
    promql: Sequence[tuple[str, Mapping[str, str]]] = ()
    least: float = 0
    goal: float = 0
    database: str = DATABASE
    connections: int = 4
    rated: bool = False

    def influx_targets(self) -> list[str]:
        return ["/query?" + urlencode({"db": self.database, "q": text}) for text in self.influxql]

    def prometheus_targets(self) -> list[str]:
        return [f"{path}?{urlencode({**params, 'nocache': '1'})}" for path, params in self.promql]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _between(start_s: int, hours: int) -> str:
    return f"time >= '{_moment(start_s)}' AND time < '{_moment(start_s + hours * 3600)}'"


def _range(query: str, start_s: int, hours: int, step: str) -> tuple[str, Mapping[str, str]]:
    end_s = start_s + hours * 3600
    return "/api/v1/query_range", {"query": query, "start": str(start_s), "end": str(end_s - 1), "step": step}


def _instant(query: str) -> tuple[str, Mapping[str, str]]:
    return "/api/v1/query", {"query": query, "time": str(_END_S)}


def _names(fields: Sequence[str]) -> str:
    return f'__name__=~"cpu_({"|".join(fields)})"'


def questions(hosts: int, wide: int) -> list[Question]:
    """All questions over *hosts* hosts for three hours, and over *wide* series."""
    rng = np.random.default_rng(3)
    ones = [f"host_{n}" for n in rng.integers(0, hosts, VARIANTS)]
    eights = [[f"host_{n}" for n in rng.choice(hosts, 8, replace=False)] for _ in range(VARIANTS)]
    starts = [_START_S + int(n) * 60 for n in rng.integers(0, (HOURS - 1) * 60, VARIANTS)]
    ends = [_END_S - int(n) * 60 for n in rng.integers(0, 60, VARIANTS)]
    whole = _between(_START_S, HOURS)
    return [
        *_of_few(ones, eights, starts),
        *_of_all(ones, ends, whole),
        *(
            Question(
                f"tag_values_{size}", f"SHOW TAG VALUES, {size:,} series",
                [f"SHOW TAG VALUES FROM cpu WITH KEY = {key}" for key in ("hostname", "region", "rack")],
                [(f"/api/v1/label/{key}/values", {"match[]": f'cpu_usage_user{{db="{database}"}}'})
                 for key in ("hostname", "region", "rack")],
                1, 3, database,
            )
            for size, database in ((hosts, DATABASE), (wide, WIDE))
        ),
        Question(
            "last_f", "SELECT last(f) WHERE host, 8 connections",
            [f"SELECT last(usage_user) FROM cpu WHERE hostname = '{host}'" for host in ones],
            [_instant(f'last_over_time(cpu_usage_user{{db="{DATABASE}",hostname="{host}"}}[3h])') for host in ones],
            0.3, 1, connections=8, rated=True,
        ),
    ]  # fmt: skip


def _of_few(ones: Sequence[str], eights: Sequence[Sequence[str]], starts: Sequence[int]) -> list[Question]:
    """About one host or eight."""
    any_of: Callable[[Sequence[str]], str] = "|".join
    db = f'db="{DATABASE}"'
    max5, max10 = (", ".join(f"max({name})" for name in FIELDS[:count]) for count in (5, 10))
    return [
        Question(
            "one_host", "one host, one field, max per minute, 1 h",
            [f"SELECT max(usage_user) FROM cpu WHERE hostname = '{host}' AND {_between(start, 1)} GROUP BY time(1m)"
             for host, start in zip(ones, starts, strict=True)],
            [_range(f'max_over_time(cpu_usage_user{{{db},hostname="{host}"}}[1m])', start, 1, "1m")
             for host, start in zip(ones, starts, strict=True)],
            0.4, 1,
        ),
        Question(
            "eight_hosts", "8 hosts, 5 fields, max per minute, 1 h",
            [f"SELECT {max5} FROM cpu WHERE hostname =~ /^({any_of(names)})$/ AND {_between(start, 1)} "
             "GROUP BY time(1m)" for names, start in zip(eights, starts, strict=True)],
            [_range(f'max(max_over_time({{{_names(FIELDS[:5])},{db},hostname=~"{any_of(names)}"}}[1m]) '
                    "keep_metric_names) by (__name__)", start, 1, "1m")
             for names, start in zip(eights, starts, strict=True)],
            1, 4,
        ),
        Question(
            "max_10_fields", "max of 10 fields, 8 hosts, per hour, 8 h",
            [f"SELECT {max10} FROM cpu WHERE hostname =~ /^({any_of(names)})$/ AND {_between(_START_S, 8)} "
             "GROUP BY time(1h)" for names in eights],
            [_range(f'max(max_over_time({{{_names(FIELDS)},{db},hostname=~"{any_of(names)}"}}[1h]) '
                    "keep_metric_names) by (__name__)", _START_S, 8, "1h") for names in eights],
            2, 6,
        ),
        Question(
            "high_one", "rows where usage_user > 90, one host",
            [f"SELECT * FROM cpu WHERE usage_user > 90 AND hostname = '{host}' AND {_between(_START_S, HOURS)}"
             for host in ones],
            [_range(f'{{{_names(FIELDS)},{db},hostname="{host}"}} and on(hostname) '
                    f'(cpu_usage_user{{{db},hostname="{host}"}} > 90)', _START_S, HOURS, "10s") for host in ones],
            0.6, 1.5,
        ),
    ]  # fmt: skip


def _of_all(ones: Sequence[str], ends: Sequence[int], whole: str) -> list[Question]:
    """About every host."""
    db = f'db="{DATABASE}"'
    mean10 = ", ".join(f"mean({name})" for name in FIELDS)
    return [
        Question(
            "mean_1_field", "mean of 1 field per host and hour, all hosts",
            [f"SELECT mean({name}) FROM cpu WHERE {whole} GROUP BY time(1h), hostname" for name in FIELDS],
            [_range(f"avg(avg_over_time(cpu_{name}{{{db}}}[1h])) by (hostname)", _START_S, HOURS, "1h")
             for name in FIELDS],
            8, 15,
        ),
        Question(
            "mean_10_fields", "mean of 10 fields per host and hour, all hosts",
            [f"SELECT {mean10} FROM cpu WHERE {whole} GROUP BY time(1h), hostname"],
            [_range(f"avg(avg_over_time({{{_names(FIELDS)},{db}}}[1h]) keep_metric_names) by (__name__, hostname)",
                    _START_S, HOURS, "1h")],
            15, 40,
        ),
        Question(
            "high_all", "rows where usage_user > 90, all hosts",
            [f"SELECT * FROM cpu WHERE usage_user > 90 AND {whole}"],
            [_range(f"{{{_names(FIELDS)},{db}}} and on(hostname) (cpu_usage_user{{{db}}} > 90)",
                    _START_S, HOURS, "10s")],
            1.3, 4,
        ),
        Question(
            "last_point", "last point of every host",
            ["SELECT * FROM cpu GROUP BY hostname ORDER BY time DESC LIMIT 1"],
            [_instant(f"last_over_time({{{_names(FIELDS)},{db}}}[3h])")],
            5, 30,
        ),
        Question(
            "last_value", "last(f) of every host",
            [f"SELECT last({name}) FROM cpu GROUP BY hostname" for name in FIELDS],
            [_instant(f"last_over_time(cpu_{name}{{{db}}}[3h])") for name in FIELDS],
        ),
        Question(
            "newest_minutes", "max per minute, order by time desc, limit 5",
            [f"SELECT max(usage_user) FROM cpu WHERE time < '{_moment(end)}' GROUP BY time(1m) "
             "ORDER BY time DESC LIMIT 5" for end in ends],
            least=3, goal=20,
        ),
        Question("count", "count(*) over everything", ["SELECT count(*) FROM cpu"], least=5, goal=50),
    ]  # fmt: skip
