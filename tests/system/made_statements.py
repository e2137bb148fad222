"""Statements made at random over ``LINES``, for both servers: SHOW, DELETE and DROP, nested SELECTs, broken texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

START_S = 1_704_844_800  # 2024-01-10T00:00:00Z
# Times differ by series, so that the order of equal times plays no part.
LINES = "\n".join(
    [
        f"cpu,host={host},dc={dc}{gen} load={i * k % 7}.5,n={i * i % 5 + k}i,up={'true' if i % 2 else 'false'},"
        f's="w{i % 3}" {START_S + 20 * i + k}'
        for i in range(9)
        for k, (host, dc, gen) in enumerate([("h1", "east", ",gen=g2"), ("h2", "east", ""), ("h3", "west", ",gen=g2")])
    ]
    + [f"disk,host=h{k},path=/{'var' * (k % 2)} used={i * k},free={i}i {START_S + 30 * i + 3 + k}"
       for i in range(4) for k in (1, 4)]
    + [f"mem,host=h1 used={i} {START_S + 86_400 * i + 9}" for i in range(3)]
    + [f"my\\ m,a\\ b=x\\ y v={i} {START_S + i + 6}" for i in range(3)]
)  # fmt: skip
MEASUREMENTS = ("cpu", "disk", "mem", '"my m"', "nosuch")
KEYS = ("host", "dc", "gen", "path", '"a b"', "nokey")
VALUES = ("h1", "h2", "h4", "east", "west", "g2", "/", "/var", "x y", "zz")
PATTERNS = ("/a/", "/./", "/^c/", "/[0-9]/", "/(?i)H/", "/e/", "/^(cpu|mem)$/", "/zz/")


class Maker:
    """Choices at random."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def _pick(self, *choices: T) -> T:
        return self._random.choice(choices)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _some(self, choices: Sequence[str], most: int = 2) -> str:
        return ", ".join(self._pick(*choices) for _ in range(self._random.randint(1, most)))

    def _tag(self) -> str:
        key = self._pick(*KEYS)
        if self._chance(0.4):
            return f"{key} {self._pick('=~', '!~')} {self._pick(*PATTERNS)}"
        return f"{key} {self._pick('=', '!=', '<>')} '{self._pick('', *VALUES)}'"

    def _tags(self, deep: int = 2) -> str:
        """A condition on tags."""
        if deep == 0 or self._chance(0.6):
            return self._tag()
        return f"({self._tags(deep - 1)} {self._pick('AND', 'OR')} {self._tags(deep - 1)})"

    def _time(self) -> str:
        second = START_S + self._pick(-100, 0, 45, 90, 150, 6 * 86_400)
        return self._pick(
            f"{second}s", f"{second}000ms", f"{second * 10**9}", "'2024-01-10T00:01:00Z'", "'2024-01-10 00:01:00.5'",
            "'2024-01-10'", "'2024-01-10T01:00:00+01:00' + 90s", f"{second}s - 30s", "now() - 1h",
            "'2024-01-10' + 60000",
        )  # fmt: skip


class ShowMaker(Maker):
    """SHOW with every clause."""

    def show(self) -> str:
        made = self._pick(self._measurements, self._keys, self._values, self._fields, self._series, self._cardinality)
        return made()

    def _from(self, share: float = 0.5) -> str:
        sources = [*MEASUREMENTS, *PATTERNS, "autogen.cpu"]
        return f" FROM {self._some(sources)}" if self._chance(share) else ""

    def _where(self, share: float = 0.5) -> str:
        return f" WHERE {self._tags()}" if self._chance(share) else ""

    def _limits(self, series: bool = False) -> str:
        words = ("LIMIT", "OFFSET", "SLIMIT", "SOFFSET") if series else ("LIMIT", "OFFSET")
        order = self._pick("", "", "", " ORDER BY DESC", " ORDER BY time ASC")
        return order + "".join(f" {word} {self._pick(0, 1, 2, 9)}" for word in words if self._chance(0.25))

    def _with_key(self) -> str:
        names, named = f"IN ({self._some(KEYS, 3)})", f"{self._pick('=', '!=')} {self._pick(*KEYS)}"
        return " WITH KEY " + self._pick(names, named, f"{self._pick('=~', '!~')} {self._pick(*PATTERNS)}")

    def _measurements(self) -> str:
        named, like = f"= {self._pick(*MEASUREMENTS)}", f"=~ {self._pick(*PATTERNS)}"
        which = f" WITH MEASUREMENT {self._pick(named, like)}" if self._chance(0.4) else ""
        return "SHOW MEASUREMENTS" + which + self._where() + self._limits()

    def _keys(self) -> str:
        return "SHOW TAG KEYS" + self._from() + self._where() + self._limits(series=True)

    def _values(self) -> str:
        return "SHOW TAG VALUES" + self._from() + self._with_key() + self._where() + self._limits()

    def _fields(self) -> str:
        # Backward 1.6.7 tells one shard's measurements after the other's.
        return "SHOW FIELD KEYS" + self._from() + self._limits().replace("DESC", "ASC")

    def _series(self) -> str:
        return "SHOW SERIES" + self._from() + self._where() + self._limits()

    def _cardinality(self) -> str:
        counted = self._pick("SERIES EXACT", "MEASUREMENT EXACT", "TAG KEY", "FIELD KEY EXACT", "TAG VALUES", "SERIES")
        keys = self._with_key() if counted == "TAG VALUES" else ""
        # Of values 1.6.7 loses those of series without the tag that is asked for.
        where = self._where() if counted != "TAG VALUES" else f" WHERE {self._pick('host', 'dc')} = 'h1'"
        groups = f" GROUP BY {self._pick('host', 'dc, host', 'nokey', '*', '/d/')}" if self._chance(0.4) else ""
        limit = self._pick("", "", " LIMIT 1", " OFFSET 1")
        return f"SHOW {counted} CARDINALITY" + self._from() + keys + where + groups + limit


class DeleteMaker(Maker):
    """DELETE, DROP SERIES and DROP MEASUREMENT."""

    def statement(self) -> str:
        if self._chance(0.1):
            return f"DROP MEASUREMENT {self._pick(*MEASUREMENTS)}"
        timed = self._chance(0.6)
        sources = f" FROM {self._some([*MEASUREMENTS, *PATTERNS])}" if self._chance(0.75) else ""
        parts = [self._tags()] if not timed or self._chance(0.6) else []
        if timed:
            compared = [f"time {self._pick('<', '<=', '>', '>=', '=')} {self._time()}" for _ in range(2)]
            parts += compared[: self._pick(1, 1, 2)]
        self._random.shuffle(parts)
        where = f" WHERE {self._pick(' AND ', ' AND ', ' OR ').join(parts)}" if parts else ""
        if sources and self._chance(0.2):
            where = ""
        return f"{'DELETE' if timed else 'DROP SERIES'}{sources}{where}"


class NestedMaker(Maker):
    """SELECTs over subqueries, whose groups the outer ones may inherit."""

    def select(self, deep: int, top: bool = True) -> str:
        """A SELECT over *deep* subqueries; each level gives a column x, only the *top* one fills its windows."""
        if deep == 0:
            inner = self._pick("load", "n", "-n", "load * 2", "n + load", "sqrt(load)", "-load")
            return f"SELECT {inner} AS x FROM cpu{self._filter()}"
        call = self._pick("max", "min", "sum", "count", "mean", "first", "last", "spread", "median")
        column = self._pick(*[f"{call}(x)"] * 3, f"{call}(x) + 1", "x", "x * 2")
        windows = "(" in column and self._chance(0.4)
        keys = self._pick("", "", "host", "dc", "host, dc", "gen", "nokey")
        groups = ", ".join([*([keys] if keys else []), *(["time(45s)"] if windows else [])])
        times = f" WHERE time >= {START_S}s AND time < {START_S + 170}s" if windows else self._filter()
        fill = self._pick("", " fill(none)", " fill(0)") if windows and top else ""
        text = f"SELECT {column} AS x FROM ({self.select(deep - 1, top=False)}){times}"
        return text + (f" GROUP BY {groups}" if groups else "") + fill

    def _filter(self) -> str:
        return f" WHERE {self._pick('dc', 'host')} {self._pick('=', '!=')} '{self._pick('east', 'h1', 'zz')}'" * (
            self._chance(0.2)
        )


_WORDS = """
    SELECT FROM WHERE GROUP BY time ( ) , ; : . * :: / 'str' "id" '' /re/ 12 1.5 .5 5. 1h 1h30m 1x 1e5 -1 + - = != <> =~
    !~ < <= > >= AND OR $p $ % & | ^ ! ~ # @ [ ] { } ? \\ ` true fill none null AS ASC DESC ORDER LIMIT OFFSET SLIMIT
    SOFFSET tz ON WITH KEY IN EXACT CARDINALITY MEASUREMENT TAG FIELD KEYS VALUES SHOW DROP SERIES DELETE DATABASE TO
    ALTER GRANT ALL FOR SET PASSWORD KILL QUERY DISTINCT mean now() -- 99999999999999999999999 é µ 5µ 0x10
""".split()  # noqa: SIM905
_TOKEN = re.compile(r"\s+|[A-Za-z_][A-Za-z0-9_]*|\d+[a-z]*|'[^']*'|\"[^\"]*\"|.", re.DOTALL)


class BreakMaker(Maker):
    """Statements with words and characters left out, put in, or in each other's place."""

    def broken(self, text: str) -> str:
        words = _TOKEN.findall(text)
        for _ in range(self._pick(1, 1, 2, 3)):
            at = self._random.randrange(len(words))
            change = self._random.random()
            if change < 0.25:
                del words[at]
            elif change < 0.5:
                words.insert(at, f" {self._pick(*_WORDS)} ")
            elif change < 0.75:
                words[at] = self._pick(*_WORDS)
            elif change < 0.85:
                words = words[:at]
            else:
                words[at] = words[at][1:] or self._pick("'", '"', "/", "$")
            words = words or [" "]
        return "".join(words)
