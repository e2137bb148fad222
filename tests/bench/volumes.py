"""``python -m tests.bench.volumes``: what much data takes: a million series, bytes on disk, a growing bucket, a start.

| suite | what is written | what is measured |
|---|---|---|
| million | one point in each of a million series | rate, peak memory, bytes a series of each process, a start |
| ints, walks, hosts | random 0-99; random walks; the hosts' table | bytes a value on disk once compaction is at rest |
| growth | the hosts' table, again and again (Tidegate alone) | rate of each tenth, a start |

After each of them the points are counted; the exit status is 1 where some are missing or too many.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil

from tests.bench import load, workload
from tests.bench.servers import SERVERS, MemoryWatch, Server

CONNECTIONS = 4
LINES_A_BODY = 10_000
# InfluxDB compacts what has not been written to for hours, Tidegate keeps what it replaced for a minute; here: seconds.
SOON = {
    "TIDEGATE_STORAGE_KEEP_REPLACED_S": "1",
    "INFLUXDB_DATA_CACHE_SNAPSHOT_WRITE_COLD_DURATION": "2s",
    "INFLUXDB_DATA_COMPACT_FULL_WRITE_COLD_DURATION": "3s",
}
# A server at rest for this long has done what it puts off.
QUIET_S = 15.0
QUIET_WITHIN_S = 120.0
GROWTH_STEPS = 100  # of 1,000 hosts, in one piece of the load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.volumes", description=__doc__)
    parser.add_argument("suites", nargs="+", choices=("million", "growth", *workload.SHAPES))
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=["tidegate", "influxdb"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of growth")
    parser.add_argument("--series", type=int, default=1_000_000, help="of million")
    parser.add_argument("--values", type=int, default=10_000_000, help="of ints, walks and hosts")
    arguments = parser.parse_args()
    os.environ.update(SOON)
    is_right = True
    with tempfile.TemporaryDirectory(prefix="tidegate-volumes-") as folder:
        for suite in arguments.suites:
            names = ["tidegate"] if suite == "growth" else arguments.servers
            for number in range(arguments.rounds):
                for name in names:
                    server = SERVERS[name][0](Path(folder) / f"{name}-{suite}-{number}")
                    server.start()
                    try:
                        if suite == "growth":
                            is_right &= _grow(server, Path(folder), arguments.rows)
                        elif suite == "million":
                            is_right &= _million(server, Path(folder), arguments.series)
                        else:
                            is_right &= _disk(server, Path(folder), suite, arguments.values)
                    finally:
                        server.stop()
    return 0 if is_right else 1


def _million(server: Server, folder: Path, series: int) -> bool:
    """A million series, one point each; whether all is stored."""
    before = _memory_by_process(server)
    cpu_s = server.cpu_s()
    with MemoryWatch(server) as memory:
        figures = _send(server, "million", folder, workload.many_series(series))
        _wait_at_rest(server)
    _print(
        server,
        "million",
        rate=figures.bodies * LINES_A_BODY / figures.seconds,
        refused=figures.refused,
        cpu_s=server.cpu_s() - cpu_s,
        peak_mb=memory.peak_bytes / 1e6,
    )
    for name, used in _memory_by_process(server).items():
        print(f"    {name:<20}{(used - before.get(name, 0)) / series:8.0f} bytes a series")
    _restart(server, "million")
    return _is_whole(server, "million", figures, series)


def _disk(server: Server, folder: Path, shape: str, values: int) -> bool:
    """Bytes a value once everything is at rest; whether all is stored."""
    before = _bytes_at_rest(server)
    figures = _send(server, shape, folder, workload.shaped(shape, values))
    _wait_at_rest(server)
    used = _bytes_at_rest(server) - before
    _print(server, shape, refused=figures.refused, bytes_a_value=used / values)
    points = values // len(workload.FIELDS)
    return _is_whole(server, shape, figures, points, workload.measurement_of(shape))


def _grow(server: Server, folder: Path, rows: int) -> bool:
    """The rate while the bucket grows, then a start; whether all is stored."""
    server.make_database("growth")
    rates: list[float] = []
    piece = workload.HOSTS * GROWTH_STEPS
    with MemoryWatch(server) as memory:
        for start in range(0, rows // workload.HOSTS, GROWTH_STEPS):
            lines = workload.lines(workload.hosts(workload.HOSTS), GROWTH_STEPS, start, seed=start)
            figures = _send(server, "growth", folder, lines, make=False)
            if figures.refused:
                raise RuntimeError(f"refused: {figures.first_refusal}")
            rates.append(piece / figures.seconds)
    tenth = max(1, len(rates) // 10)
    for first in range(0, len(rates), tenth):
        part = rates[first : first + tenth]
        _print(server, f"growth, from {first * piece:,} rows", rate=median(part))
    _print(
        server, "growth", last_to_first=median(rates[-tenth:]) / median(rates[:tenth]), peak_mb=memory.peak_bytes / 1e6
    )
    _restart(server, "growth")
    return _is_whole(server, "growth", figures, len(rates) * piece)


def _is_whole(server: Server, suite: str, figures: load.Figures, points: int, measurement: str = "cpu") -> bool:
    """Count what is stored of *points* that were sent; what was refused may be there or not."""
    stored = server.count(suite, measurement)
    _print(server, suite, sent=points, stored=stored, bodies_refused=figures.refused)
    return points - figures.refused * LINES_A_BODY <= stored <= points


def _restart(server: Server, suite: str) -> None:
    """Stop, start, and time until ready."""
    server.halt()
    began = time.perf_counter()
    server.start()
    _print(server, suite, ready_s=time.perf_counter() - began)


def _send(server: Server, suite: str, folder: Path, lines: Iterator[bytes], *, make: bool = True) -> load.Figures:
    if make:
        server.make_database(suite)
    sizes: list[int] = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for body in workload.iter_bodies(lines, LINES_A_BODY):
            sizes.append(len(body))
            file.write(body)
        file.flush()
        return load.run(
            load.Plan(
                host="127.0.0.1",
                port=server.port,
                target=server.target(suite),
                headers=server.headers,
                file=file.name,
                sizes=sizes,
                connections=CONNECTIONS,
            )
        )


def _wait_at_rest(server: Server) -> None:
    """Until the server has done next to nothing for QUIET_S."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    quiet_since = time.monotonic()
    before = server.cpu_s()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < QUIET_S:
        time.sleep(0.5)
        now = server.cpu_s()
        if now - before > 0.1:
            quiet_since = time.monotonic()
        before = now


def _bytes_at_rest(server: Server) -> int:
    """Bytes on disk of a server that was stopped, so that its logs are written back; it is started again.

    Without the pages that SQLite keeps for what comes next: up to 64 MiB, which would hide what 20 million values take.
    """
    server.halt()
    free: int = sum(
        connection.execute("PRAGMA freelist_count").fetchone()[0] * connection.execute("PRAGMA page_size").fetchone()[0]
        for path in server.folder.rglob("tidegate.db")
        for connection in (sqlite3.connect(path),)
    )
    # Blocks that the disk holds: InfluxDB's files of series have holes of 4 MB each.
    used = sum(path.stat().st_blocks * 512 for path in server.folder.rglob("*") if path.is_file()) - free
    server.start()
    return used


def _memory_by_process(server: Server) -> dict[str, int]:
    used: dict[str, int] = {}
    for process in server.processes():
        try:
            words, size = process.cmdline(), process.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        name = next((word.partition(".")[2] for word in words if word.startswith("services.")), server.name)
        used[name] = used.get(name, 0) + size
    return used


def _print(server: Server, suite: str, **figures: float) -> None:
    told = "  ".join(f"{name} {value:,.2f}" for name, value in figures.items())
    print(f"{server.name:<18}{suite:<32}{told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
