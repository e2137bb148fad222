"""Statements → InfluxQL text, as InfluxDB prints them · pure.

``parse(format(statement))`` gives the same tree. Passwords are printed as ``[REDACTED]`` unless asked for, so that a
statement may be logged. Source: spec/influxql.md, 3; ``String()`` of InfluxDB's tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from common.times import format_duration, format_rfc3339
from services.query.influxql import tree
from services.query.influxql.expressions import quote
from services.query.influxql.tokens import KEYWORDS

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def format_ident(name: str) -> str:
    """*name*, in quotes only where it needs them."""
    return name if _BARE.fullmatch(name) and name.upper() not in KEYWORDS else quote(name)


def format_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def format_regex(regex: tree.RegexLiteral) -> str:
    escaped = regex.pattern.replace("/", "\\/")
    return f"/{escaped}/"


def format_number(value: float) -> str:
    """A float without an exponent, which InfluxQL does not read, and with a point, or it would be an integer."""
    text = repr(value)
    if "e" in text or "n" in text:
        text = format(value, ".1f") if abs(value) >= 1 else f"{value:.400f}".rstrip("0")
    return text if "." in text else text + ".0"


# ---------------------------------------------------------------- expressions


FormatNumber = Callable[[float], str]


def format_expr(expr: tree.Expr, number: FormatNumber = format_number) -> str:
    """*expr* as text; a sign before a name is printed as ``-1 * name``, as there."""
    if isinstance(expr, tree.NumberLiteral):
        return number(expr.value)
    nested = _NESTED.get(type(expr))
    return _LEAVES[type(expr)](expr) if nested is None else nested(expr, number)


def describe_expr(expr: tree.Expr) -> str:
    """*expr* as InfluxDB's error texts show it: floats with three digits, so that it may read back otherwise."""
    return format_expr(expr, "{:.3f}".format)


def _format_binary(expr: tree.BinaryExpr, number: FormatNumber) -> str:
    level = tree.PRECEDENCE[expr.op]
    left = _operand(expr.left, level, number)
    right = _operand(expr.right, level + (expr.op not in ("AND", "OR")), number)
    if right.startswith("(") and not isinstance(expr.right, tree.ParenExpr) and _is_sign(expr.right):
        # A product by ±1 on the right was written as a sign: parentheses would be another tree.
        assert isinstance(expr.right, tree.BinaryExpr)
        assert isinstance(expr.right.left, tree.IntegerLiteral)
        right = ("-" if expr.right.left.value == -1 else "+") + _after_sign(expr.right.right, number)
    return f"{left} {expr.op} {right}"


def _after_sign(expr: tree.Expr, number: FormatNumber) -> str:
    text = format_expr(expr, number)
    # A keyword may not follow a sign: there distinct( is a name in quotes.
    is_keyword = isinstance(expr, tree.Call) and expr.name == "distinct"
    return quote("distinct") + text.removeprefix("distinct") if is_keyword else text


def _operand(expr: tree.Expr, least: int, number: FormatNumber) -> str:
    text = format_expr(expr, number)
    return f"({text})" if isinstance(expr, tree.BinaryExpr) and tree.PRECEDENCE[expr.op] < least else text


def _is_sign(expr: tree.Expr) -> bool:
    return (
        isinstance(expr, tree.BinaryExpr)
        and expr.op == "*"
        and isinstance(expr.left, tree.IntegerLiteral)
        and abs(expr.left.value) == 1
        and isinstance(expr.right, tree.VarRef | tree.Call | tree.ParenExpr)
    )


def _format_var_ref(ref: tree.VarRef) -> str:
    return format_ident(ref.name) + (f"::{ref.cast}" if ref.cast else "")


def _format_call(call: tree.Call, number: FormatNumber) -> str:
    return f"{_call_name(call.name)}({', '.join(format_expr(arg, number) for arg in call.args)})"


_LEAVES: dict[type, Callable[[Any], str]] = {
    tree.VarRef: _format_var_ref,
    tree.IntegerLiteral: lambda e: str(e.value),
    tree.UnsignedLiteral: lambda e: str(e.value),
    tree.StringLiteral: lambda e: format_string(e.value),
    tree.BooleanLiteral: lambda e: "true" if e.value else "false",
    tree.DurationLiteral: lambda e: format_duration(e.ns),
    tree.TimeLiteral: lambda e: format_string(format_rfc3339(e.ns)),
    tree.RegexLiteral: format_regex,
    tree.Wildcard: lambda e: f"*::{e.kind}" if e.kind else "*",
    tree.Distinct: lambda e: f"DISTINCT {format_ident(e.name)}",
}
_NESTED: dict[type, Callable[[Any, FormatNumber], str]] = {
    tree.Call: _format_call,
    tree.ParenExpr: lambda e, number: f"({format_expr(e.expr, number)})",
    tree.BinaryExpr: _format_binary,
}


def _call_name(name: str) -> str:
    # distinct( is the one keyword that may begin a call.
    return name if name == "distinct" else format_ident(name)


# ---------------------------------------------------------------- parts of statements


def format_measurement(source: tree.Measurement) -> str:
    parts = []
    if source.database:
        parts.append(format_ident(source.database))
    if source.policy or source.database:
        parts.append(format_ident(source.policy) if source.policy else "")
    parts.append(format_ident(source.name) if source.regex is None else format_regex(source.regex))
    return ".".join(parts)


def _format_target(target: tree.Measurement) -> str:
    """What follows INTO; without a name it is that of the measurement read, after at least one other part."""
    if target.name or not (target.policy or target.database):
        return format_measurement(target)
    return format_measurement(target).removesuffix('""') + ":MEASUREMENT"


def _format_source(source: tree.Source) -> str:
    if isinstance(source, tree.SubQuery):
        return f"({format_statement(source.select)})"
    return format_measurement(source)


def _sources(sources: Iterable[tree.Source]) -> str:
    text = ", ".join(map(_format_source, sources))
    return f" FROM {text}" if text else ""


def _on(database: str) -> str:
    return f" ON {format_ident(database)}" if database else ""


def _where(condition: tree.Expr | None) -> str:
    return "" if condition is None else f" WHERE {format_expr(condition)}"


def _group(dimensions: tuple[tree.Expr, ...]) -> str:
    return f" GROUP BY {', '.join(map(format_expr, dimensions))}" if dimensions else ""


def _order(descending: bool, ascending: bool = False) -> str:
    return " ORDER BY time DESC" if descending else " ORDER BY time ASC" if ascending else ""


def _limits(limits: tree.Limits) -> str:
    words = (("LIMIT", limits.limit), ("OFFSET", limits.offset), ("SLIMIT", limits.slimit), ("SOFFSET", limits.soffset))
    return "".join(f" {word} {value}" for word, value in words if value)


def _keys(keys: tree.KeySelector | None) -> str:
    if keys is None:
        return ""
    if keys.regex is not None:
        return f" WITH KEY {keys.op} {format_regex(keys.regex)}"
    names = ", ".join(map(format_ident, keys.names))
    return f" WITH KEY IN ({names})" if keys.op == "IN" else f" WITH KEY {keys.op} {names}"


def _format_field(field: tree.Field) -> str:
    return format_expr(field.expr) + (f" AS {format_ident(field.alias)}" if field.alias else "")


def _fill(select: tree.Select) -> str:
    if select.fill is tree.Fill.NULL:
        return ""
    if select.fill is not tree.Fill.NUMBER:
        return f" fill({select.fill.value})"
    value = select.fill_value
    return f" fill({format_number(value) if isinstance(value, float) else value})"


# ---------------------------------------------------------------- statements


def _format_select(select: tree.Select) -> str:
    into = f" INTO {_format_target(select.into)}" if select.into else ""
    return (
        f"SELECT {', '.join(map(_format_field, select.fields))}{into}{_sources(select.sources)}"
        f"{_where(select.condition)}{_group(select.dimensions)}{_fill(select)}"
        f"{_order(select.descending, select.ascending)}{_limits(select.limits)}"
        + (f" tz({format_string(select.zone)})" if select.zone else "")
    )


def _format_explain(explain: tree.Explain) -> str:
    words = (" ANALYZE" if explain.analyze else "") + (" VERBOSE" if explain.verbose else "")
    return f"EXPLAIN{words} {_format_select(explain.select)}"


def _format_show_measurements(show: tree.ShowMeasurements) -> str:
    with_policy = show.every_policy or bool(show.policy)
    # An empty name is written before a policy alone: no name is as good as none.
    on = "*" if show.every_database else format_ident(show.database) if show.database or with_policy else ""
    if with_policy:
        on += "." + ("*" if show.every_policy else format_ident(show.policy))
    source = ""
    if show.source is not None:
        op = "=" if show.source.regex is None else "=~"
        source = f" WITH MEASUREMENT {op} {format_measurement(show.source)}"
    return (
        f"SHOW MEASUREMENTS{f' ON {on}' if on else ''}{source}{_where(show.condition)}{_order(show.descending)}"
        f"{_limits(show.limits)}"
    )


def _format_show_keyed(words: str) -> Callable[[Any], str]:
    def format_show(show: Any) -> str:
        keys = _keys(getattr(show, "keys", None))
        where = _where(getattr(show, "condition", None))
        group = _group(getattr(show, "dimensions", ()))
        order = _order(getattr(show, "descending", False))
        return f"{words}{_on(show.database)}{_sources(show.sources)}{keys}{where}{group}{order}{_limits(show.limits)}"

    return format_show


def _format_cardinality(show: tree.ShowCardinality) -> str:
    exact = " EXACT" if show.exact else ""
    return _format_show_keyed(f"SHOW {show.counted.value}{exact} CARDINALITY")(show)


def _duration(ns: int) -> str:
    return format_duration(ns) if ns else "INF"


def _options(options: tree.PolicyOptions) -> str:
    parts = (
        ("DURATION", options.duration_ns, _duration),
        ("REPLICATION", options.replication, str),
        ("SHARD DURATION", options.shard_ns, format_duration),
        ("FUTURE LIMIT", options.future_limit_ns, _duration),
        ("PAST LIMIT", options.past_limit_ns, _duration),
    )
    return "".join(f" {word} {text(value)}" for word, value, text in parts if value is not None)


def _format_create_database(create: tree.CreateDatabase) -> str:
    text = f"CREATE DATABASE {format_ident(create.name)}"
    if create.options is None:
        return text
    options = _options(create.options)
    # WITH goes before something: an empty name means as much as none.
    name = f" NAME {format_ident(create.policy)}" if create.policy or not options else ""
    return f"{text} WITH{options}{name}"


def _format_policy(word: str) -> Callable[[Any], str]:
    def format_policy(policy: Any) -> str:
        text = f"{word} RETENTION POLICY {format_ident(policy.name)} ON {format_ident(policy.database)}"
        return text + _options(policy.options) + (" DEFAULT" if policy.default else "")

    return format_policy


def _format_continuous_query(create: tree.CreateContinuousQuery) -> str:
    every = f" EVERY {format_duration(create.every_ns)}" if create.every_ns else ""
    for_ = f" FOR {format_duration(create.for_ns)}" if create.for_ns else ""
    resample = f" RESAMPLE{every}{for_}" if every or for_ else ""
    return (
        f"CREATE CONTINUOUS QUERY {format_ident(create.name)} ON {format_ident(create.database)}{resample} "
        f"BEGIN {_format_select(create.select)} END"
    )


def _format_subscription(create: tree.CreateSubscription) -> str:
    where = f"{format_ident(create.database)}.{format_ident(create.policy)}"
    destinations = ", ".join(map(format_string, create.destinations))
    return f"CREATE SUBSCRIPTION {format_ident(create.name)} ON {where} DESTINATIONS {create.mode} {destinations}"


def _word(words: str) -> Callable[[Any], str]:
    return lambda _: words


def _named(words: str) -> Callable[[Any], str]:
    return lambda statement: f"{words} {format_ident(statement.name)}"


def _named_on(words: str) -> Callable[[Any], str]:
    return lambda s: f"{words} {format_ident(s.name)} ON {format_ident(s.database)}"


def _module(words: str) -> Callable[[Any], str]:
    return lambda s: words + (f" FOR {format_string(s.module)}" if s.module else "")


_STATEMENTS: dict[type, Callable[[Any], str]] = {
    tree.Select: _format_select,
    tree.Explain: _format_explain,
    tree.ShowDatabases: _word("SHOW DATABASES"),
    tree.ShowRetentionPolicies: lambda s: f"SHOW RETENTION POLICIES{_on(s.database)}",
    tree.ShowMeasurements: _format_show_measurements,
    tree.ShowTagKeys: _format_show_keyed("SHOW TAG KEYS"),
    tree.ShowTagValues: _format_show_keyed("SHOW TAG VALUES"),
    tree.ShowFieldKeys: _format_show_keyed("SHOW FIELD KEYS"),
    tree.ShowSeries: _format_show_keyed("SHOW SERIES"),
    tree.ShowCardinality: _format_cardinality,
    tree.Delete: lambda s: f"DELETE{_sources(s.sources)}{_where(s.condition)}",
    tree.DropMeasurement: _named("DROP MEASUREMENT"),
    tree.DropSeries: lambda s: f"DROP SERIES{_sources(s.sources)}{_where(s.condition)}",
    tree.CreateDatabase: _format_create_database,
    tree.DropDatabase: _named("DROP DATABASE"),
    tree.CreateRetentionPolicy: _format_policy("CREATE"),
    tree.AlterRetentionPolicy: _format_policy("ALTER"),
    tree.DropRetentionPolicy: _named_on("DROP RETENTION POLICY"),
    tree.DropUser: _named("DROP USER"),
    tree.Grant: lambda s: f"GRANT {s.privilege.value} ON {format_ident(s.database)} TO {format_ident(s.user)}",
    tree.GrantAdmin: lambda s: f"GRANT ALL PRIVILEGES TO {format_ident(s.user)}",
    tree.Revoke: lambda s: f"REVOKE {s.privilege.value} ON {format_ident(s.database)} FROM {format_ident(s.user)}",
    tree.RevokeAdmin: lambda s: f"REVOKE ALL PRIVILEGES FROM {format_ident(s.user)}",
    tree.ShowUsers: _word("SHOW USERS"),
    tree.ShowGrants: lambda s: f"SHOW GRANTS FOR {format_ident(s.user)}",
    tree.ShowQueries: _word("SHOW QUERIES"),
    tree.KillQuery: lambda s: f"KILL QUERY {s.query}{_on(s.host)}",
    tree.CreateContinuousQuery: _format_continuous_query,
    tree.DropContinuousQuery: _named_on("DROP CONTINUOUS QUERY"),
    tree.ShowContinuousQueries: _word("SHOW CONTINUOUS QUERIES"),
    tree.CreateSubscription: _format_subscription,
    tree.DropSubscription: lambda s: f"{_named_on('DROP SUBSCRIPTION')(s)}.{format_ident(s.policy)}",
    tree.ShowSubscriptions: _word("SHOW SUBSCRIPTIONS"),
    tree.ShowShards: _word("SHOW SHARDS"),
    tree.ShowShardGroups: _word("SHOW SHARD GROUPS"),
    tree.DropShard: lambda s: f"DROP SHARD {s.shard}",
    tree.ShowStats: _module("SHOW STATS"),
    tree.ShowDiagnostics: _module("SHOW DIAGNOSTICS"),
}


def format_statement(statement: tree.Statement, *, secrets: bool = False) -> str:
    """*statement* as text.

    Args:
        secrets: print passwords too; only for tests and for sending a statement on.
    """
    if isinstance(statement, tree.CreateUser | tree.SetPassword):
        password = format_string(statement.password) if secrets else "[REDACTED]"
        name = format_ident(statement.name)
        if isinstance(statement, tree.SetPassword):
            return f"SET PASSWORD FOR {name} = {password}"
        return f"CREATE USER {name} WITH PASSWORD {password}" + (" WITH ALL PRIVILEGES" if statement.admin else "")
    return _STATEMENTS[type(statement)](statement)
