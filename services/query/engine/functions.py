"""The functions of InfluxQL by what they take, what they give and how they behave: tables, and the call of those that
work on streams · pure.

Source: InfluxQL as observed on 2.9, section 11.
"""

from __future__ import annotations

from collections.abc import Callable

from common.model import FieldType
from services.query.engine import technical, transforms
from services.query.engine.spec import Call, Query
from services.query.engine.transforms import Stream
from services.query.engine.vectors import NUMBERS

FLOAT, INTEGER, UNSIGNED = FieldType.FLOAT, FieldType.INTEGER, FieldType.UNSIGNED
STRING, BOOLEAN = FieldType.STRING, FieldType.BOOLEAN
_ALL = frozenset(FieldType)
_ORDERED = NUMBERS | {BOOLEAN}

# What a function can take: anything, numbers and booleans, or (the rest) numbers.
TAKES: dict[str, frozenset[FieldType]] = {
    "count": _ALL, "count_distinct": _ALL, "distinct": _ALL, "mode": _ALL, "first": _ALL, "last": _ALL,
    "elapsed": _ALL, "sample": _ALL, "sum_hll": _ALL, "count_hll": _ALL, "max": _ORDERED, "min": _ORDERED,
}  # fmt: skip

# Functions whose result is of a fixed type; all others give the type that they take.
GIVES: dict[str, FieldType] = {
    "count": INTEGER, "count_distinct": INTEGER, "elapsed": INTEGER, "count_hll": UNSIGNED, "sum_hll": STRING,
    **dict.fromkeys(
        ("mean", "median", "stddev", "integral", "derivative", "non_negative_derivative", "moving_average",
         "exponential_moving_average", "double_exponential_moving_average", "triple_exponential_moving_average",
         "triple_exponential_derivative", "relative_strength_index", "kaufmans_efficiency_ratio",
         "kaufmans_adaptive_moving_average", "chande_momentum_oscillator", "holt_winters", "holt_winters_with_fit"),
        FLOAT,
    ),
}  # fmt: skip

SELECTORS = frozenset(("first", "last", "max", "min", "percentile", "top", "bottom", "sample"))
# Rows of these have the times of points, in windows too.
MAKES_OWN_ROWS = frozenset(("top", "bottom", "sample"))
# Windows without a value stay without a row.
NEVER_FILLED = MAKES_OWN_ROWS | {"integral", "distinct"}

MOVING_AVERAGES = frozenset(
    ("exponential_moving_average", "double_exponential_moving_average", "triple_exponential_moving_average",
     "triple_exponential_derivative", "relative_strength_index")
)  # fmt: skip
TECHNICAL = MOVING_AVERAGES | {
    "kaufmans_efficiency_ratio", "kaufmans_adaptive_moving_average", "chande_momentum_oscillator",
}  # fmt: skip
FORECASTS = frozenset(("holt_winters", "holt_winters_with_fit"))
DERIVATIVES = frozenset(("derivative", "non_negative_derivative"))
DIFFERENCES = frozenset(("difference", "non_negative_difference"))
TRANSFORMS = TECHNICAL | FORECASTS | DERIVATIVES | DIFFERENCES | {"elapsed", "moving_average", "cumulative_sum"}
# A nested call is computed for one window more before the range (moving_average: for as many as it needs).
LOOKS_BACK = TRANSFORMS - FORECASTS - {"cumulative_sum"}

# How InfluxDB names a function when it can't take a type, where it isn't its name with blanks.
NAME_IN_ERRORS: dict[str, str] = {
    "non_negative_derivative": "derivative", "non_negative_difference": "difference", "count_distinct": "distinct",
    "holt_winters": "holt_winters", "holt_winters_with_fit": "holt_winters_with_fit",
}  # fmt: skip


def accepts(name: str, type: FieldType) -> bool:
    """Whether function *name* can take values of *type*."""
    return type in TAKES.get(name, NUMBERS)


def transform(call: Call, stream: Stream, query: Query) -> Stream:
    """The stream that a transformation makes of *stream*, in the same order."""
    if call.name in DERIVATIVES:
        changed = transforms.derivative(stream, int(call.options[0]), query.descending)
        return transforms.without_negatives(changed) if call.name.startswith("non_negative") else changed
    if call.name == "elapsed":
        return transforms.elapsed(stream, int(call.options[0]))
    if call.name == "moving_average":
        return transforms.moving_average(stream, int(call.options[0]))
    if call.name in FORECASTS:
        return technical.holt_winters(call, stream, query)
    if call.name in TECHNICAL:
        return technical.analyse(call, stream)
    return _PLAIN[call.name](stream)


_PLAIN: dict[str, Callable[[Stream], Stream]] = {
    "difference": transforms.difference,
    "non_negative_difference": transforms.non_negative_difference,
    "cumulative_sum": transforms.cumulative_sum,
}
