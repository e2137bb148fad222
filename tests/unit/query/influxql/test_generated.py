"""Print → parse over the whole grammar: statements of every class, expressions of every kind, values in ``params``."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.times import format_duration
from services.query.influxql import tree
from services.query.influxql.bind import parse_params
from services.query.influxql.format import format_statement
from services.query.influxql.parser import parse
from tests.unit.query.influxql.generated import EXPRESSIONS, LITERALS, STATEMENTS, conditions, durations, names, regexes

# Together about 2,000. Those that hold expressions have most to go wrong.
EXAMPLES = dict.fromkeys(STATEMENTS, 20) | {
    tree.Select: 400,
    tree.ShowMeasurements: 80,
    tree.ShowCardinality: 80,
    tree.CreateContinuousQuery: 60,
}


def same(parsed: Any, made: Any) -> bool:
    """Equal, and by what they print of themselves too: 1 is no 1.0 and -0.0 no 0.0. Passwords print nothing."""
    silent = isinstance(made, tree.CreateUser | tree.SetPassword)
    return bool(parsed == made) and (silent or repr(parsed) == repr(made))


def test_every_class_of_statements_and_expressions_is_made() -> None:
    assert set(STATEMENTS) == set(get_args(tree.Statement))
    assert set(EXPRESSIONS) == set(get_args(tree.Expr)) - {tree.TimeLiteral}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.__name__)
def test_a_statement_reads_back_from_its_print(statement: type) -> None:
    @given(STATEMENTS[statement])
    @settings(max_examples=EXAMPLES[statement])
    def reads_back(made: Any) -> None:
        (parsed,) = parse(format_statement(made, secrets=True))
        assert isinstance(parsed, statement)
        assert same(parsed, made)

    reads_back()


@given(st.lists(st.one_of(*STATEMENTS.values()), max_size=4))
@settings(max_examples=60)
def test_statements_read_back_from_one_text(made: list[Any]) -> None:
    assert parse("; ".join(format_statement(each, secrets=True) for each in made)) == tuple(made)


@given(conditions)
@settings(max_examples=400)
def test_operators_bind_as_a_naive_reading_of_their_levels_says(condition: tree.Expr) -> None:
    made = tree.Delete((), condition)
    (parsed,) = parse(format_statement(made))
    assert same(parsed, made)


# A number is a float by its point alone, so one that JSON writes with an exponent is none.
_floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: "e" not in repr(value))
_bound_values = (
    LITERALS[tree.StringLiteral].flatmap(lambda e: st.sampled_from([(e, e.value), (e, {"string": e.value})]))
    | LITERALS[tree.IntegerLiteral].flatmap(lambda e: st.sampled_from([(e, e.value), (e, {"integer": e.value})]))
    | LITERALS[tree.BooleanLiteral].flatmap(lambda e: st.sampled_from([(e, e.value), (e, {"boolean": e.value})]))
    | LITERALS[tree.DurationLiteral].flatmap(
        lambda e: st.sampled_from([(e, {"duration": e.ns}), (e, {"duration": format_duration(e.ns)})])
    )
    | _floats.map(lambda value: (tree.NumberLiteral(value), {"float": value}))
    | names.map(lambda name: (tree.VarRef(name), {"ident": name}))
)


@given(_bound_values, names, names, regexes, durations, st.integers(-9, 9), st.integers(0, 2**63 - 1))
@settings(max_examples=150)
def test_bound_values_stand_wherever_written_ones_do(
    value: tuple[Any, Any], field: str, source: str, regex: tree.RegexLiteral, width_ns: int, fill: int, limit: int
) -> None:
    params = {
        "v": value[1], "f": {"identifier": field}, "m": {"ident": source}, "r": {"regex": regex.pattern},
        "w": {"duration": width_ns}, "n": fill, "l": limit, "the zone": "Europe/Berlin",
    }  # fmt: skip
    text = (
        'SELECT $f AS $f FROM $m, $r WHERE t = $v AND t !~ $r GROUP BY time($w), $r fill($n) LIMIT $l tz($"the zone")'
    )
    t, group = tree.VarRef("t"), (tree.Call("time", (tree.DurationLiteral(width_ns),)), regex)
    made = tree.Select(
        (tree.Field(tree.VarRef(field), field),),
        (tree.Measurement(source), tree.Measurement(regex=regex)),
        tree.BinaryExpr("AND", tree.BinaryExpr("=", t, value[0]), tree.BinaryExpr("!~", t, regex)),
        group, tree.Fill.NUMBER, fill, False, tree.Limits(limit), "Europe/Berlin",
    )  # fmt: skip
    (parsed,) = parse(text, parse_params(json.dumps(params)))
    assert same(parsed, made)


def test_the_negative_of_the_smallest_integer_is_itself() -> None:
    (parsed,) = parse("SELECT a FROM m WHERE a = -$x", parse_params(json.dumps({"x": -(2**63)})))
    assert parse(format_statement(parsed)) == (parsed,)
