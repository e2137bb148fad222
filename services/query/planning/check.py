"""What a SELECT may not say, in InfluxDB's words, and what it says of time · pure.

These errors come before any measurement is looked at; those of the field list are ``plan_fields.py``. Source: InfluxQL
as observed on 2.9, sections 6.1, 7, 15.2; InfluxDB 1.x ``query/compile.go``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from common.errors import Invalid
from common.model import MAX_TIME_NS, MIN_TIME_NS
from services.query.engine.window import Windows
from services.query.influxql import tree
from services.query.influxql.format import describe_expr
from services.query.planning.fields import FieldChecker, check_count, math_arguments
from services.query.planning.now import Now
from services.query.planning.times import reduce_expr, split_time

# Subqueries inside each other, at most: each is a level of recursion.
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Checked:
    """A SELECT that is allowed, with its times settled.

    Attributes:
        fields: without ``time``, constants folded, DISTINCT as a call.
        time_name: name of the first column.
        start_ns, stop_ns: the range, half open; ``MIN_TIME_NS`` below = without a bound.
        condition: WHERE without the times.
        subqueries: one for each source that is a subquery, in order.
        inherited_keys: tags that the queries around this one group by: it groups by them too.
        fill: as is to be done here: in subqueries null becomes none.
        timeless: it holds at any time: nothing in it is worked out from ``now()``.
    """

    select: tree.Select
    fields: tuple[tree.Field, ...]
    time_name: str
    start_ns: int
    stop_ns: int
    condition: tree.Expr | None
    windows: Windows | None
    fill: tree.Fill
    descending: bool
    has_calls: bool
    subqueries: tuple[Checked, ...] = ()
    inherited_keys: frozenset[str] = frozenset()
    timeless: bool = False

    @property
    def bounded(self) -> bool:
        """Whether the range has a lower end at all."""
        return self.start_ns > MIN_TIME_NS

    @property
    def named_keys(self) -> frozenset[str]:
        """Tags grouped by that are named here or further out; those that patterns stand for are not among them."""
        return self.inherited_keys | {each.name for each in self.select.dimensions if isinstance(each, tree.VarRef)}


def check(select: tree.Select, now: Now) -> Checked:
    """Raises Invalid with InfluxDB's text when *select* makes no sense."""
    checked = _check(select, now, None, 0)
    return checked if now.asked else replace(checked, timeless=True)


def _check(select: tree.Select, now: Now, outer: Checked | None, depth: int) -> Checked:
    if depth > MAX_DEPTH:
        raise Invalid(f"subqueries are nested deeper than {MAX_DEPTH}")
    zone_name = select.zone or (outer.select.zone if outer else None)
    zone = None if zone_name is None else ZoneInfo(zone_name)
    condition, start_ns, last_ns = split_time(select.condition, now, zone)
    _check_condition(condition)
    windows = _find_windows(select, now, zone)
    if last_ns is None:
        last_ns = now.ns() if windows is not None else MAX_TIME_NS
    start_ns = MIN_TIME_NS if start_ns is None else start_ns
    fill, descending, inherited = select.fill, select.descending, False
    if outer is not None:
        if (select.ascending or descending) and descending != outer.descending:
            raise Invalid("subqueries must be ordered in the same direction as the query itself")
        descending = outer.descending
        start_ns, last_ns = max(start_ns, outer.start_ns), min(last_ns, outer.stop_ns - 1)
        if windows is not None and fill is tree.Fill.NULL:
            fill = tree.Fill.NONE
        if windows is None and outer.windows is not None:
            windows, inherited = outer.windows, True
            fill = tree.Fill.NONE if fill is tree.Fill.NULL else fill
    checker = FieldChecker(select, windows, inherited)
    fields, time_name = checker.check()
    checked = Checked(
        select, fields, time_name, start_ns, last_ns + 1, condition, windows, fill, descending, bool(checker.calls),
        inherited_keys=frozenset() if outer is None else outer.named_keys,
    )  # fmt: skip
    subqueries = tuple(
        _check(source.select, now, checked, depth + 1) for source in select.sources if isinstance(source, tree.SubQuery)
    )
    # Subqueries inherit windows that nothing here makes use of.
    return replace(checked, windows=windows if checker.calls else None, subqueries=subqueries)


# ---------------------------------------------------------------- WHERE and GROUP BY


def _check_condition(condition: tree.Expr | None) -> None:
    if condition is None:
        return
    for node in tree.walk(condition):
        if isinstance(node, tree.Call):
            expected = math_arguments(node.name)
            if expected is None:
                raise Invalid(f"invalid function call in condition: {describe_expr(node)}")
            check_count(node.name, expected, len(node.args))


def _find_windows(select: tree.Select, now: Now, zone: ZoneInfo | None) -> Windows | None:
    width_ns = offset_ns = 0
    for dimension in select.dimensions:
        expr = reduce_expr(dimension, None)
        if isinstance(expr, tree.VarRef):
            if expr.name.lower() == "time":
                raise Invalid("time() is a function and expects at least one argument")
        elif isinstance(expr, tree.Call):
            if expr.name != "time":
                raise Invalid("only time() calls allowed in dimensions")
            if not 1 <= len(expr.args) <= 2:
                raise Invalid("time dimension expected 1 or 2 arguments")
            if not isinstance(expr.args[0], tree.DurationLiteral):
                raise Invalid("time dimension must have duration argument")
            if width_ns:
                raise Invalid("multiple time dimensions not allowed")
            width_ns = expr.args[0].ns
            if len(expr.args) == 2:
                offset_ns = _offset(expr.args[1], now, zone)
        elif not isinstance(expr, tree.Wildcard | tree.RegexLiteral):
            raise Invalid("only time and tag dimensions allowed")
    if width_ns <= 0:
        return None
    # Offsets keep their sign, as Go's % does; windows come out the same.
    return Windows(width_ns, offset_ns % width_ns, zone)


def _offset(expr: tree.Expr, now: Now, zone: ZoneInfo | None) -> int:
    if isinstance(expr, tree.DurationLiteral):
        return expr.ns
    if isinstance(expr, tree.Call):
        if expr.name != "now":
            raise Invalid("time dimension offset function must be now()")
        if expr.args:
            raise Invalid("time dimension offset now() function requires no arguments")
        return now.ns()
    reduced = reduce_expr(expr, now, zone)
    if isinstance(reduced, tree.DurationLiteral | tree.TimeLiteral):
        return reduced.ns
    raise Invalid("time dimension offset must be duration or now()")
