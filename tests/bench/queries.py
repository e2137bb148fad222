"""``python -m tests.bench.queries``: the same questions to each server, interleaved, and Tidegate's speed as ratios.

All servers hold the same points and run at the same time, each idle while another one is asked; every row is asked of
each server in turn, round by round. Answers of Tidegate and InfluxDB are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import requests

from tests.bench import ask, load, query_report, workload
from tests.bench.questions import DATABASE, HOURS, WIDE, Question, questions
from tests.bench.servers import SERVERS, MemoryWatch, Server, Victoria
from tests.stack import ROOT

HOSTS, WIDE_SERIES = 1000, 100_000
SETTLE_S = 3.0


def main() -> int:
    options = _arguments()
    for name in options.servers:
        _, program, package = SERVERS[name]
        if program and shutil.which(program) is None:
            print(f"{program} is not installed: on Debian, apt-get install {package}", file=sys.stderr)
            return 1
    hosts, wide = (HOSTS // 10, WIDE_SERIES // 10) if options.quick else (HOSTS, WIDE_SERIES)
    chosen = [q for q in questions(hosts, wide) if not options.only or q.name in options.only]
    figures: query_report.Figures = {question.name: {} for question in chosen}
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-", dir=options.folder) as folder:
        servers = {name: SERVERS[name][0](Path(folder) / name) for name in options.servers}
        try:
            for server in servers.values():
                server.start()
            loaded = {"cpu": hosts * HOURS * 360, "wide": wide}
            _load(servers.values(), Path(folder), hosts, wide)
            differing = _compare(servers, chosen)
            for number in range(options.rounds):
                for question in chosen:
                    turn = number % len(servers)
                    for name in [*servers][turn:] + [*servers][:turn]:
                        if _targets(servers[name], question):
                            found = _measure(servers[name], question, options.seconds)
                            figures[question.name].setdefault(name, []).append(found)
                print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
            peaks = {name: _peak(server, chosen) for name, server in servers.items()}
            cold = _cold(servers, chosen) if options.cold else {}
        finally:
            for server in servers.values():
                if server.process is not None:
                    server.stop()
    print(query_report.table(chosen, figures, cold, peaks))
    path = ROOT / "build" / f"bench-queries-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(query_report.as_json(chosen, figures, cold, peaks, loaded), indent=1))
    print(f"\nwritten to {path.relative_to(ROOT)}")
    for text in differing:
        print(f"WRONG: {text}")
    return 1 if differing or query_report.refusals(figures) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.queries", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round over a tenth of the points")
    parser.add_argument("--rounds", type=int, help="rounds; 5, with --quick 1")
    parser.add_argument("--seconds", type=float, help="of each run; 1, with --quick 0.3")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="names of rows")
    parser.add_argument(
        "--cold", action=argparse.BooleanOptionalAction, help="also restart the servers before each row"
    )
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS), help="which, in order")
    parser.add_argument("--folder", help="where the servers keep their data; a temporary folder by default")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.3 if options.quick else 1.0)
    if options.cold is None:
        options.cold = not options.quick
    return options


def _targets(server: Server, question: Question) -> list[str]:
    return question.prometheus_targets() if isinstance(server, Victoria) else question.influx_targets()


# ---------------------------------------------------------------- loading and comparing


def _load(servers: Iterable[Server], folder: Path, hosts: int, wide: int) -> None:
    # New series cost InfluxDB much: larger bodies of them time out there on a small machine.
    for database, count, steps, lines_a_body in ((DATABASE, hosts, HOURS * 360, 10_000), (WIDE, wide, 1, 2_000)):
        made = workload.bodies(workload.lines(workload.hosts(count), steps), lines_a_body)
        path = folder / f"{database}.lines"
        with path.open("wb") as file:
            file.writelines(made)
        for server in servers:
            server.make_database(database)
            figures = load.run(
                load.Plan("127.0.0.1", server.port, server.target(database), server.headers, str(path),
                          [len(body) for body in made], 4)
            )  # fmt: skip
            if figures.refused:
                raise RuntimeError(f"{server.name} refused {figures.refused} writes: {figures.first_refusal}")
            stored = server.count(database)
            if stored != count * steps:
                raise RuntimeError(f"{server.name} holds {stored} of {count * steps} points")
            print(f"{server.name}: {stored:,} points of {database} in {figures.seconds:.1f} s", file=sys.stderr)
        path.unlink()
    # What loading left to do in the background (compaction) is not part of what is measured here.
    for server in servers:
        _settle(server)


def _settle(server: Server, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    quiet_since = time.monotonic()
    before = server.cpu_s()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < SETTLE_S:
        time.sleep(0.5)
        now = server.cpu_s()
        if now - before > 0.1:
            quiet_since = time.monotonic()
        before = now


def _compare(servers: dict[str, Server], chosen: Sequence[Question]) -> list[str]:
    """What Tidegate and InfluxDB do not answer alike, whatever the order of keys in JSON."""
    if not {"tidegate", "influxdb"} <= servers.keys():
        return []
    differing = []
    for question in chosen:
        for target, text in zip(question.influx_targets(), question.influxql, strict=True):
            mine, theirs = (
                requests.get(servers[name].url + target, headers=servers[name].headers, timeout=120).json()
                for name in ("tidegate", "influxdb")
            )
            # 1.6.7 says that some whole answers of over 10,000 rows are partial: of one question, not each time.
            where = _difference(mine, _without_partial(theirs))
            if where is not None:
                differing.append(f"{question.name}: other answers to {text}{where}")
    return differing


def _without_partial(answer: Any) -> Any:
    for result in answer.get("results", []):
        for series in result.get("series", []):
            series.pop("partial", None)
    return answer


def _difference(mine: Any, theirs: Any) -> str | None:
    """Where the answers differ first, as a path and both values; None = nowhere. Floats are equal to the last bits:
    sums are not added up in the same order."""
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() == theirs.keys():
        pairs = [(f".{key}", value, theirs[key]) for key, value in mine.items()]
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        pairs = [(f"[{i}]", *pair) for i, pair in enumerate(zip(mine, theirs, strict=True))]
    else:
        floats = {type(mine), type(theirs)} in ({float}, {int, float})
        equal = math.isclose(mine, theirs, rel_tol=1e-12) if floats else mine == theirs
        return None if equal else f": {_short(mine)} instead of {_short(theirs)}"
    for at, one, other in pairs:
        where = _difference(one, other)
        if where is not None:
            return at + where
    return None


def _short(value: Any) -> str:
    many = f"{len(value)} of " if isinstance(value, list) else ""
    return many + repr(value)[:300]


# ---------------------------------------------------------------- measuring


def _plan(server: Server, question: Question, connections: int, for_s: float) -> ask.Plan:
    return ask.Plan("127.0.0.1", server.port, _targets(server, question), server.headers, connections, for_s)


def _measure(server: Server, question: Question, for_s: float) -> query_report.Measured:
    ask.run(_plan(server, question, 1, 0))  # warm
    one = ask.run(_plan(server, question, 1, for_s))
    before = server.cpu_s()
    many = ask.run(_plan(server, question, question.connections, for_s))
    return query_report.Measured(
        mean_ms=one.mean_ms,
        p99_ms=one.p99_ms,
        answers_per_s=many.answers_per_s,
        cpu_ms=(server.cpu_s() - before) / many.answers * 1000,
        answer_bytes=one.answer_bytes // one.answers,
        refused=one.refused + many.refused,
        first_refusal=one.first_refusal or many.first_refusal,
    )


def _peak(server: Server, chosen: Sequence[Question]) -> int:
    """Bytes of memory at most, of all processes, while every row is asked on its connections."""
    with MemoryWatch(server) as memory:
        for question in chosen:
            if _targets(server, question):
                ask.run(_plan(server, question, question.connections, 0.3))
    return memory.peak_bytes


def _cold(servers: dict[str, Server], chosen: Sequence[Question]) -> dict[str, dict[str, float]]:
    """Milliseconds of the first answer after a restart, row by row; the files stay in the system's cache."""
    found: dict[str, dict[str, float]] = {}
    for name, server in servers.items():
        for question in chosen:
            targets = _targets(server, question)
            if not targets:
                continue
            server.halt()
            server.start()
            _settle(server, 5.0)
            plan = ask.Plan("127.0.0.1", server.port, targets[:1], server.headers, 1, 0)
            found.setdefault(question.name, {})[name] = ask.run(plan).mean_ms
    return found


if __name__ == "__main__":
    sys.exit(main())
