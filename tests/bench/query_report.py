"""The figures of the query benchmark as a table of ratios and as JSON · pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.bench.questions import Question

FIRST, AGAINST = "tidegate", "influxdb"


@dataclass(frozen=True, slots=True)
class Measured:
    """One row on one server in one round.

    Attributes:
        mean_ms, p99_ms: of one client.
        answers_per_s: with several.
        cpu_ms: of the server, an answer.
    """

    mean_ms: float
    p99_ms: float
    answers_per_s: float
    cpu_ms: float
    answer_bytes: int
    refused: int
    first_refusal: str


Figures = dict[str, dict[str, list[Measured]]]  # row → server → one a round
Cold = Mapping[str, Mapping[str, float]]  # row → server → ms


def ratios(question: Question, servers: Mapping[str, Sequence[Measured]], name: str) -> dict[str, float]:
    """How many times as fast as InfluxDB *name* is: median over the rounds, round by round."""
    theirs = servers.get(AGAINST, ())
    pairs = list(zip(servers.get(name, ()), theirs, strict=False))
    if not pairs:
        return {}
    found = {
        "latency": median(b.mean_ms / a.mean_ms for a, b in pairs),
        "rate": median(a.answers_per_s / b.answers_per_s for a, b in pairs),
        "cpu": median(b.cpu_ms / max(a.cpu_ms, 1e-3) for a, b in pairs),
    }
    return found | {"rated": found["rate" if question.rated else "latency"]}


def _verdict(question: Question, ratio: float) -> str:
    if not question.least:
        return ""
    return "goal" if ratio >= question.goal else "reached" if ratio >= question.least else "MISSED"


def table(questions: Sequence[Question], figures: Figures, cold: Cold, peaks: Mapping[str, int]) -> str:
    """A block a row; the last columns are multiples of InfluxDB's speed."""
    lines = []
    for question in questions:
        servers = figures[question.name]
        wanted = f" (at least {question.least:g} x, goal {question.goal:g} x)" if question.least else ""
        lines.append(f"\n{question.name}: {question.title}{wanted}")
        lines.append(
            f"  {'server':<12}{'mean ms':>10}{'p99 ms':>10}{'answers/s':>11}{'CPU ms':>9}{'bytes':>12}{'cold ms':>10}"
            f"{'latency':>10}{'rate':>9}{'CPU':>9}"
        )
        for name, rounds in servers.items():
            middle = {key: median(getattr(r, key) for r in rounds) for key in Measured.__slots__[:5]}
            first = cold.get(question.name, {}).get(name)
            row = (
                f"  {name:<12}{middle['mean_ms']:>10.2f}{middle['p99_ms']:>10.2f}{middle['answers_per_s']:>11.1f}"
                f"{middle['cpu_ms']:>9.2f}{middle['answer_bytes']:>12,.0f}{'' if first is None else f'{first:.1f}':>10}"
            )
            found = ratios(question, servers, name) if name != AGAINST else {}
            if found:
                row += "".join(f"{found[key]:>7.2f} x" for key in ("latency", "rate", "cpu"))
                if name == FIRST:
                    row += f"  {_verdict(question, found['rated'])}"
            lines.append(row)
    if peaks:
        told = ", ".join(f"{name} {peak / 1e6:,.0f} MB" for name, peak in peaks.items())
        lines.append(f"\npeak of memory while all rows are asked: {told}")
    lines += refusals(figures)
    return "\n".join(lines)


def refusals(figures: Figures) -> list[str]:
    """What was not answered with 200: its times say nothing."""
    return [
        f"WRONG: {row}: {name} refused {one.refused} times, the first with {one.first_refusal!r}"
        for row, servers in figures.items()
        for name, rounds in servers.items()
        for one in rounds
        if one.refused
    ]


def as_json(
    questions: Sequence[Question], figures: Figures, cold: Cold, peaks: Mapping[str, int], loaded: Mapping[str, int]
) -> dict[str, Any]:
    """All figures of all rounds, and the ratios."""
    return {
        "points": dict(loaded),
        "peak_bytes": dict(peaks),
        "rows": {
            question.name: {
                "title": question.title,
                "least": question.least,
                "goal": question.goal,
                "cold_ms": dict(cold.get(question.name, {})),
                "servers": {name: [asdict(one) for one in rounds] for name, rounds in figures[question.name].items()},
                "ratios": {name: ratios(question, figures[question.name], name) for name in figures[question.name]},
            }
            for question in questions
        },
    }
