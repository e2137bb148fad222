"""``python -m tests.bench.bench_lineprotocol``: lines a second of the parser and the block builder, on one core.

Best of several turns, as the machine may be busy with other things.
"""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable
from pathlib import Path

from common.lineprotocol import compiled
from common.lineprotocol.parse import Body, parse
from common.model import Bucket
from services.ingest.blocks import build_blocks
from services.ingest.columns import check_fields, check_types
from services.ingest.groups import group_rows

KEY = bytes(16)
BUCKET = Bucket("1" * 16, "2" * 16, "bench", 0, 7 * 86400 * 10**9)
TAGS = (
    "region=eu-central-1", "datacenter=eu-central-1a", "rack=67", "os=Ubuntu16.10", "arch=x64", "team=NYC", "service=7",
    "service_version=0", "service_environment=production",
)  # fmt: skip
FIELDS = ("user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
TELEGRAF = Path(__file__).parents[1] / "data" / "telegraf.lp.gz"


def cpu_lines(count: int, hosts: int, floats: bool = False) -> bytes:
    """The hosts' cpu table: 10 tags (not sorted, as its usual generator writes them), 10 fields."""
    random_ = random.Random(1)
    lines = []
    for number in range(count):
        host = number % hosts
        values = (f"{random_.random() * 100!r}" if floats else f"{random_.randrange(101)}i" for _ in FIELDS)
        fields = ",".join(f"usage_{name}={value}" for name, value in zip(FIELDS, values, strict=True))
        time_ns = 1451606400000000000 + number // hosts * 10**10
        lines.append(f"cpu,hostname=host_{host},{','.join(TAGS)} {fields} {time_ns}")
    return "\n".join(lines).encode()


def blocks(bodies: list[Body]) -> None:
    """All that stands between a body and its blocks."""
    parsed = parse(bodies, KEY)
    fields = check_fields(parsed)
    groups = group_rows(parsed, [BUCKET] * len(bodies), ~fields.lost)
    types = check_types(parsed, groups, [{}] * len(groups))
    build_blocks(parsed, groups, ~types.lost)


def best_s(work: Callable[[], object], turns: int) -> float:
    """Seconds of the fastest turn."""
    times = []
    for _ in range(turns):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    started = time.perf_counter()
    compiled.prepare()
    print(f"compiled form ready after {time.perf_counter() - started:.2f} s")
    telegraf = gzip.decompress(TELEGRAF.read_bytes())
    suites = {
        "cpu table, 1,000 hosts": [cpu_lines(10000, 1000)],
        "cpu table, all series new": [cpu_lines(10000, 10000)],
        "cpu table of 17-digit floats": [cpu_lines(10000, 1000, floats=True)],
        "Telegraf, whole file": [telegraf],
        "Telegraf, 1,000 lines": [b"\n".join(telegraf.split(b"\n")[:1000])],
        "256 bodies of one line": cpu_lines(256, 256).split(b"\n"),
        "one line": [cpu_lines(1, 1)],
    }
    for name, data in suites.items():
        bodies = [Body(body, 1, 0) for body in data]
        lines = sum(body.count(b"\n") + 1 for body in data)
        turns = 20 if lines > 1000 else 500
        parse_s = best_s(lambda bodies=bodies: parse(bodies, KEY), turns)  # type: ignore[misc]
        whole_s = best_s(lambda bodies=bodies: blocks(bodies), turns)  # type: ignore[misc]
        print(
            f"{name:30} parse {lines / parse_s:10,.0f} lines/s {parse_s * 1e6:8,.0f} µs"
            f"   to blocks {lines / whole_s:10,.0f} lines/s {whole_s * 1e6:8,.0f} µs"
        )


if __name__ == "__main__":
    main()
