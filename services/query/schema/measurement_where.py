"""WHERE of SHOW MEASUREMENTS: which measurements it keeps · pure.

Unlike everywhere else a comparison is asked of a measurement as a whole: ``=`` and ``=~`` keep it when one value of the
tag matches, ``!=`` and ``!~`` when it has the tag and none does. A tag that is missing has no value, not even the empty
one. Source: InfluxDB 1.6.7 as observed; ``measurementNamesByTagFilter`` of its ``tsdb/index.go``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from common.errors import Invalid
from services.query.influxql import tree
from services.query.schema.where import MEASUREMENT_NAME, value_matcher

# Values of a tag by its key; none where the measurement has no such tag.
ValuesOf = Callable[[str], Collection[str]]
# Of a measurement's name and tags.
MeasurementFilter = Callable[[str, ValuesOf], bool]


def measurement_filter(condition: tree.Expr) -> MeasurementFilter:
    """Read *condition*, which may hold no time.

    Raises:
        Invalid: something else than comparisons of tags with texts and patterns, in InfluxDB's words.
    """
    names = [node.name for node in tree.walk(condition) if isinstance(node, tree.VarRef)]
    if any(name.lower() == "time" for name in names):
        raise Invalid("SHOW MEASUREMENTS doesn't support time in WHERE clause")
    return _filter(condition)


def _filter(expr: tree.Expr) -> MeasurementFilter:
    if isinstance(expr, tree.ParenExpr):
        return _filter(expr.expr)
    if not isinstance(expr, tree.BinaryExpr):
        raise Invalid("invalid tag comparison operator")
    if expr.op in ("AND", "OR"):
        left, right = _filter(expr.left), _filter(expr.right)
        if expr.op == "AND":
            return lambda name, values: left(name, values) and right(name, values)
        return lambda name, values: left(name, values) or right(name, values)
    return _comparison(expr)


def _comparison(expr: tree.BinaryExpr) -> MeasurementFilter:
    if expr.op not in ("=", "!=", *tree.REGEX_OPERATORS):
        raise Invalid("invalid tag comparison operator")
    if not isinstance(expr.left, tree.VarRef):
        raise Invalid(f"left side of '{expr.op}' must be a tag key")
    if expr.op in tree.REGEX_OPERATORS:
        if not isinstance(expr.right, tree.RegexLiteral):
            raise Invalid(f"right side of '{expr.op}' must be a regular expression")
    elif not isinstance(expr.right, tree.StringLiteral):
        raise Invalid(f"right side of '{expr.op}' must be a tag value string")
    key, wanted = expr.left.name, not expr.op.startswith("!")
    matches = value_matcher("=~" if expr.op in tree.REGEX_OPERATORS else "=", expr.right)
    if key == MEASUREMENT_NAME:
        return lambda name, _: matches(name) is wanted

    def keeps(_: str, values_of: ValuesOf) -> bool:
        values = values_of(key)
        return bool(values) and any(map(matches, values)) is wanted

    return keeps
