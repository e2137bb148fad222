"""WHERE of SHOW statements: which series of a measurement, and which time range · pure.

A tag that is missing is the empty string. Time comparisons are taken out and intersected; they choose whole shards
only. Source: spec/influxql.md, 6 and 13.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
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
from services.query.planning.now import Now
from services.query.planning.times import split_time

Mask = NDArray[np.bool_]
# A name that stands for the measurement.
MEASUREMENT_NAME = "_name"
_TAG_OPERATORS = frozenset(("=", "!=", "=~", "!~"))


class Dialect(Enum):
    """What is done with comparisons that tags don't know."""

    SERIES = "series"  # SHOW SERIES, deletes: operators other than those of tags are refused
    METAQUERY = "metaquery"  # SHOW TAG KEYS and VALUES: so they are, in other words; names on both sides too
    COUNT = "count"  # cardinalities: no series has them


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
    tags, first_ns, last_ns = split_time(condition, Now(now_ns), None)
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
    if isinstance(expr, tree.BooleanLiteral) or dialect is Dialect.COUNT:
        return None
    if isinstance(expr, tree.BinaryExpr) and expr.op in _TAG_OPERATORS and _tag_and_value(expr) is not None:
        if dialect is Dialect.METAQUERY and isinstance(expr.left, tree.VarRef) and isinstance(expr.right, tree.VarRef):
            raise Invalid(
                "bad WHERE clause for metaquery; one term must be a string literal tag value within single quotes: "
                + describe_expr(expr)
            )
        return None
    if dialect is Dialect.METAQUERY:
        raise Invalid(f"expression too complex for metaquery: {describe_expr(expr)}")
    raise Invalid("invalid tag comparison operator")


def _tag_and_value(expr: tree.BinaryExpr) -> tuple[tree.VarRef, tree.Expr] | None:
    if isinstance(expr.left, tree.VarRef):
        return expr.left, expr.right
    if isinstance(expr.right, tree.VarRef):
        return expr.right, expr.left
    return None


def series_mask(
    table: SeriesTable,
    measurement: str,
    tags: tree.Expr | None,
    fields: Collection[str] = (),
    *,
    of_points: bool = False,
) -> Mask | None:
    """The series of *table* that a checked condition on tags keeps; None = all of them.

    Args:
        fields: names of the measurement's fields.
        of_points: what a comparison counts as that only points could answer: of a field, of a tag with what no tag
            is, of two names. So ``host = "h1"``, misquoted, deletes nothing.
    """
    return None if tags is None else _Masker(table, measurement, fields, of_points).mask(tags)


@dataclass(frozen=True, slots=True)
class _Masker:
    table: SeriesTable
    measurement: str
    fields: Collection[str]
    of_points: bool

    def mask(self, expr: tree.Expr) -> Mask:
        if isinstance(expr, tree.ParenExpr):
            return self.mask(expr.expr)
        if isinstance(expr, tree.BooleanLiteral):
            return np.full(self.table.count, expr.value)
        if isinstance(expr, tree.BinaryExpr) and expr.op in ("AND", "OR"):
            left, right = self.mask(expr.left), self.mask(expr.right)
            return left & right if expr.op == "AND" else left | right
        found = _tag_and_value(expr) if isinstance(expr, tree.BinaryExpr) and expr.op in _TAG_OPERATORS else None
        if found is None or not self._tells(*found):
            return np.full(self.table.count, self.of_points)
        assert isinstance(expr, tree.BinaryExpr)
        return self._comparison(found[0].name, expr.op, found[1])

    def _tells(self, name: tree.VarRef, value: tree.Expr) -> bool:
        """Whether tags are all that is compared."""
        if name.name in self.fields and name.cast != "tag":
            return False
        return isinstance(value, tree.StringLiteral | tree.RegexLiteral)

    def _comparison(self, name: str, op: str, value: tree.Expr) -> Mask:
        table = self.table
        matches = value_matcher(op, value)
        if name == MEASUREMENT_NAME and name not in table.codes:
            return np.full(table.count, matches(self.measurement))
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
    raise TypeError(f"cannot compare a tag with {value}")
