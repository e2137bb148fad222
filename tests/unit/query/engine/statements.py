"""SELECTs made at random over the recorded data sets: most make sense, many are nonsense of every kind."""

from __future__ import annotations

from random import Random
from typing import TypeVar

T = TypeVar("T")

# Data set → columns, source, first second.
SOURCES = {
    "greenhouse": (["temp", "hum", "note", "vent", "nofield", "room", "shelf"], "climate", 1_709_625_600),
    "numbers": (["i", "j", "u", "w", "f", "g", "b", "s"], "num", 1_704_844_800),
    "sparse": (["a", "b", "c", "flag", "site"], "meter", 1_704_844_800),
    "ties": (["v", "w", "b", "t"], "p", 1_704_844_800),
    "kinds": (["v", "k"], "gauge", 1_704_153_600),
    "old": (["v"], "log", 1_704_844_800),
    "fleet": (["load", "temp", "used", "host", "dc", "gen"], "/cpu|disk/", 1_704_844_800),
}
AGGREGATES = ("count", "sum", "mean", "median", "mode", "stddev", "spread", "max", "min", "first", "last", "distinct")
STREAMS = ("derivative", "non_negative_derivative", "difference", "non_negative_difference", "elapsed",
           "cumulative_sum")  # fmt: skip
WITH_PERIOD = (
    "moving_average", "exponential_moving_average", "double_exponential_moving_average",
    "triple_exponential_moving_average", "triple_exponential_derivative", "relative_strength_index",
    "kaufmans_efficiency_ratio", "kaufmans_adaptive_moving_average", "chande_momentum_oscillator",
)  # fmt: skip
CASTS = ("float", "integer", "string", "unsigned", "boolean", "field", "tag")


class StatementMaker:
    """Makes statements over one data set."""

    def __init__(self, random: Random, dataset: str) -> None:
        self._random = random
        self._names, self._source, self._start_s = SOURCES[dataset]

    def select(self, inner: bool = False) -> str:
        mode = self._pick("raw", "call", "call", "stream")
        windows = mode != "raw" and self._chance(0.5)
        columns = ", ".join(self._column(mode, windows) for _ in range(self._pick(1, 1, 2, 3)))
        if mode == "call" and self._chance(0.15):
            columns += ", " + self._field()
        source = self._source if inner or self._chance(0.8) else f"({self.select(True)})"
        if source.startswith("(") and self._chance(0.5):
            columns = self._pick("*", "mean(*)", "max(*)", "count(*)", "last(*)", "x", "mean(x)")
        return f"SELECT {columns} FROM {source}" + self._where(windows) + self._group(windows) + self._end()

    def _where(self, windows: bool) -> str:
        parts = [self._condition() for _ in range(self._pick(0, 0, 1, 2))]
        if self._chance(0.9 if windows else 0.3):
            parts += [f"time >= {self._start_s - self._pick(0, 100)}s", f"time < {self._start_s + 4000}s"]
        return " WHERE " + " AND ".join(parts) if parts else ""

    def _group(self, windows: bool) -> str:
        groups = [self._pick("*", "/./", self._name())] if self._chance(0.35) else []
        if windows:
            groups.append(f"time({self._pick('7s', '1m', '20s', '1h')}{self._pick('', ', 3s')})")
        return " GROUP BY " + ", ".join(groups) if groups else ""

    def _end(self) -> str:
        text = ""
        for chance, end in (
            (0.4, f" fill({self._pick('none', 'null', '0', '3.7', 'previous', 'linear', '-1')})"),
            (0.3, " ORDER BY time DESC"), (0.2, " LIMIT 2"), (0.1, " OFFSET 1"), (0.1, " SLIMIT 1"),
            (0.15, " tz('America/New_York')"),
        ):  # fmt: skip
            text += end if self._chance(chance) else ""
        return text

    def _column(self, mode: str, windows: bool) -> str:
        made = {"raw": self._field, "call": self._call}.get(mode, lambda: self._stream(windows))()
        if self._chance(0.12):
            made = f"{self._pick('abs', 'floor', 'sqrt', 'ln', 'round', 'sin')}({made})"
        elif self._chance(0.15):
            other = self._pick("2", "1.5", "0", self._name() if mode == "raw" else self._call())
            made = f"{made} {self._pick('+', '-', '*', '/', '%', '&')} {other}"
        return made + (" AS x" if self._chance(0.1) else "")

    def _field(self) -> str:
        if self._chance(0.1):
            return self._pick("*", "/./")
        return self._name() + (f"::{self._pick(*CASTS)}" if self._chance(0.08) else "")

    def _call(self) -> str:
        return self._pick(
            *[f"{self._pick(*AGGREGATES)}({self._field()})"] * 8,
            f"percentile({self._field()}, {self._pick(0, 50, 99.5, 100, 101)})",
            f"{self._pick('top', 'bottom')}({self._name()}, {self._pick('', self._name() + ', ')}{self._pick(1, 3)})",
            f"sample({self._field()}, {self._pick(1, 3)})",
            f"count(distinct({self._name()}))",
            f"integral({self._field()}{self._pick('', ', 1m')})",
        )

    def _stream(self, windows: bool) -> str:
        inner = self._call() if windows else self._field()
        return self._pick(
            *[f"{self._pick(*STREAMS)}({inner})"] * 3,
            *[f"{self._pick(*WITH_PERIOD)}({inner}, {self._pick(1, 2, 4)})"] * 2,
            f"{self._pick('holt_winters', 'holt_winters_with_fit')}({self._call()}, 2, {self._pick(0, 2, 4)})",
        )

    def _condition(self) -> str:
        name, literal = self._name(), self._pick("5", "1.5", "true", "'x'", "''", "18446744073709551615")
        return self._pick(
            f"{name} {self._pick('=', '!=', '>', '<=')} {literal}",
            f"{name} {self._pick('=~', '!~')} /{self._pick('a', '^$', '[b-z]')}/",
            f"{name} {self._pick('+', '%', '*')} 2 > 3",
            f"({name} > 0 OR {self._name()} = {literal})",
            self._pick("true", "false", "1=1", f"{name} = {self._name()}"),
        )

    def _name(self) -> str:
        return self._random.choice(self._names)

    def _pick(self, *choices: T) -> T:
        return self._random.choice(choices)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share
