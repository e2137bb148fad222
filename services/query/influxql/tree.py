"""The tree of InfluxQL: every statement and expression of the language as frozen values · pure.

Knows nothing of text (``parser.py``, ``format.py``) nor of meaning (``plan``). Expression classes carry the names of
InfluxDB's own, because its error texts show them (``got *influxql.NumberLiteral``): ``go_type_name``.
Bound parameters are replaced while parsing, so none stands in a tree. Source: spec/influxql.md, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

# Operators by level, tightest 5; all associate to the left.
PRECEDENCE: dict[str, int] = {
    "OR": 1, "AND": 2,
    "=": 3, "!=": 3, "=~": 3, "!~": 3, "<": 3, "<=": 3, ">": 3, ">=": 3,
    "+": 4, "-": 4, "|": 4, "^": 4,
    "*": 5, "/": 5, "%": 5, "&": 5,
}  # fmt: skip
COMPARISONS = frozenset(op for op, level in PRECEDENCE.items() if level == 3)
REGEX_OPERATORS = frozenset(("=~", "!~"))
# What may follow ``::`` after a name; the last two choose the kind, the others the type.
CASTS = ("float", "integer", "unsigned", "string", "boolean", "field", "tag")


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class VarRef:
    """A name, perhaps cast: ``cast`` is one of ``CASTS`` or None. Dots of a dotted name are part of ``name``."""

    name: str
    cast: str | None = None


@dataclass(frozen=True, slots=True)
class IntegerLiteral:
    value: int  # fits int64


@dataclass(frozen=True, slots=True)
class UnsignedLiteral:
    value: int  # above int64, fits uint64


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    value: float


@dataclass(frozen=True, slots=True)
class StringLiteral:
    value: str


@dataclass(frozen=True, slots=True)
class BooleanLiteral:
    value: bool


@dataclass(frozen=True, slots=True)
class DurationLiteral:
    ns: int


@dataclass(frozen=True, slots=True)
class TimeLiteral:
    """A moment; never parsed (a time is a string until compared with ``time``), only made by planning."""

    ns: int


@dataclass(frozen=True, slots=True)
class RegexLiteral:
    """A pattern in RE2's dialect, already found to compile; ``\\/`` has become ``/``."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``*``; ``kind`` is ``field``, ``tag`` or None for both."""

    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Distinct:
    """``DISTINCT name`` without parentheses."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    name: str  # lower case
    args: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class ParenExpr:
    expr: Expr


@dataclass(frozen=True, slots=True)
class BinaryExpr:
    """``left op right``. A sign before a name, call or parenthesis is ``±1 * …``."""

    op: str  # a key of PRECEDENCE
    left: Expr
    right: Expr


Literal = (
    IntegerLiteral
    | UnsignedLiteral
    | NumberLiteral
    | StringLiteral
    | BooleanLiteral
    | DurationLiteral
    | TimeLiteral
    | RegexLiteral
)
Expr = Literal | VarRef | Wildcard | Distinct | Call | ParenExpr | BinaryExpr


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside *expr*, left to right."""
    if isinstance(expr, BinaryExpr):
        return (expr.left, expr.right)
    if isinstance(expr, ParenExpr):
        return (expr.expr,)
    if isinstance(expr, Call):
        return expr.args
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """*expr* and everything inside it, parents first, left to right; needs no recursion."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


def go_type_name(expr: Expr) -> str:
    """The type as InfluxDB's texts name it, e.g. ``*influxql.NumberLiteral``."""
    return f"*influxql.{type(expr).__name__}"


# ---------------------------------------------------------------- parts of statements


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a SELECT; ``alias`` "" = none given."""

    expr: Expr
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """``db.rp.name`` or ``db.rp./regex/``; absent parts are ""; either ``name`` or ``regex`` is given."""

    name: str = ""
    policy: str = ""
    database: str = ""
    regex: RegexLiteral | None = None


@dataclass(frozen=True, slots=True)
class SubQuery:
    select: Select


Source = Measurement | SubQuery


class Fill(Enum):
    """What stands in windows without a value. ``fill(null)`` and no fill at all are the same."""

    NULL = "null"
    NONE = "none"
    PREVIOUS = "previous"
    LINEAR = "linear"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Limits:
    """0 = not given."""

    limit: int = 0
    offset: int = 0
    slimit: int = 0
    soffset: int = 0


@dataclass(frozen=True, slots=True)
class KeySelector:
    """What follows WITH KEY: ``op`` is ``=``, ``!=``, ``=~``, ``!~`` or ``IN``."""

    op: str
    names: tuple[str, ...] = ()
    regex: RegexLiteral | None = None


# ---------------------------------------------------------------- statements that read


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT.

    Attributes:
        dimensions: of GROUP BY, as written: VarRef, ``Call("time", …)``, Wildcard, RegexLiteral, or something wrong.
        fill_value: only with ``Fill.NUMBER``.
        descending: ORDER BY time DESC.
        zone: name given in tz(), known to exist; None = UTC.
        into: target of INTO, None = none.
        ascending: ORDER BY time ASC: what a subquery may not say inside a query that runs backward.
    """

    fields: tuple[Field, ...]
    sources: tuple[Source, ...]
    condition: Expr | None = None
    dimensions: tuple[Expr, ...] = ()
    fill: Fill = Fill.NULL
    fill_value: int | float | None = None
    descending: bool = False
    limits: Limits = Limits()
    zone: str | None = None
    into: Measurement | None = None
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class Explain:
    select: Select
    analyze: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class ShowDatabases:
    pass


@dataclass(frozen=True, slots=True)
class ShowRetentionPolicies:
    database: str = ""


@dataclass(frozen=True, slots=True)
class ShowMeasurements:
    """``ON database[.policy]``: "" = not given, ``*`` from an asterisk is the flag, not the name."""

    database: str = ""
    policy: str = ""
    every_database: bool = False
    every_policy: bool = False
    source: Measurement | None = None
    condition: Expr | None = None
    descending: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class ShowTagKeys:
    database: str = ""
    sources: tuple[Measurement, ...] = ()
    keys: KeySelector | None = None
    condition: Expr | None = None
    descending: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class ShowTagValues:
    keys: KeySelector
    database: str = ""
    sources: tuple[Measurement, ...] = ()
    condition: Expr | None = None
    descending: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class ShowFieldKeys:
    database: str = ""
    sources: tuple[Measurement, ...] = ()
    descending: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class ShowSeries:
    database: str = ""
    sources: tuple[Measurement, ...] = ()
    condition: Expr | None = None
    descending: bool = False
    limits: Limits = Limits()


class Counted(Enum):
    """What a SHOW … CARDINALITY counts, as the words of the statement."""

    SERIES = "SERIES"
    MEASUREMENT = "MEASUREMENT"
    TAG_KEY = "TAG KEY"
    TAG_VALUES = "TAG VALUES"
    FIELD_KEY = "FIELD KEY"


@dataclass(frozen=True, slots=True)
class ShowCardinality:
    """``keys`` only, and always, with ``Counted.TAG_VALUES``."""

    counted: Counted
    exact: bool = False
    database: str = ""
    sources: tuple[Measurement, ...] = ()
    keys: KeySelector | None = None
    condition: Expr | None = None
    dimensions: tuple[Expr, ...] = ()
    limits: Limits = Limits()


# ---------------------------------------------------------------- statements that change points


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE; no sources = every measurement."""

    sources: tuple[Measurement, ...] = ()
    condition: Expr | None = None


@dataclass(frozen=True, slots=True)
class DropMeasurement:
    name: str


@dataclass(frozen=True, slots=True)
class DropSeries:
    sources: tuple[Measurement, ...] = ()
    condition: Expr | None = None


# ---------------------------------------------------------------- 1.x administration


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What CREATE and ALTER may say of a policy; None = not given, ``duration_ns`` 0 = INF."""

    duration_ns: int | None = None
    replication: int | None = None
    shard_ns: int | None = None
    future_limit_ns: int | None = None
    past_limit_ns: int | None = None


@dataclass(frozen=True, slots=True)
class CreateDatabase:
    """``policy`` "" = not named; ``options`` None = no WITH."""

    name: str
    options: PolicyOptions | None = None
    policy: str = ""


@dataclass(frozen=True, slots=True)
class DropDatabase:
    name: str


@dataclass(frozen=True, slots=True)
class CreateRetentionPolicy:
    name: str
    database: str
    options: PolicyOptions
    default: bool = False


@dataclass(frozen=True, slots=True)
class AlterRetentionPolicy:
    name: str
    database: str
    options: PolicyOptions
    default: bool = False


@dataclass(frozen=True, slots=True)
class DropRetentionPolicy:
    name: str
    database: str


@dataclass(frozen=True, slots=True, repr=False)
class CreateUser:
    """Has no repr: it holds a password."""

    name: str
    password: str
    admin: bool = False


@dataclass(frozen=True, slots=True)
class DropUser:
    name: str


@dataclass(frozen=True, slots=True, repr=False)
class SetPassword:
    """Has no repr: it holds a password."""

    name: str
    password: str


class Privilege(Enum):
    READ = "READ"
    WRITE = "WRITE"
    ALL = "ALL PRIVILEGES"


@dataclass(frozen=True, slots=True)
class Grant:
    privilege: Privilege
    database: str
    user: str


@dataclass(frozen=True, slots=True)
class GrantAdmin:
    user: str


@dataclass(frozen=True, slots=True)
class Revoke:
    privilege: Privilege
    database: str
    user: str


@dataclass(frozen=True, slots=True)
class RevokeAdmin:
    user: str


@dataclass(frozen=True, slots=True)
class ShowUsers:
    pass


@dataclass(frozen=True, slots=True)
class ShowGrants:
    user: str


@dataclass(frozen=True, slots=True)
class ShowQueries:
    pass


@dataclass(frozen=True, slots=True)
class KillQuery:
    query: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class CreateContinuousQuery:
    """``every_ns`` and ``for_ns`` 0 = not given."""

    name: str
    database: str
    select: Select
    every_ns: int = 0
    for_ns: int = 0


@dataclass(frozen=True, slots=True)
class DropContinuousQuery:
    name: str
    database: str


@dataclass(frozen=True, slots=True)
class ShowContinuousQueries:
    pass


@dataclass(frozen=True, slots=True)
class CreateSubscription:
    """``mode`` is ALL or ANY."""

    name: str
    database: str
    policy: str
    mode: str
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropSubscription:
    name: str
    database: str
    policy: str


@dataclass(frozen=True, slots=True)
class ShowSubscriptions:
    pass


@dataclass(frozen=True, slots=True)
class ShowShards:
    pass


@dataclass(frozen=True, slots=True)
class ShowShardGroups:
    pass


@dataclass(frozen=True, slots=True)
class DropShard:
    shard: int


@dataclass(frozen=True, slots=True)
class ShowStats:
    module: str = ""


@dataclass(frozen=True, slots=True)
class ShowDiagnostics:
    module: str = ""


ReadStatement = (
    Select
    | Explain
    | ShowDatabases
    | ShowRetentionPolicies
    | ShowMeasurements
    | ShowTagKeys
    | ShowTagValues
    | ShowFieldKeys
    | ShowSeries
    | ShowCardinality
)
ChangeStatement = Delete | DropMeasurement | DropSeries
AdminStatement = (
    CreateDatabase
    | DropDatabase
    | CreateRetentionPolicy
    | AlterRetentionPolicy
    | DropRetentionPolicy
    | CreateUser
    | DropUser
    | SetPassword
    | Grant
    | GrantAdmin
    | Revoke
    | RevokeAdmin
    | ShowUsers
    | ShowGrants
    | ShowQueries
    | KillQuery
    | CreateContinuousQuery
    | DropContinuousQuery
    | ShowContinuousQueries
    | CreateSubscription
    | DropSubscription
    | ShowSubscriptions
    | ShowShards
    | ShowShardGroups
    | DropShard
    | ShowStats
    | ShowDiagnostics
)
Statement = ReadStatement | ChangeStatement | AdminStatement
