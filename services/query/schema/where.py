"""WHERE of SHOW statements: which series of a measurement, and which time range · pure.

A tag that is missing is the empty string. Time comparisons are taken out and intersected; they choose whole shards
only. Source: spec/influxql.md, 6 and 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from common.errors import Invalid
from common.model import MAX_TIME_NS, MIN_TIME_NS
from services.query.engine.frame import SeriesTable
from services.query.influxql import tree
from services.query.influxql.format import describe_expr
from services.query.influxql.pattern import compile_pattern
from services.query.planning.times import split_time

Mask = NDArray[np.bool_]
# A name that stands for the measurement.
MEASUREMENT_NAME = "_name"
_TAG_OPERATORS = frozenset(("=", "!=", "=~", "!~"))


class Dialect(Enum):
    """Which refusal an operator other than those of tags gets."""

    SERIES = "series"
    METAQUERY = "metaquery"


@dataclass(frozen=True, slots=True)
class ShowCondition:
    """A WHERE taken apart.

    Attributes:
        tags: what is asked of tags; None = nothing.
        start_ns, stop_ns: half open; all of time without a comparison.
    """

    tags: tree.Expr | None
    start_ns: int = MIN_TIME_NS
    stop_ns: int = MAX_TIME_NS + 1


def split_condition(condition: tree.Expr | None, now_ns: int, dialect: Dialect) -> ShowCondition:
    """Part *condition* into tags and time.

    Raises:
        Invalid: a comparison that no tag knows, or a time that is none, with InfluxDB's text.
    """
    tags, first_ns, last_ns = split_time(condition, now_ns, None)
    if tags is not None:
        _check(tags, dialect)
    start = MIN_TIME_NS if first_ns is None else first_ns
    return ShowCondition(tags, start, (MAX_TIME_NS if last_ns is None else last_ns) + 1)


def checked_tags(tags: tree.Expr) -> None:
    """Raises Invalid unless *tags* is made of comparisons that tags know."""
    _check(tags, Dialect.SERIES)


def _check(expr: tree.Expr, dialect: Dialect) -> None:
    if isinstance(expr, tree.ParenExpr):
        return _check(expr.expr, dialect)
    if isinstance(expr, tree.BinaryExpr) and expr.op in ("AND", "OR"):
        _check(expr.left, dialect)
        return _check(expr.right, dialect)
    if isinstance(expr, tree.BooleanLiteral):
        return None
    if isinstance(expr, tree.BinaryExpr) and expr.op in _TAG_OPERATORS and _tag_and_value(expr) is not None:
        return None
    if dialect is Dialect.METAQUERY:
        raise Invalid(f"expression too complex for metaquery: {describe_expr(expr)}")
    raise Invalid("invalid tag comparison operator")


def _tag_and_value(expr: tree.BinaryExpr) -> tuple[str, tree.Expr] | None:
    if isinstance(expr.left, tree.VarRef):
        return expr.left.name, expr.right
    if isinstance(expr.right, tree.VarRef):
        return expr.right.name, expr.left
    return None


def series_mask(table: SeriesTable, measurement: str, tags: tree.Expr | None) -> Mask | None:
    """The series of *table* that a checked condition on tags keeps; None = all of them."""
    return None if tags is None else _mask(table, measurement, tags)


def _mask(table: SeriesTable, measurement: str, expr: tree.Expr) -> Mask:
    if isinstance(expr, tree.ParenExpr):
        return _mask(table, measurement, expr.expr)
    if isinstance(expr, tree.BooleanLiteral):
        return np.full(table.count, expr.value)
    assert isinstance(expr, tree.BinaryExpr)
    if expr.op in ("AND", "OR"):
        left, right = _mask(table, measurement, expr.left), _mask(table, measurement, expr.right)
        return left & right if expr.op == "AND" else left | right
    found = _tag_and_value(expr)
    assert found is not None
    name, value = found
    if isinstance(value, tree.VarRef):
        other = table.values(value.name)
        return np.asarray((table.values(name) == other) == (expr.op == "="), dtype=bool)
    matches = value_matcher(expr.op, value)
    if name == MEASUREMENT_NAME and name not in table.codes:
        return np.full(table.count, matches(measurement))
    codes = table.codes.get(name)
    if codes is None:
        return np.full(table.count, matches(""))
    words = np.fromiter((matches(word) for word in table.words[name]), dtype=bool, count=len(table.words[name]))
    return words[codes]


def value_matcher(op: str, value: tree.Expr) -> Callable[[str], bool]:
    """Whether the value of a tag compares so with *value*; *op* is ``=``, ``!=``, ``=~`` or ``!~``."""
    if isinstance(value, tree.RegexLiteral):
        pattern = compile_pattern(value)
        wanted = op == "=~"
        return lambda word: (pattern(word)) is wanted
    if isinstance(value, tree.StringLiteral):
        text = value.value
        return (lambda word: word == text) if op == "=" else (lambda word: word != text)
    # A tag is never a number, a boolean, …: such a comparison matches nothing.
    return lambda word: False
