"""A SELECT that was bound before asks what it would ask if it were bound anew."""

from __future__ import annotations

from random import Random

import pytest

from common.errors import Invalid
from common.model import FieldType
from services.query.engine.spec import Query
from services.query.influxql import tree
from services.query.influxql.parser import parse
from services.query.influxql.tokens import ParseError
from services.query.planning.check import Checked, check
from services.query.planning.names import Schema, expand
from services.query.planning.now import Now
from services.query.planning.plan import bind
from services.query.planning.prepared import BYTES, Preparations, Prepared
from tests.unit.query.engine.statements import SOURCES, StatementMaker

HOUR = 3600 * 10**9
NOWS = (1_709_630_000 * 10**9, 1_709_637_333 * 10**9 + 5)
TYPES = (FieldType.FLOAT, FieldType.INTEGER, FieldType.STRING)


def no_pattern(_: tree.RegexLiteral) -> None:
    """In place of what matches a pattern: equal where patterns are."""


def select_of(text: str) -> tree.Select:
    (statement,) = parse(text, {})
    assert isinstance(statement, tree.Select)
    return statement


def bind_anew(checked: Checked, schema: Schema, now_ns: int) -> Query | None:
    expanded = expand(checked, [schema], lambda _: lambda name: name < "h")
    return bind(checked, expanded, schema, no_pattern, visible_from_ns=now_ns - HOUR, seed=now_ns, max_cells=99)  # type: ignore[arg-type]


def schemas(names: list[str]) -> list[Schema]:
    made = []
    for shift in range(3):
        fields = {name: TYPES[(shift + at) % 3] for at, name in enumerate(names[:-1])}
        made.append(Schema(fields, frozenset(names[-1:])))
    return [*made, Schema({}, frozenset()), made[0]]


def texts() -> list[str]:
    random = Random(61)
    found = [
        "SELECT max(f) FROM num WHERE time >= now() - 1h GROUP BY time(1m)",
        "SELECT max(f) FROM num WHERE time >= 0 GROUP BY time(1m)",
        "SELECT max(f) FROM num GROUP BY time(1m, now())",
        "SELECT f FROM num WHERE i > now() - 2h OR b = 'x'",
        "SELECT f FROM num WHERE i > 2 * 3 AND time > '2024-01-01' tz('Europe/Berlin')",
        "SELECT * FROM num GROUP BY *",
    ]
    while len(found) < 400:
        dataset = random.choice(["numbers", "greenhouse", "sparse"])
        text = StatementMaker(random, dataset).select()
        if "(SELECT" not in text:
            found.append(text)
            found.append(text.replace("WHERE ", "WHERE time < now() - 3m AND ", 1))
    return found


def test_what_is_kept_asks_what_is_asked_anew() -> None:
    kept = Preparations()
    reused = timeless = 0
    for text in texts():
        try:
            select = select_of(text)
        except ParseError:
            continue
        names = next(names for names, source, _ in SOURCES.values() if f"FROM {source}" in text)
        for schema in schemas(names):
            for now_ns in NOWS:
                try:
                    checked = check(select, Now(now_ns))
                    anew = bind_anew(checked, schema, now_ns)
                except Invalid:
                    continue
                known = kept.find(select)
                if known is not None and known.checked.timeless:
                    assert known.checked == checked, text
                    checked, timeless = known.checked, timeless + 1
                if known is not None and known.fits(checked, schema):
                    assert known.at(checked, now_ns - HOUR, now_ns) == anew, text
                    reused += 1
                else:
                    kept.keep(Prepared(checked, schema, anew))
    assert reused > 500
    assert timeless > 200


@pytest.mark.parametrize(
    ("text", "timeless"),
    [
        ("SELECT f FROM m", True),
        ("SELECT f FROM m WHERE time > 0 AND time < '2024-01-01'", True),
        ("SELECT max(f) FROM m WHERE time < 99 GROUP BY time(1s)", True),
        ("SELECT f FROM m WHERE time > now() - 1h", False),
        ("SELECT f FROM m WHERE i < now()", False),
        ("SELECT max(f) FROM m WHERE time > 99 GROUP BY time(1s)", False),  # ends now
        ("SELECT max(f) FROM m WHERE time < 99 GROUP BY time(1s, now())", False),
        ("SELECT max(f) FROM (SELECT f FROM m WHERE time > now() - 1h)", False),
    ],
)
def test_what_hangs_on_the_clock(text: str, timeless: bool) -> None:
    assert check(select_of(text), Now(NOWS[0])).timeless is timeless


def test_equal_texts_in_two_trees_are_two() -> None:
    kept = Preparations()
    one, other = select_of("SELECT f FROM m"), select_of("SELECT f FROM m")
    kept.keep(Prepared(check(one, Now(0)), Schema({}, frozenset()), None))
    assert kept.find(one) is not None
    assert kept.find(other) is None


def test_what_is_kept_is_bounded() -> None:
    kept = Preparations(room_bytes=10 * BYTES)
    trees = [select_of("SELECT f FROM m") for _ in range(20)]
    for select in trees:
        kept.keep(Prepared(check(select, Now(0)), Schema({}, frozenset()), None))
    assert [kept.find(select) is not None for select in trees] == [False] * 10 + [True] * 10
    wide = Schema({f"f{number}": FieldType.FLOAT for number in range(100)}, frozenset())
    kept.keep(Prepared(check(trees[0], Now(0)), wide, None))
    assert kept.find(trees[0]) is None
