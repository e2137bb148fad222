"""Constant folding, and the times of a WHERE taken out of it · pure.

Source: InfluxQL as observed on 2.9, sections 2.4 and 6.1; InfluxDB 1.x ``influxql.Reduce`` and ``ConditionExpr``.
"""

from __future__ import annotations

import math
from zoneinfo import ZoneInfo

from common.errors import Invalid
from common.model import MAX_TIME_NS, MIN_TIME_NS
from common.times import NS_PER_S, format_rfc3339, parse_time_string
from services.query.influxql import tree
from services.query.influxql.format import describe_expr
from services.query.planning.now import Now

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_YEAR_1_NS, _YEAR_10000_NS = -62_135_596_800 * NS_PER_S, 253_402_300_800 * NS_PER_S
_NUMBERS = tree.IntegerLiteral | tree.UnsignedLiteral | tree.NumberLiteral


def split_time(
    condition: tree.Expr | None, now: Now, zone: ZoneInfo | None
) -> tuple[tree.Expr | None, int | None, int | None]:
    """Part a WHERE into what is no comparison with time, and the range of time.

    All comparisons with time are intersected wherever they stand, OR or not.

    Returns:
        The rest, None = nothing; the first ns and the last ns of the range, None = no bound.
    """
    bounds = _Bounds(now, zone)
    rest = None if condition is None else bounds.take_out(condition)
    return rest, bounds.first_ns, bounds.last_ns


class _Bounds:
    def __init__(self, now: Now, zone: ZoneInfo | None) -> None:
        self._now = now
        self._zone = zone
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def take_out(self, expr: tree.Expr) -> tree.Expr | None:
        """*expr* without its comparisons with time; None when nothing is left."""
        if isinstance(expr, tree.ParenExpr):
            inner = self.take_out(expr.expr)
            return None if inner is None else tree.ParenExpr(inner)
        if isinstance(expr, tree.BooleanLiteral):
            return expr
        if not isinstance(expr, tree.BinaryExpr):
            raise Invalid(f"invalid condition expression: {describe_expr(expr)}")
        if expr.op in ("AND", "OR"):
            left, right = self.take_out(expr.left), self.take_out(expr.right)
            if left is None or right is None:
                return right if left is None else left
            return tree.BinaryExpr(expr.op, left, right)
        if _is_time(expr.left):
            self._compare(expr.op, expr.right)
            return None
        if _is_time(expr.right):
            self._compare(_MIRRORED.get(expr.op, expr.op), expr.left)
            return None
        return reduce_expr(expr, self._now)

    def _compare(self, op: str, side: tree.Expr) -> None:
        value_ns = self._value(side)
        if op not in ("=", "<", "<=", ">", ">="):
            raise Invalid(f"invalid time comparison operator: {op}")
        if op in ("=", ">", ">="):
            first = min(value_ns + (op == ">"), MAX_TIME_NS + 1)
            self.first_ns = first if self.first_ns is None else max(self.first_ns, first)
        if op in ("=", "<", "<="):
            last = min(value_ns - (op == "<"), MAX_TIME_NS)
            self.last_ns = last if self.last_ns is None else min(self.last_ns, last)

    def _value(self, side: tree.Expr) -> int:
        literal = reduce_expr(side, self._now, self._zone)
        if isinstance(literal, tree.StringLiteral):
            literal = _as_time(literal, self._zone) or literal
        if isinstance(literal, tree.TimeLiteral):
            value_ns = _checked(literal.ns)
        elif isinstance(literal, tree.DurationLiteral):
            value_ns = literal.ns
        elif isinstance(literal, tree.IntegerLiteral):
            value_ns = literal.value
        elif isinstance(literal, tree.NumberLiteral) and math.isfinite(literal.value):
            value_ns = int(literal.value)
        else:
            raise Invalid(f"invalid operation: time and {tree.go_type_name(literal)} are not compatible")
        # Numbers beyond all time mean its ends: "no bound" is often written as the largest integer.
        return max(value_ns, MIN_TIME_NS)


def _checked(ns: int) -> int:
    """A moment; raises Invalid for one outside of 64-bit ns."""
    if MIN_TIME_NS <= ns <= MAX_TIME_NS:
        return ns
    how = "overflows" if ns > 0 else "underflows"
    raise Invalid(f"time {format_rfc3339(ns - ns % NS_PER_S)} {how} time literal")


def _is_time(expr: tree.Expr) -> bool:
    return isinstance(expr, tree.VarRef) and expr.name.lower() == "time"


def _as_time(literal: tree.StringLiteral, zone: ZoneInfo | None) -> tree.TimeLiteral | None:
    ns = parse_time_string(literal.value, zone)
    return None if ns is None else _moment(ns)


def _moment(ns: int) -> tree.TimeLiteral:
    """A moment that may lie outside of 64 bits, but within the years that can be printed."""
    return tree.TimeLiteral(min(max(ns, _YEAR_1_NS), _YEAR_10000_NS - 1))


# ---------------------------------------------------------------- folding


def reduce_expr(expr: tree.Expr, now: Now | None, zone: ZoneInfo | None = None) -> tree.Expr:
    """*expr* with constant parts worked out; ``now()`` too when *now* is given. Depth is the parser's to bound."""
    if isinstance(expr, tree.ParenExpr):
        inner = reduce_expr(expr.expr, now, zone)
        return tree.ParenExpr(inner) if isinstance(inner, tree.BinaryExpr) else inner
    if isinstance(expr, tree.Call):
        if expr.name == "now" and not expr.args and now is not None:
            return tree.TimeLiteral(now.ns())
        return tree.Call(expr.name, tuple(reduce_expr(arg, now, zone) for arg in expr.args))
    if isinstance(expr, tree.BinaryExpr):
        left, right = reduce_expr(expr.left, now, zone), reduce_expr(expr.right, now, zone)
        folded = _fold(expr.op, left, right, zone)
        return tree.BinaryExpr(expr.op, left, right) if folded is None else folded
    return expr


def _fold(op: str, left: tree.Expr, right: tree.Expr, zone: ZoneInfo | None) -> tree.Expr | None:
    """The value of ``left op right`` when both are constants that go together."""
    timed = tree.DurationLiteral | tree.TimeLiteral
    if isinstance(left, tree.StringLiteral) and isinstance(right, timed | tree.IntegerLiteral) and op in ("+", "-"):
        left = _as_time(left, zone) or left
    if isinstance(right, tree.StringLiteral) and isinstance(left, timed):
        right = _as_time(right, zone) or right
    if isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        return _fold_numbers(op, left, right)
    if isinstance(left, tree.BooleanLiteral) and isinstance(right, tree.BooleanLiteral):
        return _fold_booleans(op, left.value, right.value)
    if isinstance(left, timed | tree.IntegerLiteral) and isinstance(right, timed | tree.IntegerLiteral):
        return _fold_times(op, left, right)
    if isinstance(left, tree.DurationLiteral) and isinstance(right, tree.NumberLiteral):
        if op == "*":
            return tree.DurationLiteral(_wrap(int(left.ns * right.value)))
        if op == "/" and right.value:
            return tree.DurationLiteral(_wrap(int(left.ns / right.value)))
    return None


def _fold_numbers(
    op: str,
    left: tree.IntegerLiteral | tree.UnsignedLiteral | tree.NumberLiteral,
    right: tree.IntegerLiteral | tree.UnsignedLiteral | tree.NumberLiteral,
) -> tree.Expr | None:
    a, b = left.value, right.value
    if op in tree.COMPARISONS:
        compared = {"=": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
        return tree.BooleanLiteral(compared[op]) if op in compared else None
    if isinstance(a, float) or isinstance(b, float) or (op == "/" and isinstance(left, tree.IntegerLiteral)):
        if op not in ("+", "-", "*", "/", "%"):
            return None
        return tree.NumberLiteral(_fold_floats(op, float(a), float(b)))
    return _integer(_fold_integers(op, a, b), left, right)


def _fold_floats(op: str, a: float, b: float) -> float:
    if op == "/":
        return a / b if b else 0.0
    if op == "%":
        return math.fmod(a, b) if b and math.isfinite(a) else 0.0
    return {"+": a + b, "-": a - b, "*": a * b}[op]


def _fold_integers(op: str, a: int, b: int) -> int:
    if op in ("/", "%"):
        if not b:
            return 0
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return quotient if op == "/" else a - b * quotient
    results = {"+": a + b, "-": a - b, "*": a * b, "&": a & b, "|": a | b, "^": a ^ b}
    return results[op]


def _integer(value: int, *sides: tree.Expr) -> tree.Expr:
    if any(isinstance(side, tree.UnsignedLiteral) for side in sides):
        value &= 0xFFFFFFFFFFFFFFFF
        return tree.UnsignedLiteral(value) if value > 0x7FFFFFFFFFFFFFFF else tree.IntegerLiteral(value)
    return tree.IntegerLiteral(_wrap(value))


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _fold_booleans(op: str, a: bool, b: bool) -> tree.Expr | None:
    results = {"AND": a and b, "OR": a or b, "=": a == b, "!=": a != b, "&": a & b, "|": a | b, "^": a ^ b}
    return tree.BooleanLiteral(results[op]) if op in results else None


def _fold_times(op: str, left: tree.Expr, right: tree.Expr) -> tree.Expr | None:
    """Moments, durations and integers (which are ns beside a moment, plain numbers beside a duration)."""
    a, b = _ns(left), _ns(right)
    moments = isinstance(left, tree.TimeLiteral), isinstance(right, tree.TimeLiteral)
    if moments == (True, True):
        return tree.DurationLiteral(_wrap(a - b)) if op == "-" else None
    if any(moments):
        # These may lie outside of 64 bits; the result of all is checked.
        if op == "+":
            return _moment(a + b)
        return _moment(a - b) if op == "-" and moments[0] else None
    durations = isinstance(left, tree.DurationLiteral), isinstance(right, tree.DurationLiteral)
    if op in ("+", "-"):
        return tree.DurationLiteral(_wrap(a + b if op == "+" else a - b))
    if op == "*" and durations != (True, True):
        return tree.DurationLiteral(_wrap(a * b))
    if op == "/" and durations == (True, False):
        return tree.DurationLiteral(_fold_integers("/", a, b))
    return None


def _ns(expr: tree.Expr) -> int:
    if isinstance(expr, tree.DurationLiteral | tree.TimeLiteral):
        return expr.ns
    assert isinstance(expr, tree.IntegerLiteral)
    return expr.value
