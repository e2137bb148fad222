"""Measure the engine alone on the shapes of the query benchmark: 1,000 hosts, 10 fields, 3 h at 10 s, in memory.

``python -m tests.bench.bench_engine [--hosts N] [--only WORD]``; no server, no rendering: milliseconds a SELECT, warm,
the median of several runs, and the first (cold) run, in which segments are fetched and decoded.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import numpy as np

from common.budget import Budget
from common.model import FieldType
from common.segment import Block, Column
from services.query.compile import prepare
from services.query.evaluation.select import select
from services.query.influxql.parser import parse
from services.query.reading.reader import Reader
from tests.unit.query.engine.memory import MemoryStorage, bucket_of, make_context
from tests.unit.query.engine.points import WEEK_NS, series_id, series_key

START_NS = 1_704_844_800_000_000_000
STEP_NS = 10_000_000_000
HOURS = 3
FIELDS = ("usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait", "usage_irq", "usage_softirq",
          "usage_steal", "usage_guest", "usage_guest_nice")  # fmt: skip
EIGHT = "|".join(f"host_{i}" for i in range(8))

QUERIES = {
    "one host, max per minute, 1 h":
        "SELECT max(usage_user) FROM cpu WHERE hostname = 'host_7' AND time >= '{0}' AND time < '{1}' "
        "GROUP BY time(1m)",
    "8 hosts, 5 fields, max per minute, 1 h":
        "SELECT {max5} FROM cpu WHERE hostname =~ /^({eight})$/ AND time >= '{0}' AND time < '{1}' GROUP BY time(1m)",
    "mean of 1 field per host and hour":
        "SELECT mean(usage_user) FROM cpu WHERE time >= '{0}' AND time < '{3}' GROUP BY time(1h), hostname",
    "mean of 10 fields per host and hour":
        "SELECT {mean10} FROM cpu WHERE time >= '{0}' AND time < '{3}' GROUP BY time(1h), hostname",
    "max of 10 fields, 8 hosts, per hour":
        "SELECT {max10} FROM cpu WHERE hostname =~ /^({eight})$/ AND time >= '{0}' AND time < '{3}' GROUP BY time(1h)",
    "rows where usage_user > 90, one host":
        "SELECT * FROM cpu WHERE usage_user > 90 AND hostname = 'host_7' AND time >= '{0}' AND time < '{3}'",
    "rows where usage_user > 90, all hosts":
        "SELECT * FROM cpu WHERE usage_user > 90 AND time >= '{0}' AND time < '{3}'",
    "last point of every host": "SELECT last(usage_user) FROM cpu GROUP BY hostname",
    "last row of every host": "SELECT * FROM cpu GROUP BY hostname ORDER BY time DESC LIMIT 1",
    "max per minute, desc, limit 5":
        "SELECT max(usage_user) FROM cpu WHERE time < '{3}' GROUP BY time(1m) ORDER BY time DESC LIMIT 5",
    "count(*) over everything": "SELECT count(*) FROM cpu",
    "last(f) where host": "SELECT last(usage_user) FROM cpu WHERE hostname = 'host_7'",
    "median per host": "SELECT median(usage_user) FROM cpu GROUP BY hostname",
    "raw one field, all": "SELECT usage_user FROM cpu",
    "raw one field, limit 10": "SELECT usage_user FROM cpu LIMIT 10",
}  # fmt: skip


def fill(storage: MemoryStorage, hosts: int) -> int:
    """One segment of random whole numbers 0-99; gives its rows."""
    tags = [
        tuple(sorted({"hostname": f"host_{i}", "region": f"r{i % 9}", "rack": str(i % 100), "os": "Ubuntu16.10",
                      "arch": ("x86", "x64")[i % 2], "team": ("SF", "NYC", "LON", "CHI")[i % 4],
                      "service": str(i % 20), "service_version": str(i % 2), "datacenter": f"dc{i % 27}",
                      "service_environment": ("test", "staging", "production")[i % 3]}.items()))
        for i in range(hosts)
    ]  # fmt: skip
    keys = {series_id("cpu", each): series_key(each) for each in tags}
    per_host = HOURS * 360
    rows = hosts * per_host
    rng = np.random.default_rng(7)
    times = np.tile(START_NS + STEP_NS * np.arange(per_host), hosts)
    columns = tuple(Column(name, FieldType.INTEGER, rng.integers(0, 100, rows)) for name in FIELDS)
    shard = START_NS - START_NS % WEEK_NS
    ids = np.array(sorted(keys), np.uint64)
    block = Block(bucket_of("bench", "autogen").id, "cpu", shard, shard + WEEK_NS, ids,
                  np.arange(hosts + 1) * per_host, times, columns)  # fmt: skip
    storage.add(block, keys, level=1)
    return rows


def text_of(query: str) -> str:
    hours = [f"2024-01-10T0{hour}:00:00Z" for hour in range(4)]
    return query.format(
        *hours, eight=EIGHT, max5=", ".join(f"max({name})" for name in FIELDS[:5]),
        max10=", ".join(f"max({name})" for name in FIELDS), mean10=", ".join(f"mean({name})" for name in FIELDS),
    )  # fmt: skip


async def run(storage: MemoryStorage, reader: Reader, text: str) -> int:
    context = make_context(storage, "bench", reader=reader)
    (statement,) = parse(text)
    rows = 0
    async for series in select(statement, context):  # type: ignore[arg-type]
        rows += series.rows
    return rows


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    prepare()
    storage = MemoryStorage()
    print(f"{fill(storage, options.hosts)} rows, {len(FIELDS)} fields")
    reader = Reader(storage, "memory:", Budget(2 << 30))  # type: ignore[arg-type]
    for name, query in QUERIES.items():
        if options.only not in name:
            continue
        text = text_of(query)
        started = time.perf_counter()
        rows = await run(storage, reader, text)
        cold = time.perf_counter() - started
        runs: list[float] = []
        while len(runs) < 50 and sum(runs) < 0.7:
            started = time.perf_counter()
            await run(storage, reader, text)
            runs.append(time.perf_counter() - started)
        print(f"{name:45} {statistics.median(runs) * 1000:9.2f} ms  cold {cold * 1000:9.1f} ms  {rows} rows")


if __name__ == "__main__":
    asyncio.run(main())
