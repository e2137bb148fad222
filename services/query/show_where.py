"""WHERE of SHOW statements: which series of a measurement, and which time range · pure.

A tag that is missing is the empty string. Time comparisons are taken out and intersected; they choose whole shards
only. Source: spec/influxql.md, 6 and 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import re2
from numpy.typing import NDArray

from common.errors import Invalid
from common.model import MAX_TIME_NS, MIN_TIME_NS
from common.times import parse_time_string
from services.query.engine.frame import SeriesTable
from services.query.influxql import tree
from services.query.influxql.format import format_expr

Mask = NDArray[np.bool_]
# A name that stands for the measurement.
MEASUREMENT_NAME = "_name"
_TAG_OPERATORS = frozenset(("=", "!=", "=~", "!~"))
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}


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
    if condition is None:
        return ShowCondition(None)
    bounds: list[tuple[str, int]] = []
    tags = _without_time(condition, now_ns, bounds)
    if tags is not None:
        _check(tags, dialect)
    start, stop = MIN_TIME_NS, MAX_TIME_NS + 1
    for op, ns in bounds:
        if op in (">", ">=", "="):
            start = max(start, ns + (op == ">"))
        if op in ("<", "<=", "="):
            stop = min(stop, ns + (op != "<"))
    return ShowCondition(tags, start, stop)


def _without_time(expr: tree.Expr, now_ns: int, bounds: list[tuple[str, int]]) -> tree.Expr | None:
    if isinstance(expr, tree.ParenExpr):
        inner = _without_time(expr.expr, now_ns, bounds)
        return None if inner is None else tree.ParenExpr(inner)
    if not isinstance(expr, tree.BinaryExpr):
        return expr
    if expr.op in ("AND", "OR"):
        left = _without_time(expr.left, now_ns, bounds)
        right = _without_time(expr.right, now_ns, bounds)
        if left is None or right is None:
            return left if right is None else right
        return tree.BinaryExpr(expr.op, left, right)
    for name, value, op in ((expr.left, expr.right, expr.op), (expr.right, expr.left, _MIRRORED.get(expr.op, ""))):
        if isinstance(name, tree.VarRef) and name.name.lower() == "time":
            if op not in _MIRRORED or op == "!=":
                if isinstance(value, tree.RegexLiteral):
                    raise _incompatible(value)
                raise Invalid(f"invalid time comparison operator: {expr.op}")
            bounds.append((op, _moment(value, now_ns)))
            return None
    return expr


def _incompatible(value: tree.Expr) -> Invalid:
    return Invalid(f"invalid operation: time and {tree.go_type_name(value)} are not compatible")


def _moment(expr: tree.Expr, now_ns: int) -> int:
    """A constant compared with time, in ns."""
    ns = _constant(expr, now_ns)
    return max(MIN_TIME_NS, min(MAX_TIME_NS, ns))


def _constant(expr: tree.Expr, now_ns: int) -> int:
    if isinstance(expr, tree.ParenExpr):
        return _constant(expr.expr, now_ns)
    if isinstance(expr, tree.BinaryExpr) and expr.op in ("+", "-"):
        left, right = _constant(expr.left, now_ns), _constant(expr.right, now_ns)
        return left + right if expr.op == "+" else left - right
    if isinstance(expr, tree.Call) and expr.name == "now" and not expr.args:
        return now_ns
    if isinstance(expr, tree.IntegerLiteral | tree.UnsignedLiteral):
        return expr.value
    if isinstance(expr, tree.NumberLiteral):
        return int(expr.value)
    if isinstance(expr, tree.DurationLiteral | tree.TimeLiteral):
        return expr.ns
    ns = parse_time_string(expr.value) if isinstance(expr, tree.StringLiteral) else None
    if ns is None:
        raise _incompatible(expr)
    return ns


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
        raise Invalid(f"expression too complex for metaquery: {format_expr(expr)}")
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
    matches = _matcher(expr.op, value)
    if name == MEASUREMENT_NAME and name not in table.codes:
        return np.full(table.count, matches(measurement))
    codes = table.codes.get(name)
    if codes is None:
        return np.full(table.count, matches(""))
    words = np.fromiter((matches(word) for word in table.words[name]), dtype=bool, count=len(table.words[name]))
    return words[codes]


def _matcher(op: str, value: tree.Expr) -> Callable[[str], bool]:
    if isinstance(value, tree.RegexLiteral):
        pattern = compile_pattern(value)
        wanted = op == "=~"
        return lambda word: (pattern(word)) is wanted
    if isinstance(value, tree.StringLiteral):
        text = value.value
        return (lambda word: word == text) if op == "=" else (lambda word: word != text)
    # A tag is never a number, a boolean, …: such a comparison matches nothing.
    return lambda word: False


def compile_pattern(regex: tree.RegexLiteral) -> Callable[[str], bool]:
    """Whether the pattern is found anywhere in a text (RE2, on bytes: names need not be UTF-8)."""
    options = re2.Options()
    options.log_errors = False
    compiled: Any = re2.compile(regex.pattern.encode("utf-8", "surrogateescape"), options)
    return lambda text: compiled.search(text.encode("utf-8", "surrogateescape")) is not None
