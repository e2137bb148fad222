"""The figures as a table of ratios and as JSON · pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.suites import Measured, Suite

Figures = Mapping[str, Mapping[str, Sequence[Measured]]]  # suite → server → one a round
FIRST = "tidegate"


def ratio(mine: Sequence[Measured], theirs: Sequence[Measured], figure: str) -> float:
    """Median over the rounds of mine / theirs, round by round: what slows a round down slows both."""
    return median(
        float(getattr(a, figure)) / max(float(getattr(b, figure)), 1e-9) for a, b in zip(mine, theirs, strict=True)
    )


def table(suites: Sequence[Suite], figures: Figures) -> str:
    """Rows of text: rates, latencies, CPU, memory; ratios of Tidegate to each other server."""
    lines = []
    for suite in suites:
        servers = figures[suite.name]
        lines.append(f"\n{suite.title} ({suite.lines if not suite.for_s else f'{suite.for_s:g} s'})")
        lines.append(
            f"  {'server':<18}{'points/s':>10}{'median ms':>11}{'p99 ms':>9}{'CPU s/M values':>16}"
            f"{'peak MB':>9}{'stored':>10}  ratio of rates, of CPU"
        )
        for name, rounds in servers.items():
            row = (
                f"  {name:<18}{median(r.points_per_s for r in rounds):>10,.0f}"
                f"{median(r.median_ms for r in rounds):>11.1f}{median(r.p99_ms for r in rounds):>9.1f}"
                f"{median(r.cpu_s_per_million_values for r in rounds):>16.2f}"
                f"{max(r.peak_bytes for r in rounds) / 1e6:>9.0f}{rounds[-1].stored:>10,}"
            )
            if name != FIRST and FIRST in servers:
                rates = ratio(servers[FIRST], rounds, "points_per_s")
                cpu = ratio(servers[FIRST], rounds, "cpu_s_per_million_values")
                row += f"  tidegate is {rates:.2f} x, {cpu:.2f} x"
            lines.append(row)
            if suite.lines_a_body == 1:
                lines.append(f"    CPU ms a write: {_by_process(rounds)}")
            lines += [f"    WRONG: {text}" for text in faults(rounds)]
    return "\n".join(lines)


def _by_process(rounds: Sequence[Measured]) -> str:
    names = sorted({name for one in rounds for name in one.cpu_ms_a_write})
    spent = {name: median(one.cpu_ms_a_write.get(name, 0.0) for one in rounds) for name in names}
    return ", ".join(f"{name} {cpu_ms:.3f}" for name, cpu_ms in spent.items())


def faults(rounds: Sequence[Measured]) -> list[str]:
    """Rounds in which not everything was taken and stored: their rates say nothing."""
    found = []
    for number, one in enumerate(rounds, 1):
        if one.refused:
            found.append(f"round {number}: {one.refused} writes refused, the first with {one.first_refusal!r}")
        elif one.stored != one.sent:
            found.append(f"round {number}: {one.sent} points sent, {one.stored} stored")
    return found


def as_json(suites: Sequence[Suite], figures: Figures, machine: Mapping[str, Any]) -> dict[str, Any]:
    """All figures of all rounds, and the ratios."""
    made: dict[str, Any] = {"machine": dict(machine), "suites": {}}
    for suite in suites:
        servers = figures[suite.name]
        made["suites"][suite.name] = {
            "title": suite.title,
            "servers": {
                name: [{key: getattr(one, key) for key in Measured.__slots__} for one in rounds]
                for name, rounds in servers.items()
            },
            "ratios": {
                name: {key: ratio(servers[FIRST], rounds, key) for key in ("points_per_s", "cpu_s_per_million_values")}
                for name, rounds in servers.items()
                if name != FIRST and FIRST in servers
            },
        }
    return made
