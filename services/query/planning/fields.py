"""What the field list of a SELECT may not hold: functions, their arguments, and what goes beside what · pure.

Knows no measurement and no type; texts and order of the errors are InfluxDB's. Source: InfluxQL as observed on 2.9,
sections 7 and 15.2; InfluxDB 1.x ``query/compile.go``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from common.errors import Invalid
from common.times import format_duration
from services.query.engine.expressions import FUNCTIONS, FUNCTIONS_OF_TWO
from services.query.engine.functions import DERIVATIVES, DIFFERENCES, FORECASTS, MOVING_AVERAGES
from services.query.engine.window import Windows
from services.query.influxql import tree
from services.query.influxql.format import describe_expr
from services.query.planning.times import reduce_expr

PLAIN_SELECTORS = frozenset(("max", "min", "first", "last"))
PLAIN_AGGREGATES = frozenset(("count", "sum", "mean", "median", "mode", "stddev", "spread", "sum_hll"))


def math_arguments(name: str) -> int | None:
    """How many arguments a mathematical function takes; None: it is none."""
    if name in FUNCTIONS:
        return 1
    return 2 if name in FUNCTIONS_OF_TWO else None


def check_count(name: str, expected: int, got: int) -> None:
    """Raises Invalid when the function *name* does not have the number of arguments that it takes."""
    if expected != got:
        raise Invalid(f"invalid number of arguments for {name}, expected {expected}, got {got}")


@dataclass(slots=True)
class FieldChecker:
    """Checks one field list, noting what kinds of things it holds.

    Attributes:
        inherited: the windows are those of the query around this one.
        calls: after ``check``, those that aggregate, select or transform; what they hold inside does not count.
        top_or_bottom: the name of one of these two, wherever it stands.
        holds_top_or_bottom: it stands inside another call.
    """

    select: tree.Select
    windows: Windows | None
    inherited: bool
    calls: list[tree.Call] = field(default_factory=list)
    auxiliary: bool = False
    only_selectors: bool = True
    has_distinct: bool = False
    top_or_bottom: str = ""
    holds_top_or_bottom: bool = False
    wildcards_allowed: bool = True

    def check(self) -> tuple[tuple[tree.Field, ...], str]:
        """The fields without ``time``, and the name of the time column.

        Raises:
            Invalid: with InfluxDB's text.
        """
        fields, time_name = [], "time"
        for each in self.select.fields:
            if isinstance(each.expr, tree.VarRef) and each.expr.name == "time":
                time_name = each.alias or time_name
                continue
            expr = reduce_expr(each.expr, None)
            if isinstance(expr, tree.Distinct):
                expr = tree.Call("distinct", (tree.VarRef(expr.name),))
            self.wildcards_allowed = True
            self._expr(expr)
            fields.append(tree.Field(expr, each.alias))
        self._validate(bool(fields))
        return tuple(fields), time_name

    def _validate(self, any_field: bool) -> None:
        if not any_field:
            raise Invalid("at least 1 non-time field must be queried")
        if self.top_or_bottom and (len(self.calls) > 1 or self.holds_top_or_bottom):
            raise Invalid(f"selector function {self.top_or_bottom}() cannot be combined with other functions")
        if not self.calls:
            if self.select.fill in (tree.Fill.NONE, tree.Fill.LINEAR):
                raise Invalid(f"fill({self.select.fill.value}) must be used with a function")
            if self.windows is not None and not self.inherited:
                raise Invalid("GROUP BY requires at least one aggregate function")
        if self.has_distinct and (len(self.calls) != 1 or self.auxiliary):
            raise Invalid("aggregate function distinct() cannot be combined with other functions or fields")
        if self.auxiliary:
            if not self.only_selectors:
                raise Invalid("mixing aggregate and non-aggregate queries is not supported")
            if len(self.calls) > 1:
                raise Invalid("mixing multiple selector functions with tags or fields is not supported")

    def _expr(self, expr: tree.Expr) -> None:
        if _is_literal(expr):
            raise Invalid("field must contain at least one variable")
        if isinstance(expr, tree.VarRef):
            self.auxiliary = True
        elif isinstance(expr, tree.Wildcard | tree.RegexLiteral):
            if not self.wildcards_allowed:
                kind = "wildcard" if isinstance(expr, tree.Wildcard) else "regex"
                raise Invalid(f"unable to use {kind} in a binary expression")
            self.auxiliary = True
        elif isinstance(expr, tree.Call):
            self._call(expr)
        elif isinstance(expr, tree.Distinct):
            self._call(tree.Call("distinct", (tree.VarRef(expr.name),)))
        elif isinstance(expr, tree.BinaryExpr):
            self.wildcards_allowed = False
            sides = [side for side in (expr.left, expr.right) if not _is_literal(side)]
            if not sides:
                raise Invalid("cannot perform a binary expression on two literals")
            for side in sides:
                self._expr(side)
        elif isinstance(expr, tree.ParenExpr):
            self._expr(expr.expr)
        else:
            raise Invalid("field must contain at least one variable")

    def _call(self, call: tree.Call) -> None:
        expected = math_arguments(call.name)
        if expected is not None:
            check_count(call.name, expected, len(call.args))
            for arg in call.args:
                if not _is_literal(arg):
                    self._expr(arg)
            return
        self.calls.append(call)
        check_of_name = _CHECKS.get(call.name, FieldChecker._function)
        check_of_name(self, call)

    def _symbol(self, name: str, arg: tree.Expr) -> None:
        """The argument of a function: a name, a wildcard or a regular expression."""
        if isinstance(arg, tree.Wildcard | tree.RegexLiteral):
            if not self.wildcards_allowed:
                kind = "with wildcard" if isinstance(arg, tree.Wildcard) else "with regex field"
                raise Invalid(f"unsupported expression {kind}: {name}()")
            # However few fields it stands for: none of its calls may choose the rows for a column beside it.
            self.only_selectors = False
        elif not isinstance(arg, tree.VarRef):
            raise Invalid(f"expected field argument in {name}()")

    def _function(self, call: tree.Call) -> None:
        if call.name in PLAIN_AGGREGATES:
            self.only_selectors = False
        elif call.name not in PLAIN_SELECTORS:
            raise Invalid(f"undefined function {call.name}()")
        check_count(call.name, 1, len(call.args))
        if call.name == "count":
            inner = distinct_argument(call.args[0])
            if inner is not None:
                self._distinct(inner, nested=True)
                return
        self._symbol(call.name, call.args[0])

    def _distinct(self, call: tree.Call, nested: bool = False) -> None:
        if not call.args:
            raise Invalid("distinct function requires at least one argument")
        if len(call.args) != 1:
            raise Invalid("distinct function can only have one argument")
        if not isinstance(call.args[0], tree.VarRef):
            raise Invalid("expected field argument in distinct()")
        self.has_distinct = self.has_distinct or not nested
        self.only_selectors = False

    def _percentile(self, call: tree.Call) -> None:
        check_count(call.name, 2, len(call.args))
        if not isinstance(call.args[1], tree.IntegerLiteral | tree.NumberLiteral):
            raise Invalid("expected float argument in percentile()")
        self._symbol(call.name, call.args[0])

    def _sample(self, call: tree.Call) -> None:
        check_count(call.name, 2, len(call.args))
        count = call.args[1]
        if not isinstance(count, tree.IntegerLiteral):
            raise Invalid("expected integer argument in sample()")
        if count.value <= 0:
            raise Invalid(f"sample window must be greater than 1, got {count.value}")
        self._symbol(call.name, call.args[0])

    def _top_bottom(self, call: tree.Call) -> None:
        if self.top_or_bottom:
            raise Invalid(f"selector function {self.top_or_bottom}() cannot be combined with other functions")
        if len(call.args) < 2:
            raise Invalid(f"invalid number of arguments for {call.name}, expected at least 2, got {len(call.args)}")
        limit, most = call.args[-1], self.select.limits.limit
        if not isinstance(limit, tree.IntegerLiteral):
            raise Invalid(f"expected integer as last argument in {call.name}(), found {describe_expr(limit)}")
        if limit.value <= 0:
            raise Invalid(f"limit ({limit.value}) in {call.name} function must be at least 1")
        if 0 < most < limit.value:
            raise Invalid(
                f"limit ({limit.value}) in {call.name} function can not be larger than the LIMIT ({most}) in the "
                "select statement"
            )
        if not isinstance(call.args[0], tree.VarRef):
            raise Invalid(
                f"expected first argument to be a field in {call.name}(), found {describe_expr(call.args[0])}"
            )
        for arg in call.args[1:-1]:
            if not isinstance(arg, tree.VarRef):
                raise Invalid(f"only fields or tags are allowed in {call.name}(), found {describe_expr(arg)}")
        self.top_or_bottom = call.name

    # ------------------------------------------------------------ transformations

    def _stream_argument(self, call: tree.Call) -> None:
        """The first argument of a transformation: a call with windows, a name without."""
        self.only_selectors = False
        arg = call.args[0]
        if isinstance(arg, tree.Call | tree.Distinct):
            if self.windows is None:
                raise Invalid(f"{call.name} aggregate requires a GROUP BY interval")
            self._nested(arg)
            return
        if self.windows is not None and not self.inherited:
            raise Invalid(f"aggregate function required inside the call to {call.name}")
        self._symbol(call.name, arg)

    def _nested(self, arg: tree.Expr) -> None:
        inner = distinct_argument(arg)
        if inner is not None:
            self._distinct(inner, nested=True)
            return
        # What is inside is not counted beside the outer call.
        before = len(self.calls)
        self._expr(arg)
        self.holds_top_or_bottom = self.holds_top_or_bottom or bool(self.top_or_bottom)
        del self.calls[before:]

    def _with_unit(self, call: tree.Call) -> None:
        if not 1 <= len(call.args) <= 2:
            raise Invalid(_between(call, 1, 2))
        if len(call.args) == 2:
            unit = call.args[1]
            if not isinstance(unit, tree.DurationLiteral):
                raise Invalid(f"second argument to {call.name} must be a duration, got {tree.go_type_name(unit)}")
            _check_positive(unit)
        self._stream_argument(call)

    def _without_options(self, call: tree.Call) -> None:
        check_count(call.name, 1, len(call.args))
        self._stream_argument(call)

    def _moving_average(self, call: tree.Call) -> None:
        check_count(call.name, 2, len(call.args))
        count = call.args[1]
        if not isinstance(count, tree.IntegerLiteral):
            raise Invalid(
                f"second argument for moving_average must be an integer, got {tree.go_type_name(count)}"
            )  # fmt: skip
        if count.value <= 1:
            raise Invalid(f"moving_average window must be greater than 1, got {count.value}")
        self._stream_argument(call)

    def _integral(self, call: tree.Call) -> None:
        if not 1 <= len(call.args) <= 2:
            raise Invalid(_between(call, 1, 2))
        if len(call.args) == 2:
            unit = call.args[1]
            if not isinstance(unit, tree.DurationLiteral):
                raise Invalid("second argument must be a duration")
            _check_positive(unit)
        self.only_selectors = False
        self._symbol(call.name, call.args[0])

    def _technical(self, call: tree.Call) -> None:
        name = call.name
        warmups = _WARMUPS.get(name, ("exponential", "simple"))
        most = 4 if warmups else 3
        if not 2 <= len(call.args) <= most:
            raise Invalid(_between(call, 2, most))
        period = call.args[1]
        if not isinstance(period, tree.IntegerLiteral):
            raise Invalid(f"{name} period must be an integer")
        if period.value < 1:
            raise Invalid(f"{name} period must be greater than or equal to 1")
        if len(call.args) > 2:
            hold = call.args[2]
            if not isinstance(hold, tree.IntegerLiteral):
                raise Invalid(f"{name} hold period must be an integer")
            if hold.value < 0 and hold.value != -1:
                raise Invalid(f"{name} hold period must be greater than or equal to 0")
        if len(call.args) > 3:
            warmup = call.args[3]
            if not isinstance(warmup, tree.StringLiteral):
                raise Invalid(f"{name} warmup type must be a string")
            if warmup.value not in warmups:
                raise Invalid(f"{name} warmup type must be one of: " + " ".join(f"'{word}'" for word in warmups))
        self._stream_argument(call)

    def _holt_winters(self, call: tree.Call) -> None:
        name = call.name
        check_count(name, 3, len(call.args))
        inner, count, season = call.args
        if not isinstance(count, tree.IntegerLiteral):
            raise Invalid(f"expected integer argument as second arg in {name}")
        if count.value <= 0:
            raise Invalid(f"second arg to {name} must be greater than 0, got {count.value}")
        if not isinstance(season, tree.IntegerLiteral):
            raise Invalid(f"expected integer argument as third arg in {name}")
        if season.value < 0:
            raise Invalid(f"third arg to {name} cannot be negative, got {season.value}")
        if not isinstance(inner, tree.Call):
            raise Invalid(f"must use aggregate function with {name}")
        if self.windows is None:
            raise Invalid(f"{name} aggregate requires a GROUP BY interval")
        self.only_selectors = False
        self._nested(inner)

    def _count_hll(self, call: tree.Call) -> None:
        check_count(call.name, 1, len(call.args))
        self.only_selectors = False
        inner = call.args[0]
        if not isinstance(inner, tree.Call) or inner.name != "sum_hll":
            self._symbol(call.name, inner)
            return
        self._nested(inner)


_WARMUPS = {
    "kaufmans_efficiency_ratio": (),
    "kaufmans_adaptive_moving_average": (),
    "chande_momentum_oscillator": ("none", "exponential", "simple"),
}

_CHECKS: dict[str, Callable[[FieldChecker, tree.Call], None]] = {
    "distinct": FieldChecker._distinct,
    "percentile": FieldChecker._percentile,
    "sample": FieldChecker._sample,
    "top": FieldChecker._top_bottom,
    "bottom": FieldChecker._top_bottom,
    "elapsed": FieldChecker._with_unit,
    "cumulative_sum": FieldChecker._without_options,
    "moving_average": FieldChecker._moving_average,
    "integral": FieldChecker._integral,
    "count_hll": FieldChecker._count_hll,
    **dict.fromkeys(DERIVATIVES, FieldChecker._with_unit),
    **dict.fromkeys(DIFFERENCES, FieldChecker._without_options),
    **dict.fromkeys(MOVING_AVERAGES, FieldChecker._technical),
    **dict.fromkeys(_WARMUPS, FieldChecker._technical),
    **dict.fromkeys(FORECASTS, FieldChecker._holt_winters),
}


def distinct_argument(arg: tree.Expr) -> tree.Call | None:
    """``distinct(x)`` or ``DISTINCT x`` as a call; None when *arg* is neither."""
    if isinstance(arg, tree.Distinct):
        return tree.Call("distinct", (tree.VarRef(arg.name),))
    return arg if isinstance(arg, tree.Call) and arg.name == "distinct" else None


def _is_literal(expr: tree.Expr) -> bool:
    """Whether *expr* is a constant: a literal, or made of literals and mathematical functions of them."""
    if isinstance(expr, tree.ParenExpr):
        return _is_literal(expr.expr)
    if isinstance(expr, tree.BinaryExpr):
        sides = expr.left, expr.right
        # Of two literals alone those that go together have been folded.
        return all(map(_is_literal, sides)) and any(isinstance(side, tree.Call | tree.BinaryExpr) for side in sides)
    if isinstance(expr, tree.Call):
        return math_arguments(expr.name) == len(expr.args) and all(map(_is_literal, expr.args))
    return isinstance(
        expr,
        tree.IntegerLiteral
        | tree.UnsignedLiteral
        | tree.NumberLiteral
        | tree.StringLiteral
        | tree.BooleanLiteral
        | tree.DurationLiteral
        | tree.TimeLiteral,
    )


def _between(call: tree.Call, least: int, most: int) -> str:
    return (
        f"invalid number of arguments for {call.name}, expected at least {least} but no more than {most}, "
        f"got {len(call.args)}"
    )


def _check_positive(unit: tree.DurationLiteral) -> None:
    if unit.ns <= 0:
        raise Invalid(f"duration argument must be positive, got {format_duration(unit.ns)}")
