"""Statements of 1.x administration · pure.

They all parse, whatever is done with them later. Each production stands above its function. Source: InfluxQL
reference of InfluxDB 1.x; spec/influxql.md, 4.
"""

from __future__ import annotations

from typing import Any

from common.times import format_duration
from services.query.influxql import tree
from services.query.influxql.expressions import ExpressionParser
from services.query.influxql.tokens import ParseError

_MAX_INT32 = (1 << 31) - 1
_MAX_UINT64 = (1 << 64) - 1


# "CREATE" "DATABASE" ident ["WITH" ["DURATION" d] ["REPLICATION" n] ["SHARD" "DURATION" d]
#                            ["FUTURE" "LIMIT" d] ["PAST" "LIMIT" d] ["NAME" ident]]
def create_database(parser: ExpressionParser) -> tree.CreateDatabase:
    tokens = parser.tokens
    name = parser.ident()
    if not tokens.accept("WITH"):
        return tree.CreateDatabase(name)
    token = tokens.peek()
    if token.kind not in ("DURATION", "NAME", "REPLICATION", "SHARD", "FUTURE", "PAST"):
        raise tokens.unexpected(token, "DURATION", "NAME", "REPLICATION", "SHARD")
    options = tree.PolicyOptions(
        parser.duration() if tokens.accept("DURATION") else None,
        parser.integer(1, _MAX_INT32) if tokens.accept("REPLICATION") else None,
        _shard_duration(parser),
        _limit(parser, "FUTURE"),
        _limit(parser, "PAST"),
    )
    return tree.CreateDatabase(name, options, parser.ident() if tokens.accept("NAME") else "")


def _shard_duration(parser: ExpressionParser) -> int | None:
    if not parser.tokens.accept("SHARD"):
        return None
    parser.words("DURATION")
    token = parser.tokens.peek()
    if token.kind == "INF":
        raise parser.tokens.error_at(token, "invalid duration INF for shard duration")
    return parser.duration()


def _limit(parser: ExpressionParser, word: str) -> int | None:
    if not parser.tokens.accept(word):
        return None
    parser.words("LIMIT")
    return parser.duration()


# "CREATE" "RETENTION" "POLICY" ident "ON" ident "DURATION" d "REPLICATION" n ["SHARD" "DURATION" d]
# ["FUTURE" "LIMIT" d] ["PAST" "LIMIT" d] ["DEFAULT"]
def create_retention_policy(parser: ExpressionParser) -> tree.CreateRetentionPolicy:
    name, database = _name_on(parser)
    parser.words("DURATION")
    duration = parser.duration()
    parser.words("REPLICATION")
    replication = parser.integer(1, _MAX_INT32)
    options = tree.PolicyOptions(
        duration, replication, _shard_duration(parser), _limit(parser, "FUTURE"), _limit(parser, "PAST")
    )
    return tree.CreateRetentionPolicy(name, database, options, parser.tokens.accept("DEFAULT") is not None)


# "ALTER" "RETENTION" "POLICY" ident "ON" ident, then the options in any order, each once, at least one
def alter_retention_policy(parser: ExpressionParser) -> tree.AlterRetentionPolicy:
    name, database = _name_on(parser)
    tokens = parser.tokens
    found: dict[str, int | None] = {}
    while tokens.peek().kind in ("DURATION", "REPLICATION", "SHARD", "FUTURE", "PAST", "DEFAULT"):
        token = tokens.peek()
        if token.kind in found:
            raise tokens.error_at(token, f"found duplicate {token.kind} option")
        found[token.kind] = _option(parser, token.kind)
    if not found:
        raise tokens.unexpected(tokens.peek(), "DURATION", "REPLICATION", "SHARD", "DEFAULT")
    options = tree.PolicyOptions(*(found.get(w) for w in ("DURATION", "REPLICATION", "SHARD", "FUTURE", "PAST")))
    return tree.AlterRetentionPolicy(name, database, options, "DEFAULT" in found)


def _option(parser: ExpressionParser, word: str) -> int | None:
    if word == "SHARD":
        return _shard_duration(parser)
    if word in ("FUTURE", "PAST"):
        return _limit(parser, word)
    parser.tokens.take()
    if word == "DEFAULT":
        return None
    return parser.duration() if word == "DURATION" else parser.integer(1, _MAX_INT32)


def drop_retention_policy(parser: ExpressionParser) -> tree.DropRetentionPolicy:
    return tree.DropRetentionPolicy(*_name_on(parser))


def _name_on(parser: ExpressionParser) -> tuple[str, str]:
    name = parser.ident()
    parser.words("ON")
    return name, parser.ident()


# "CREATE" "USER" ident "WITH" "PASSWORD" string ["WITH" "ALL" ["PRIVILEGES"]]
def create_user(parser: ExpressionParser) -> tree.CreateUser:
    name = parser.ident()
    parser.words("WITH", "PASSWORD")
    password = parser.string()
    if not parser.tokens.accept("WITH"):
        return tree.CreateUser(name, password)
    parser.words("ALL")
    parser.tokens.accept("PRIVILEGES")
    return tree.CreateUser(name, password, admin=True)


# "SET" "PASSWORD" "FOR" ident "=" string
def set_password(parser: ExpressionParser) -> tree.SetPassword:
    name = parser.ident()
    parser.words("=")
    return tree.SetPassword(name, parser.string())


# "GRANT" privilege ( "ON" ident "TO" ident | "TO" ident );  the second form only with ALL
def grant(parser: ExpressionParser) -> tree.Statement:
    privilege, database, user = _privilege_for(parser, "TO")
    return tree.GrantAdmin(user) if database is None else tree.Grant(privilege, database, user)


# "REVOKE" privilege ( "ON" ident "FROM" ident | "FROM" ident );  the second form only with ALL
def revoke(parser: ExpressionParser) -> tree.Statement:
    privilege, database, user = _privilege_for(parser, "FROM")
    return tree.RevokeAdmin(user) if database is None else tree.Revoke(privilege, database, user)


def _privilege_for(parser: ExpressionParser, before_user: str) -> tuple[tree.Privilege, str | None, str]:
    tokens = parser.tokens
    token = tokens.take()
    if token.kind not in ("READ", "WRITE", "ALL"):
        raise tokens.unexpected(token, "READ", "WRITE", "ALL [PRIVILEGES]")
    if token.kind == "ALL":
        tokens.accept("PRIVILEGES")
    privilege = tree.Privilege.ALL if token.kind == "ALL" else tree.Privilege(token.kind)
    after = tokens.take()
    if after.kind == "ON":
        database = parser.ident()
        parser.words(before_user)
        return privilege, database, parser.ident()
    if privilege is not tree.Privilege.ALL:
        raise tokens.unexpected(after, "ON")
    if after.kind != before_user:
        raise tokens.unexpected(after, "ON", before_user)
    return privilege, None, parser.ident()


# "KILL" "QUERY" integer ["ON" ident]
def kill_query(parser: ExpressionParser) -> tree.KillQuery:
    return tree.KillQuery(parser.integer(0, _MAX_UINT64), parser.optional_on())


# "DROP" "SHARD" integer
def drop_shard(parser: ExpressionParser) -> tree.DropShard:
    return tree.DropShard(parser.integer(0, _MAX_UINT64))


# "CREATE" "CONTINUOUS" "QUERY" ident "ON" ident ["RESAMPLE" ["EVERY" d] ["FOR" d]] "BEGIN" select_into "END"
def create_continuous_query(parser: Any) -> tree.CreateContinuousQuery:
    name, database = _name_on(parser)
    tokens = parser.tokens
    every = for_ = 0
    if tokens.accept("RESAMPLE"):
        token = tokens.peek()
        if token.kind not in ("EVERY", "FOR"):
            raise tokens.unexpected(token, "EVERY", "FOR")
        every = parser.duration() if tokens.accept("EVERY") else 0
        for_ = parser.duration() if tokens.accept("FOR") else 0
    parser.words("BEGIN", "SELECT")
    select: tree.Select = parser.select(into_required=True)
    interval = group_by_interval(select)
    if not interval and any(isinstance(n, tree.Call) for f in select.fields for n in tree.walk(f.expr)):
        raise tokens.unexpected(tokens.peek(), "GROUP BY time(...)")
    parser.words("END")
    if for_ and for_ < max(interval, every):
        least, given = format_duration(max(interval, every)), format_duration(for_)
        raise ParseError(f"FOR duration must be >= GROUP BY time duration: must be a minimum of {least}, got {given}")
    return tree.CreateContinuousQuery(name, database, select, every, for_)


def group_by_interval(select: tree.Select) -> int:
    """Width of the windows of GROUP BY time(), in ns; 0 without one."""
    for dimension in select.dimensions:
        if isinstance(dimension, tree.Call) and dimension.name == "time" and dimension.args:
            width = dimension.args[0]
            return width.ns if isinstance(width, tree.DurationLiteral) else 0
    return 0


def drop_continuous_query(parser: ExpressionParser) -> tree.DropContinuousQuery:
    return tree.DropContinuousQuery(*_name_on(parser))


# "CREATE" "SUBSCRIPTION" ident "ON" ident "." ident "DESTINATIONS" ("ALL" | "ANY") string { "," string }
def create_subscription(parser: ExpressionParser) -> tree.CreateSubscription:
    name, database, policy = _name_on_policy(parser)
    parser.words("DESTINATIONS")
    token = parser.tokens.take()
    if token.kind not in ("ALL", "ANY"):
        raise parser.tokens.unexpected(token, "ALL", "ANY")
    destinations = [parser.string()]
    while parser.tokens.accept(","):
        destinations.append(parser.string())
    return tree.CreateSubscription(name, database, policy, token.kind, tuple(destinations))


# "DROP" "SUBSCRIPTION" ident "ON" ident "." ident
def drop_subscription(parser: ExpressionParser) -> tree.DropSubscription:
    return tree.DropSubscription(*_name_on_policy(parser))


def _name_on_policy(parser: ExpressionParser) -> tuple[str, str, str]:
    name, database = _name_on(parser)
    parser.words(".")
    return name, database, parser.ident()


# The keywords after CREATE, in the order in which errors list them.
CREATE: dict[str, Any] = {
    "CONTINUOUS": {"QUERY": create_continuous_query},
    "DATABASE": create_database,
    "USER": create_user,
    "RETENTION": {"POLICY": create_retention_policy},
    "SUBSCRIPTION": create_subscription,
}
