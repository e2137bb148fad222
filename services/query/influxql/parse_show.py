"""SHOW statements · pure.

Each production stands above its function. Source: spec/influxql.md, 3 and 13.
"""

from __future__ import annotations

from typing import Any

from services.query.influxql import tree
from services.query.influxql.expressions import ExpressionParser, check_depth


def _checked(condition: tree.Expr | None) -> tree.Expr | None:
    if condition is not None:
        check_depth(condition)
    return condition


# show_rp = "SHOW" "RETENTION" "POLICIES" [on]
def retention_policies(parser: ExpressionParser) -> tree.ShowRetentionPolicies:
    return tree.ShowRetentionPolicies(parser.optional_on())


# show_m = "SHOW" "MEASUREMENTS" [ "ON" name ["." name] ] [ "WITH" "MEASUREMENT" ("=" | "=~") measurement ]
#          [where] [order] [limit] [offset];  name = ident | "*"
def measurements(parser: ExpressionParser) -> tree.ShowMeasurements:
    tokens = parser.tokens
    database = policy = ""
    every_database = every_policy = False
    if tokens.accept("ON"):
        database, every_database = _name_or_all(parser)
        if tokens.accept("."):
            policy, every_policy = _name_or_all(parser)
    source = None
    if tokens.accept("WITH"):
        parser.words("MEASUREMENT")
        token = tokens.take()
        if token.kind not in ("=", "=~"):
            raise tokens.unexpected(token, "=", "=~")
        source = parser.measurement()
    condition = _checked(parser.condition())
    descending = parser.descending()
    limits = parser.limits(series=False)
    return tree.ShowMeasurements(database, policy, every_database, every_policy, source, condition, descending, limits)


def _name_or_all(parser: ExpressionParser) -> tuple[str, bool]:
    token = parser.tokens.take()
    if token.kind == "*":
        return "", True
    if token.kind != "IDENT":
        raise parser.tokens.unexpected(token, "identifier", "*")
    return token.text, False


# show_tk = "SHOW" "TAG" "KEYS" [on] [from] [ "WITH" "KEY" keysel ] [where] [order] [limits]
def tag_keys(parser: ExpressionParser) -> tree.ShowTagKeys:
    return tree.ShowTagKeys(
        parser.optional_on(),
        parser.optional_from(),
        parser.key_selector() if parser.tokens.peek().kind == "WITH" else None,
        _checked(parser.condition()),
        parser.descending(),
        parser.limits(series=True),
    )


# show_tv = "SHOW" "TAG" "VALUES" [on] [from] "WITH" "KEY" keysel [where] [order] [limit] [offset]
def tag_values(parser: ExpressionParser) -> tree.Statement:
    if _cardinality_follows(parser):
        return _cardinality(parser, tree.Counted.TAG_VALUES)
    database, sources = parser.optional_on(), parser.optional_from()
    return tree.ShowTagValues(
        parser.key_selector(),
        database,
        sources,
        _checked(parser.condition()),
        parser.descending(),
        parser.limits(series=False),
    )


# show_fk = "SHOW" "FIELD" "KEYS" [on] [from] [order] [limit] [offset]
def field_keys(parser: ExpressionParser) -> tree.ShowFieldKeys:
    return tree.ShowFieldKeys(
        parser.optional_on(), parser.optional_from(), parser.descending(), parser.limits(series=False)
    )


# show_s = "SHOW" "SERIES" [on] [from] [where] [order] [limit] [offset]
def series(parser: ExpressionParser) -> tree.Statement:
    if _cardinality_follows(parser):
        return _cardinality(parser, tree.Counted.SERIES)
    return tree.ShowSeries(
        parser.optional_on(),
        parser.optional_from(),
        _checked(parser.condition()),
        parser.descending(),
        parser.limits(series=False),
    )


def _cardinality_follows(parser: ExpressionParser) -> bool:
    return parser.tokens.peek().kind in ("EXACT", "CARDINALITY")


# show_card = … ["EXACT"] "CARDINALITY" [on] [from] ["WITH" "KEY" keysel] [where] [group] [limit] [offset]
def _cardinality(parser: ExpressionParser, counted: tree.Counted) -> tree.ShowCardinality:
    exact = parser.tokens.accept("EXACT") is not None
    parser.words("CARDINALITY")
    return tree.ShowCardinality(
        counted,
        exact,
        parser.optional_on(),
        parser.optional_from(),
        parser.key_selector() if counted is tree.Counted.TAG_VALUES else None,
        _checked(parser.condition()),
        parser.dimensions(),
        parser.limits(series=False),
    )


def tag_key_cardinality(parser: ExpressionParser) -> tree.Statement:
    return _required_cardinality(parser, tree.Counted.TAG_KEY)


def field_key_cardinality(parser: ExpressionParser) -> tree.Statement:
    return _required_cardinality(parser, tree.Counted.FIELD_KEY)


def _required_cardinality(parser: ExpressionParser, counted: tree.Counted) -> tree.Statement:
    if not _cardinality_follows(parser):
        raise parser.tokens.unexpected(parser.tokens.take(), "EXACT", "CARDINALITY")
    return _cardinality(parser, counted)


def exact_measurement_cardinality(parser: ExpressionParser) -> tree.ShowCardinality:
    counted = measurement_cardinality
    parser.words("CARDINALITY")
    return counted(parser, exact=True)


def measurement_cardinality(parser: ExpressionParser, *, exact: bool = False) -> tree.ShowCardinality:
    return tree.ShowCardinality(
        tree.Counted.MEASUREMENT,
        exact,
        parser.optional_on(),
        parser.optional_from(),
        None,
        _checked(parser.condition()),
        parser.dimensions(),
        parser.limits(series=False),
    )


# "SHOW" ("STATS" | "DIAGNOSTICS") ["FOR" string]
def stats(parser: ExpressionParser) -> tree.ShowStats:
    return tree.ShowStats(parser.string() if parser.tokens.accept("FOR") else "")


def diagnostics(parser: ExpressionParser) -> tree.ShowDiagnostics:
    return tree.ShowDiagnostics(parser.string() if parser.tokens.accept("FOR") else "")


# The keywords after SHOW, in the order in which errors list them.
SHOW: dict[str, Any] = {
    "CONTINUOUS": {"QUERIES": lambda _: tree.ShowContinuousQueries()},
    "DATABASES": lambda _: tree.ShowDatabases(),
    "DIAGNOSTICS": diagnostics,
    "FIELD": {"KEY": field_key_cardinality, "KEYS": field_keys},
    "GRANTS": {"FOR": lambda parser: tree.ShowGrants(parser.ident())},
    "MEASUREMENT": {"EXACT": exact_measurement_cardinality, "CARDINALITY": measurement_cardinality},
    "MEASUREMENTS": measurements,
    "QUERIES": lambda _: tree.ShowQueries(),
    "RETENTION": {"POLICIES": retention_policies},
    "SERIES": series,
    "SHARD": {"GROUPS": lambda _: tree.ShowShardGroups()},
    "SHARDS": lambda _: tree.ShowShards(),
    "STATS": stats,
    "SUBSCRIPTIONS": lambda _: tree.ShowSubscriptions(),
    "TAG": {"KEY": tag_key_cardinality, "KEYS": tag_keys, "VALUES": tag_values},
    "USERS": lambda _: tree.ShowUsers(),
}
