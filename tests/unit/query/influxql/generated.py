"""Statements of every class of the tree, made at random: only such as a text can say.

The tree of an expression is built from its operands and operators by a naive reading of the precedences, so that what
the parser makes of the printed text is compared with something that the parser did not make.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from services.query.influxql import tree
from services.query.influxql.tokens import KEYWORDS

MAX_INT64 = 2**63 - 1
MAX_UINT64 = 2**64 - 1


def _tuples(items: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(items, min_size=least, max_size=most).map(tuple)


def _or_none(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | items


# ---------------------------------------------------------------- words

# A lone CR reads as LF, so that no text can say one.
_chars = st.characters(codec="utf-8", exclude_characters="\r")
strings = st.text(_chars, max_size=6) | st.text("'\"\\/\n.$;- a", max_size=6)
names = (
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
    | st.sampled_from([*sorted(KEYWORDS), "time", "fill", "tz", "now", "a.b", "1a", "µ"])
    | strings.filter(bool)
)
maybe_name = st.just("") | names
# Each is a pattern of its own, and so are they in any order.
_pieces = st.sampled_from(
    [
        "a", "/", "\\/", "\\\\", ".*", "[^/]", "^b", "c$", "(b|c)+", "(?i)d", "\\.", "\\d", "'", '"', "é", "--", "x{2}",
        "b*/",
    ]
)  # fmt: skip
# A backslash at the end would take the closing slash into the pattern: no text says such a one.
_patterns = _tuples(_pieces, most=4).map("".join).filter(lambda pattern: not pattern.endswith("\\"))
regexes = st.builds(tree.RegexLiteral, _patterns)
durations = st.sampled_from([1, 1_000, 90 * 10**9, 3_600 * 10**9, 86_400 * 10**9]) | st.integers(1, MAX_INT64)


# ---------------------------------------------------------------- expressions

LITERALS: dict[type, st.SearchStrategy[Any]] = {
    tree.IntegerLiteral: st.builds(
        tree.IntegerLiteral, st.integers(-3, 3) | st.integers(-MAX_INT64 - 1, MAX_INT64) | st.just(-MAX_INT64 - 1)
    ),
    tree.UnsignedLiteral: st.builds(tree.UnsignedLiteral, st.integers(MAX_INT64 + 1, MAX_UINT64)),
    tree.NumberLiteral: st.builds(
        tree.NumberLiteral,
        st.sampled_from([0.0, 1.0, -1.5, 1e23, -1e-7, 5e-324, 1.7976931348623157e308])
        | st.floats(allow_nan=False, allow_infinity=False),
    ),
    tree.StringLiteral: st.builds(tree.StringLiteral, strings),
    tree.BooleanLiteral: st.builds(tree.BooleanLiteral, st.booleans()),
    tree.DurationLiteral: st.builds(tree.DurationLiteral, durations | durations.map(lambda ns: -ns) | st.just(0)),
}
_LEAVES: dict[type, st.SearchStrategy[Any]] = LITERALS | {
    tree.VarRef: st.builds(tree.VarRef, names, _or_none(st.sampled_from(tree.CASTS))),
    tree.Wildcard: st.builds(tree.Wildcard, st.sampled_from([None, "field", "tag"])),
    tree.Distinct: st.builds(tree.Distinct, names),
}
_call_names = st.sampled_from(["mean", "count", "distinct", "time", "top", "now", "fill"]) | names.map(
    str.lower
).filter(lambda name: name == name.lower())


def _calls(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(tree.Call, _call_names, _tuples(inner | regexes))


def _signed(operand: Any, sign: int) -> Any:
    """*operand* after a sign, which only these take; 0 = no sign."""
    if sign == 0 or not isinstance(operand, tree.VarRef | tree.Call | tree.ParenExpr):
        return operand
    return tree.BinaryExpr("*", tree.IntegerLiteral(sign), operand)


def _grow(operands: list[Any], operators: list[str]) -> Any:
    """``operands[0] operators[0] operands[1] …`` as a tree, level by level from the tightest."""
    for level in range(5, 0, -1):
        runs, looser = [[operands[0]]], []
        for op, right in zip(operators, operands[1:], strict=True):
            if tree.PRECEDENCE[op] == level:
                runs[-1] += [op, right]
            else:
                runs.append([right])
                looser.append(op)
        operands, operators = [_join(run) for run in runs], looser
    return operands[0]


def _join(run: list[Any]) -> Any:
    """Operands with operators of one level between them, as a tree."""
    if run[1:2] in (["AND"], ["OR"]):
        return _pairwise(run[1], run[::2])
    left = run[0]
    for op, right in zip(run[1::2], run[2::2], strict=True):
        left = tree.BinaryExpr(op, left, right)
    return left


def _pairwise(op: str, operands: list[Any]) -> Any:
    """A chain of AND or OR: neighbours in pairs, then pairs of pairs."""
    while len(operands) > 1:
        paired = [tree.BinaryExpr(op, a, b) for a, b in zip(operands[::2], operands[1::2], strict=False)]
        operands = paired + operands[len(paired) * 2 :]
    return operands[0]


@st.composite
def _infix(draw: st.DrawFn, inner: st.SearchStrategy[Any], operators: list[str]) -> Any:
    drawn = draw(st.lists(st.sampled_from(operators), min_size=1, max_size=5))
    sign = st.sampled_from([0, 0, -1, 1])
    operands = [_signed(draw(inner), draw(sign))]
    for op in drawn:
        operands.append(draw(regexes) if op in tree.REGEX_OPERATORS else _signed(draw(inner), draw(sign)))
    return _grow(operands, drawn)


_ARITHMETIC = [op for op, level in tree.PRECEDENCE.items() if level > 3]


def _expressions(operators: list[str]) -> st.SearchStrategy[Any]:
    def wrap(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        # Beside an operator another stands only in parentheses, or by precedence, which is for _grow to say.
        operands = inner.map(lambda e: tree.ParenExpr(e) if isinstance(e, tree.BinaryExpr) else e)
        return st.builds(tree.ParenExpr, inner) | _calls(inner) | _infix(operands, operators)

    return st.recursive(st.one_of(*_LEAVES.values()), wrap, max_leaves=8)


arithmetic = _expressions(_ARITHMETIC)
conditions = _expressions(list(tree.PRECEDENCE))
# By class, so that none of the tree's is forgotten. A TimeLiteral is made by planning alone.
EXPRESSIONS: dict[type, st.SearchStrategy[Any]] = _LEAVES | {
    tree.RegexLiteral: regexes,
    tree.Call: _calls(arithmetic),
    tree.ParenExpr: st.builds(tree.ParenExpr, arithmetic),
    tree.BinaryExpr: _infix(st.one_of(*_LEAVES.values()), _ARITHMETIC),
}

# ---------------------------------------------------------------- parts of statements

_named_sources = st.builds(tree.Measurement, names | st.just(""), maybe_name, maybe_name)
_regex_sources = st.builds(tree.Measurement, st.just(""), maybe_name, maybe_name, regexes)
measurements = _named_sources | _regex_sources
_sources = _tuples(measurements, most=2)
_fields = _tuples(st.builds(tree.Field, arithmetic | st.one_of(*EXPRESSIONS.values()), maybe_name), 1)
_dimensions = _tuples(
    conditions | regexes | st.builds(tree.Call, st.just("time"), _tuples(LITERALS[tree.DurationLiteral], 1, 2))
)
_numbers = st.one_of(LITERALS[tree.IntegerLiteral], LITERALS[tree.NumberLiteral]).map(lambda literal: literal.value)
_words = st.sampled_from([fill for fill in tree.Fill if fill is not tree.Fill.NUMBER])
_fills = st.tuples(_words, st.none()) | st.tuples(st.just(tree.Fill.NUMBER), _numbers)
_counts = st.sampled_from([0, 0, 1, MAX_INT64]) | st.integers(0, MAX_INT64)
_limits = st.builds(tree.Limits, _counts, _counts)
_all_limits = st.builds(tree.Limits, _counts, _counts, _counts, _counts)
_zones = _or_none(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Etc/GMT+5"]))
_where = _or_none(conditions)


@st.composite
def _selects(
    draw: st.DrawFn,
    sources: st.SearchStrategy[Any],
    *,
    into: st.SearchStrategy[Any] = st.none(),
    dimensions: st.SearchStrategy[Any] = _dimensions,
) -> tree.Select:
    fill, fill_value = draw(_fills)
    direction = draw(st.sampled_from(["", "ASC", "DESC"]))
    return tree.Select(
        draw(_fields), draw(sources), draw(_where), draw(dimensions), fill, fill_value, direction == "DESC",
        draw(_all_limits), draw(_zones), draw(into), direction == "ASC",
    )  # fmt: skip


_any_sources = _tuples(
    st.recursive(
        measurements,
        lambda inner: st.builds(tree.SubQuery, _selects(_tuples(inner, 1, 2))),
        max_leaves=3,
    ),
    1,
    2,
)
_select = _selects(_any_sources, into=_or_none(_named_sources))
_keys = (
    st.builds(tree.KeySelector, st.sampled_from(["=", "!="]), _tuples(names, 1, 1))
    | st.builds(tree.KeySelector, st.just("IN"), _tuples(names, 1))
    | st.builds(tree.KeySelector, st.sampled_from(["=~", "!~"]), st.just(()), regexes)
)


@st.composite
def _show_measurements(draw: st.DrawFn) -> tree.ShowMeasurements:
    every_database, every_policy = draw(st.booleans()), draw(st.booleans())
    database = "" if every_database else draw(maybe_name)
    policy = "" if every_policy else draw(maybe_name)
    return tree.ShowMeasurements(
        database, policy, every_database, every_policy, draw(_or_none(measurements)), draw(_where),
        draw(st.booleans()), draw(_limits),
    )  # fmt: skip


@st.composite
def _cardinalities(draw: st.DrawFn) -> tree.ShowCardinality:
    counted = draw(st.sampled_from(tree.Counted))
    keys = draw(_keys) if counted is tree.Counted.TAG_VALUES else None
    return tree.ShowCardinality(
        counted, draw(st.booleans()), draw(maybe_name), draw(_sources), keys, draw(_where), draw(_dimensions),
        draw(_limits),
    )  # fmt: skip


def _removals(statement: type, policies: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """DELETE or DROP SERIES: of what, or where, or both."""
    sources = st.builds(tree.Measurement, names, policies) | st.builds(
        tree.Measurement, st.just(""), policies, st.just(""), regexes
    )
    return st.builds(statement, _tuples(sources, 1, 2), _where) | st.builds(statement, st.just(()), conditions)


# ---------------------------------------------------------------- 1.x administration

_replications = st.integers(1, 2**31 - 1)
_duration_or_inf = st.just(0) | durations
_later_options = [_or_none(_duration_or_inf)] * 3
_options = st.builds(tree.PolicyOptions, _or_none(_duration_or_inf), _or_none(_replications), *_later_options)
_whole_options = st.builds(tree.PolicyOptions, _duration_or_inf, _replications, *_later_options)
_privileges = st.sampled_from(tree.Privilege)
_ids = st.integers(0, MAX_UINT64)


@st.composite
def _continuous_queries(draw: st.DrawFn) -> tree.CreateContinuousQuery:
    width_ns = draw(st.integers(1, 10**15))
    time = tree.Call("time", (tree.DurationLiteral(width_ns),))
    select = draw(
        _selects(_any_sources, into=_named_sources, dimensions=_dimensions.map(lambda others: (time, *others)))
    )
    every_ns = draw(st.just(0) | st.integers(1, 10**15))
    for_ns = draw(st.just(0) | st.integers(max(width_ns, every_ns), MAX_INT64))
    return tree.CreateContinuousQuery(draw(names), draw(names), select, every_ns, for_ns)


# ---------------------------------------------------------------- statements

STATEMENTS: dict[type, st.SearchStrategy[Any]] = {
    tree.Select: _select,
    tree.Explain: st.builds(tree.Explain, _select, st.booleans(), st.booleans()),
    tree.ShowDatabases: st.builds(tree.ShowDatabases),
    tree.ShowRetentionPolicies: st.builds(tree.ShowRetentionPolicies, maybe_name),
    tree.ShowMeasurements: _show_measurements(),
    tree.ShowTagKeys: st.builds(
        tree.ShowTagKeys, maybe_name, _sources, _or_none(_keys), _where, st.booleans(), _all_limits
    ),
    tree.ShowTagValues: st.builds(tree.ShowTagValues, _keys, maybe_name, _sources, _where, st.booleans(), _limits),
    tree.ShowFieldKeys: st.builds(tree.ShowFieldKeys, maybe_name, _sources, st.booleans(), _limits),
    tree.ShowSeries: st.builds(tree.ShowSeries, maybe_name, _sources, _where, st.booleans(), _limits),
    tree.ShowCardinality: _cardinalities(),
    tree.Delete: _removals(tree.Delete, maybe_name),
    tree.DropMeasurement: st.builds(tree.DropMeasurement, names),
    tree.DropSeries: _removals(tree.DropSeries, st.just("")),
    tree.CreateDatabase: st.builds(tree.CreateDatabase, names)
    | st.builds(tree.CreateDatabase, names, _options, maybe_name),
    tree.DropDatabase: st.builds(tree.DropDatabase, names),
    tree.CreateRetentionPolicy: st.builds(tree.CreateRetentionPolicy, names, names, _whole_options, st.booleans()),
    tree.AlterRetentionPolicy: st.builds(
        tree.AlterRetentionPolicy, names, names, _options.filter(lambda o: o != tree.PolicyOptions()), st.booleans()
    )
    | st.builds(tree.AlterRetentionPolicy, names, names, st.just(tree.PolicyOptions()), st.just(True)),
    tree.DropRetentionPolicy: st.builds(tree.DropRetentionPolicy, names, names),
    tree.CreateUser: st.builds(tree.CreateUser, names, strings, st.booleans()),
    tree.DropUser: st.builds(tree.DropUser, names),
    tree.SetPassword: st.builds(tree.SetPassword, names, strings),
    tree.Grant: st.builds(tree.Grant, _privileges, names, names),
    tree.GrantAdmin: st.builds(tree.GrantAdmin, names),
    tree.Revoke: st.builds(tree.Revoke, _privileges, names, names),
    tree.RevokeAdmin: st.builds(tree.RevokeAdmin, names),
    tree.ShowUsers: st.builds(tree.ShowUsers),
    tree.ShowGrants: st.builds(tree.ShowGrants, names),
    tree.ShowQueries: st.builds(tree.ShowQueries),
    tree.KillQuery: st.builds(tree.KillQuery, _ids, maybe_name),
    tree.CreateContinuousQuery: _continuous_queries(),
    tree.DropContinuousQuery: st.builds(tree.DropContinuousQuery, names, names),
    tree.ShowContinuousQueries: st.builds(tree.ShowContinuousQueries),
    tree.CreateSubscription: st.builds(
        tree.CreateSubscription, names, names, names, st.sampled_from(["ALL", "ANY"]), _tuples(strings, 1)
    ),
    tree.DropSubscription: st.builds(tree.DropSubscription, names, names, names),
    tree.ShowSubscriptions: st.builds(tree.ShowSubscriptions),
    tree.ShowShards: st.builds(tree.ShowShards),
    tree.ShowShardGroups: st.builds(tree.ShowShardGroups),
    tree.DropShard: st.builds(tree.DropShard, _ids),
    tree.ShowStats: st.builds(tree.ShowStats, strings),
    tree.ShowDiagnostics: st.builds(tree.ShowDiagnostics, strings),
}
