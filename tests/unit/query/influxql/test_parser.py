"""InfluxQL both ways: the recorded texts, the tables of tests/cases, and anything at all.

Statements made at random are in ``test_generated.py``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import Invalid
from services.query.influxql import tree
from services.query.influxql.bind import parse_params
from services.query.influxql.format import format_statement
from services.query.influxql.parser import parse
from services.query.influxql.tokens import KEYWORDS, ParseError

TESTS = Path(__file__).parents[3]
CASES = TESTS / "cases" / "influxql"


def recorded() -> Iterator[dict[str, Any]]:
    with (TESTS / "data" / "influxql-examples.jsonl").open() as lines:
        for line in lines:
            item = json.loads(line)
            yield from (step for step in item.get("steps", [item]) if "query" in step)


def error_cases() -> Iterator[tuple[str, str]]:
    for case in (CASES / "parse_errors.txt").read_text().split("\n\n"):
        lines = [line for line in case.strip("\n").split("\n") if not line.startswith("# ")]
        cut = lines.index("----")
        yield "\n".join(lines[:cut]), "\n".join(lines[cut + 1 :])


def statements(file: str) -> list[str]:
    lines = (CASES / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def parse_as_asked(query: str, params: str) -> tuple[tuple[tree.Statement, ...], str | None]:
    """The statements, or what the request is told."""
    try:
        bound = parse_params(params)
    except Invalid as error:
        return (), str(error)
    try:
        return parse(query, bound), None
    except ParseError as error:
        return (), f"failed to parse query: {error}"


def test_recorded_texts_parse_or_fail_as_recorded() -> None:
    for step in recorded():
        _, message = parse_as_asked(step["query"], step["params"].get("params", ""))
        wanted = step["response"]["message"] if step["status"] == 400 else None
        assert message == wanted, step["query"]


def test_recorded_statements_read_back_from_their_print() -> None:
    for step in recorded():
        for statement in parse_as_asked(step["query"], step["params"].get("params", ""))[0]:
            assert parse(format_statement(statement, secrets=True)) == (statement,)


@pytest.mark.parametrize(("query", "message"), list(error_cases()))
def test_what_does_not_parse_is_told_as_influxdb_tells_it(query: str, message: str) -> None:
    with pytest.raises(ParseError) as raised:
        parse(query)
    assert str(raised.value) == message


@pytest.mark.parametrize("text", statements("identity.txt"))
def test_a_statement_prints_as_it_was(text: str) -> None:
    (statement,) = parse(text)
    assert format_statement(statement, secrets=True) == text


@pytest.mark.parametrize("text", statements("tools.txt"))
def test_what_tools_send_parses(text: str) -> None:
    for statement in parse(text):
        assert parse(format_statement(statement)) == (statement,)


def test_a_password_is_neither_printed_nor_represented() -> None:
    for text in ("CREATE USER u WITH PASSWORD 'hunter2'", "SET PASSWORD FOR u = 'hunter2'"):
        (statement,) = parse(text)
        assert "hunter2" not in format_statement(statement) + repr(statement)


def test_empty_statements_do_not_count() -> None:
    assert parse(" ;; -- nothing\n; /* x */ ") == ()
    assert len(parse(";SELECT a FROM m;;SELECT b FROM m;")) == 2


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('SELECT v FROM"m"WHERE"a"=\'b\'', "SELECT v FROM m WHERE a = 'b'"),
        ("SELECT v FROM m /* c */ WHERE/**/a = 'b' -- d", "SELECT v FROM m WHERE a = 'b'"),
    ],
)
def test_quotes_and_comments_part_words(text: str, same: str) -> None:
    assert parse(text) == parse(same)


def test_exact_series_are_only_counted() -> None:
    with pytest.raises(ParseError, match="found EOF, expected CARDINALITY"):
        parse("SHOW SERIES EXACT")


def test_keywords_and_functions_ignore_case() -> None:
    assert parse("select MEAN(a) from m wHeRe t = 'x' group by TIME(1m)") == parse(
        "SELECT mean(a) FROM m WHERE t = 'x' GROUP BY time(1m)"
    )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a + b * c", "a + (b * c)"), ("a * b + c", "(a * b) + c"), ("a - b - c", "(a - b) - c"),
        ("a | b & c", "a | (b & c)"), ("-a % b", "(-1 * a) % b"), ("a ^ b / c % d", "a ^ ((b / c) % d)"),
    ],
)  # fmt: skip
def test_operators_bind_by_level_to_the_left(text: str, same: str) -> None:
    assert _bare(text) == _bare(same)


def _bare(text: str) -> Any:
    """The tree of a field without its parentheses."""

    def strip(expr: tree.Expr) -> Any:
        if isinstance(expr, tree.ParenExpr):
            return strip(expr.expr)
        if isinstance(expr, tree.BinaryExpr):
            return (expr.op, strip(expr.left), strip(expr.right))
        return expr

    (statement,) = parse(f"SELECT {text} FROM m")
    assert isinstance(statement, tree.Select)
    return strip(statement.fields[0].expr)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 100_000 + "a",
        "SELECT " + "f(" * 100_000 + "a",
        "SELECT a FROM " + "(SELECT a FROM " * 100_000 + "m",
        "SELECT " + "a + " * 100_000 + "a FROM m",
        "SELECT a FROM m WHERE " + "a = 1 AND (" * 50_000 + "a = 1",
        "SELECT a FROM m WHERE a = " + "1" * 100_000,
        "SELECT a FROM m WHERE a = " + "1" * 100_000 + "s",
        "SELECT a FROM m WHERE a = " + "1" * 100_000 + ".5",
    ],
)
def test_absurd_depth_and_length_is_a_parse_error(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


def test_a_long_chain_of_or_is_shallow() -> None:
    text = "SELECT a FROM m WHERE " + " OR ".join(f"host = 'h{i}'" for i in range(10_000))
    (statement,) = parse(text)
    assert isinstance(statement, tree.Select)
    assert statement.condition is not None
    assert parse(format_statement(statement)) == (statement,)


def test_an_absurd_limit_is_the_largest() -> None:
    (statement,) = parse("SELECT a FROM m LIMIT 99999999999999999999")
    assert isinstance(statement, tree.Select)
    assert statement.limits.limit == 2**63 - 1


# ---------------------------------------------------------------- any text at all

pieces = st.sampled_from(
    [*sorted(KEYWORDS), *tree.PRECEDENCE, "(", ")", ",", ";", ".", "::", "$x", "'", '"', "/", "\\", "a", "1", "1.5",
     "5m", "time", "fill", "tz", "now()", "\n", "--", "/*", "*/", "µ", "\x00", "'a'", '"b"', "/c/"]
)  # fmt: skip


@given(st.lists(pieces, max_size=25).map(" ".join) | st.lists(pieces, max_size=25).map("".join) | st.text(max_size=40))
@settings(max_examples=500)
def test_any_text_parses_or_is_a_parse_error(text: str) -> None:
    try:
        parsed = parse(text)
    except ParseError:
        return
    for statement in parsed:
        assert parse(format_statement(statement, secrets=True)) == (statement,)


@given(
    st.text(max_size=30)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(json.dumps)
)
@settings(max_examples=300)
def test_any_params_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        parse_params(text)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ('{"x": null}', "failed to parse query: missing parameter: unable to bind parameter with type <nil>"),
        ('{"x": []}', "failed to parse query: missing parameter: unable to bind parameter with type []interface {}"),
        ('{"x": {"odd": 1}}', "failed to parse query: missing parameter: unknown bind object type: odd"),
        ('{"x": 1e3}', 'error parsing json value: strconv.ParseInt: parsing "1e3": invalid syntax'),
        ('{"x": "a"}', None), ('{"x": 5}', None), ('{"x": 1.5}', None), ('{"x": true}', None),
        ('{"x": {"duration": "1h"}}', None), ('{"x": {"duration": 60000000000}}', None),
    ],
)  # fmt: skip
def test_a_bound_value_is_what_its_json_says(params: str, message: str | None) -> None:
    parsed, told = parse_as_asked("SELECT a FROM m WHERE t = $x", params)
    assert told == message
    assert len(parsed) == (message is None)


def test_a_text_of_too_many_operators_is_refused_before_it_is_read() -> None:
    many = " OR ".join(["a = 1"] * 40_000)
    with pytest.raises(ParseError, match="more than 50000 operators and commas in one query"):
        parse(f"SELECT v FROM m WHERE {many}")
    (select,) = parse(f"SELECT v FROM m WHERE s = '{',' * 100_000}'")
    assert isinstance(select, tree.Select)


@pytest.mark.parametrize("pattern", ["(a{1,50}){1,20}b", "(\\w{1,30}\\s?){1,30}!", "\\pL{1,80}"])
def test_a_pattern_that_unfolds_to_thousands_of_instructions_is_refused(pattern: str) -> None:
    with pytest.raises(ParseError, match="error parsing regexp: expression too large: `"):
        parse(f"SELECT v FROM m WHERE t =~ /{pattern}/")


@pytest.mark.parametrize("pattern", ["|".join(f"host_{n}" for n in range(5_000)), ".{1,200}", "\\pL+", "[0-9a-f]{64}"])
def test_patterns_that_are_asked_for_in_earnest_are_read(pattern: str) -> None:
    assert len(parse(f"SELECT v FROM m WHERE t =~ /{pattern}/")) == 1
