"""``python -m tests.bench``: run the suites on each server in turn, round by round, and print the ratios.

Each turn starts its server afresh. The order changes from round to round, so that none always has the warm machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.bench import report
from tests.bench.servers import SERVERS
from tests.bench.suites import Bodies, Measured, measure, suites
from tests.stack import ROOT


def main() -> int:
    arguments = _arguments()
    chosen = [s for s in suites(arguments.quick) if not arguments.suites or s.name in arguments.suites]
    for name in arguments.servers:
        _, program, package = SERVERS[name]
        if program and shutil.which(program) is None:
            print(f"{program} is not installed: on Debian, apt-get install {package}", file=sys.stderr)
            return 1
    figures: dict[str, dict[str, list[Measured]]] = {
        s.name: {n: [] for n in arguments.servers if s.credential in SERVERS[n][0].credentials} for s in chosen
    }
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-", dir=arguments.folder) as folder:
        print("rendering the bodies …", file=sys.stderr)
        bodies = {suite.name: Bodies(suite, Path(folder)) for suite in chosen}
        for number in range(arguments.rounds):
            turn = number % len(arguments.servers)
            for name in arguments.servers[turn:] + arguments.servers[:turn]:
                server = SERVERS[name][0](Path(folder) / f"{name}-{number}")
                server.start()
                try:
                    for suite in chosen:
                        if suite.credential not in server.credentials:
                            continue
                        measured = measure(server, suite, bodies[suite.name])
                        figures[suite.name][name].append(measured)
                        print(
                            f"round {number + 1} {name} {suite.name}: {measured.points_per_s:,.0f}/s", file=sys.stderr
                        )
                finally:
                    server.stop()
    print(report.table(chosen, figures))
    path = ROOT / "build" / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report.as_json(chosen, figures, _machine()), indent=1))
    print(f"\nwritten to {path.relative_to(ROOT)}")
    wrong = [text for by_server in figures.values() for rounds in by_server.values() for text in report.faults(rounds)]
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [suite.name for suite in suites(quick=True)]
    parser.add_argument("--quick", action="store_true", help="one round of a fifth of the data")
    parser.add_argument("--rounds", type=int, help="rounds; 5, with --quick 1")
    parser.add_argument("--suites", nargs="+", choices=names, metavar="SUITE", help=f"of {', '.join(names)}")
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS), help="which, in order")
    parser.add_argument("--folder", help="where the servers keep their data; a temporary folder by default")
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 5
    return arguments


def _machine() -> dict[str, object]:
    return {
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
