"""InfluxQL text → statements · pure.

The dispatch is a tree of keywords, tried in the order that InfluxDB lists them in its errors. SELECT and what changes
points are here; SHOW is ``parse_show.py``, 1.x administration ``parse_admin.py``. Source: spec/influxql.md, 3 and 15.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from services.query.influxql import parse_admin, parse_show, tree
from services.query.influxql.expressions import ExpressionParser, check_depth
from services.query.influxql.tokens import Bound, ParseError, Tokens, count_operators

# Statements in one text: a bound on what a request can ask for.
MAX_STATEMENTS = 1_000
# Operators and commas in one text, about as many as nodes of its trees: each costs some 20 us until it is worked out.
MAX_OPERATORS = 50_000


def parse(text: str, bound: Mapping[str, Bound] | None = None) -> tuple[tree.Statement, ...]:
    """Read the statements of *text*; empty ones between ``;`` do not count.

    Args:
        bound: values of ``$name`` (``bind.py``).

    Raises:
        ParseError: with InfluxDB's text and position, without ``failed to parse query: ``.
    """
    if count_operators(text, MAX_OPERATORS) > MAX_OPERATORS:
        raise ParseError(f"more than {MAX_OPERATORS} operators and commas in one query")
    parser = StatementParser(Tokens(text, bound))
    statements: list[tree.Statement] = []
    separated = True
    while True:
        token = parser.tokens.peek()
        if token.kind == "EOF":
            return tuple(statements)
        if token.kind == ";":
            parser.tokens.take()
            separated = True
            continue
        if not separated:
            raise parser.tokens.unexpected(token, ";")
        if len(statements) >= MAX_STATEMENTS:
            raise ParseError(f"more than {MAX_STATEMENTS} statements in one query")
        statements.append(parser.statement())
        separated = False


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def find_zone(name: str) -> str | None:
    """The IANA name that tz() means: as given, ``UTC`` for "", None when there is no such zone."""
    if name in ("", "UTC", "Local"):
        return "UTC"
    return name if name in _zone_names() and ZoneInfo(name) else None


class StatementParser(ExpressionParser):
    """Reads whole statements."""

    def statement(self) -> tree.Statement:
        level: Branch = LANGUAGE
        while True:
            token = self.tokens.take()
            below = level.get(token.kind)
            if below is None:
                raise self.tokens.unexpected(token, *level)
            if callable(below):
                return below(self)
            level = below

    # select = "SELECT" fields [into] from [where] [group] [fill] [order] [limits] [tz]
    def select(self, *, into: bool = True, into_required: bool = False) -> tree.Select:
        fields = self.fields()
        target = self.target(required=into_required) if into else None
        self.words("FROM")
        sources = self.sources()
        condition = self.condition()
        dimensions = self.dimensions()
        fill, fill_value = self.fill()
        direction = self.direction()
        select = tree.Select(
            fields, sources, condition, dimensions, fill, fill_value, direction == "DESC", self.limits(series=True),
            self.zone(), target, direction == "ASC",
        )  # fmt: skip
        for expr in (*(field.expr for field in fields), *dimensions, *([] if condition is None else [condition])):
            check_depth(expr)
        return select

    # fields = field { "," field }
    def fields(self) -> tuple[tree.Field, ...]:
        fields = [self.field()]
        while self.tokens.accept(","):
            fields.append(self.field())
        return tuple(fields)

    # field = expr [ "AS" ident ]
    def field(self) -> tree.Field:
        expr: tree.Expr | None = self.regex()
        if expr is None:
            first = self.tokens.peek()
            expr = self.expr()
            for node in tree.walk(expr):
                if isinstance(node, tree.BinaryExpr) and tree.PRECEDENCE[node.op] <= 3:
                    place = str(self.tokens.error_at(first, f"invalid operator {node.op} in SELECT clause"))
                    raise ParseError(f"{place}; operator is intended for WHERE clause")
        return tree.Field(expr, self.ident() if self.tokens.accept("AS") else "")

    # into = "INTO" ( measurement | ident ["." [ident]] ["."] ":MEASUREMENT" )
    def target(self, *, required: bool) -> tree.Measurement | None:
        if not required and self.tokens.peek().kind != "INTO":
            return None
        self.words("INTO")
        segments, _ = self.segments()
        if len(segments) < 3 and self.tokens.accept(":"):
            self.words("MEASUREMENT")
            segments.append("")
        name, policy, database = (*reversed(segments), "", "")[:3]
        return tree.Measurement(name, policy, database)

    def sources(self) -> tuple[tree.Source, ...]:
        sources = [self.source()]
        while self.tokens.accept(","):
            sources.append(self.source())
        return tuple(sources)

    # source = measurement | "(" select ")"
    def source(self) -> tree.Source:
        if self.tokens.peek().kind != "(":
            return self.measurement()
        self.words("(", "SELECT")
        with self.nesting:
            select = self.select(into=False)
        self.words(")")
        return tree.SubQuery(select)

    # fill = "fill" "(" ( "null" | "none" | "previous" | "linear" | number ) ")"
    def fill(self) -> tuple[tree.Fill, int | float | None]:
        call = self._call_named("fill", "fill must be a function call")
        if call is None:
            return tree.Fill.NULL, None
        if len(call.args) != 1:
            raise ParseError("fill requires an argument, e.g.: 0, null, none, previous, linear")
        option = call.args[0]
        if isinstance(option, tree.VarRef) and option.name in _FILLS:
            return _FILLS[option.name], None
        if isinstance(option, tree.IntegerLiteral | tree.NumberLiteral):
            return tree.Fill.NUMBER, option.value
        raise ParseError("expected number argument in fill()")

    # tz = "tz" "(" string ")"
    def zone(self) -> str | None:
        call = self._call_named("tz", "tz must be a function call")
        if call is None:
            return None
        if len(call.args) != 1:
            raise ParseError("tz requires exactly one argument")
        name = call.args[0]
        if not isinstance(name, tree.StringLiteral):
            raise ParseError("expected string argument in tz()")
        zone = find_zone(name.value)
        if zone is None:
            raise ParseError(f"unable to find time zone {name.value}")
        return zone

    def _call_named(self, name: str, otherwise: str) -> tree.Call | None:
        token = self.tokens.peek()
        if token.kind != "IDENT" or token.text.lower() != name:
            return None
        expr = self.expr()
        if not isinstance(expr, tree.Call):
            raise ParseError(otherwise)
        return expr


_FILLS = {fill.value: fill for fill in tree.Fill if fill is not tree.Fill.NUMBER}


# explain = "EXPLAIN" ["ANALYZE"] ["VERBOSE"] select
def explain(parser: StatementParser) -> tree.Explain:
    analyze = parser.tokens.accept("ANALYZE") is not None
    verbose = parser.tokens.accept("VERBOSE") is not None
    parser.words("SELECT")
    return tree.Explain(parser.select(), analyze, verbose)


# delete = "DELETE" ( from [where] | where )
def delete(parser: StatementParser) -> tree.Delete:
    sources, condition = _what_to_remove(parser, policies=True)
    return tree.Delete(sources, condition)


# drop_s = "DROP" "SERIES" ( from [where] | where )
def drop_series(parser: StatementParser) -> tree.DropSeries:
    sources, condition = _what_to_remove(parser, policies=False)
    return tree.DropSeries(sources, condition)


def _what_to_remove(
    parser: StatementParser, *, policies: bool
) -> tuple[tuple[tree.Measurement, ...], tree.Expr | None]:
    first = parser.tokens.peek()
    sources = parser.optional_from()
    for source in sources:
        # These two have no place of their own there: line 1, char 1.
        if source.database:
            raise ParseError("database not supported at line 1, char 1")
        if source.policy and not policies:
            raise ParseError("retention policy not supported at line 1, char 1")
    condition = parser.condition()
    if not sources and condition is None:
        raise parser.tokens.unexpected(first, "FROM", "WHERE")
    if condition is not None:
        check_depth(condition)
    return sources, condition


Handler = Callable[[StatementParser], tree.Statement]
Branch = Mapping[str, "Handler | Branch"]

# In the order in which errors list what was expected.
LANGUAGE: Branch = {
    "SELECT": lambda parser: parser.select(),
    "DELETE": delete,
    "SHOW": parse_show.SHOW,
    "CREATE": parse_admin.CREATE,
    "DROP": {
        "CONTINUOUS": {"QUERY": parse_admin.drop_continuous_query},
        "DATABASE": lambda parser: tree.DropDatabase(parser.ident()),
        "MEASUREMENT": lambda parser: tree.DropMeasurement(parser.ident()),
        "RETENTION": {"POLICY": parse_admin.drop_retention_policy},
        "SERIES": drop_series,
        "SHARD": parse_admin.drop_shard,
        "SUBSCRIPTION": parse_admin.drop_subscription,
        "USER": lambda parser: tree.DropUser(parser.ident()),
    },
    "EXPLAIN": explain,
    "GRANT": parse_admin.grant,
    "REVOKE": parse_admin.revoke,
    "ALTER": {"RETENTION": {"POLICY": parse_admin.alter_retention_policy}},
    "SET": {"PASSWORD": {"FOR": parse_admin.set_password}},
    "KILL": {"QUERY": parse_admin.kill_query},
}
