"""Arithmetic, comparisons and mathematical functions over columns, by InfluxQL's rules of types · pure.

An expression is a tree over *leaves*, which stand for columns (of rows, or of calls); evaluation takes the leaves as
vectors. Source: InfluxQL as observed on 2.9, sections 6.3, 10.4 and 11.5; InfluxDB 1.x ``influxql.ValuerEval``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.vectors import NUMBERS, Mask, Vector, cast, nulls

FLOAT, INTEGER, UNSIGNED = FieldType.FLOAT, FieldType.INTEGER, FieldType.UNSIGNED
STRING, BOOLEAN = FieldType.STRING, FieldType.BOOLEAN


@dataclass(frozen=True, slots=True)
class Leaf:
    """The column at place *index* of the leaves."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; an int is INTEGER or UNSIGNED by *type*."""

    value: int | float | str | bool
    type: FieldType


@dataclass(frozen=True, slots=True)
class Pattern:
    """Right side of ``=~`` and ``!~``: whether a string holds a match; *text* names it where matches are kept."""

    matches: Callable[[str], bool]
    text: str


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Function:
    """A mathematical function of ``FUNCTIONS``, or of two arguments of ``FUNCTIONS_OF_TWO``."""

    name: str
    args: tuple[Expression, ...]


Expression = Leaf | Constant | Pattern | Binary | Function


def has_pattern(expr: Expression) -> bool:
    """Whether a regular expression stands in *expr*."""
    stack = [expr]
    while stack:
        each = stack.pop()
        if isinstance(each, Pattern):
            return True
        if isinstance(each, Binary):
            stack += (each.left, each.right)
        elif isinstance(each, Function):
            stack += each.args
    return False


def evaluate(expr: Expression, leaves: Sequence[Vector], count: int) -> Vector:
    """The value of *expr* in each of *count* rows."""
    with np.errstate(all="ignore"):
        return _as_vector(_value(expr, leaves, count), count)


def holds(expr: Expression, leaves: Sequence[Vector], count: int) -> Mask:
    """Where the condition *expr* is true; nothing else than true counts."""
    vector = evaluate(expr, leaves, count)
    if vector.type is not BOOLEAN:
        return np.zeros(count, bool)
    return vector.values if vector.valid is None else vector.values & vector.valid


def _as_vector(value: Vector | Constant, count: int) -> Vector:
    if isinstance(value, Vector):
        return value
    dtype = {FLOAT: np.float64, INTEGER: np.int64, UNSIGNED: np.uint64, BOOLEAN: np.bool_, STRING: object}[value.type]
    return Vector(value.type, np.full(count, value.value, dtype=dtype))


def _value(expr: Expression, leaves: Sequence[Vector], count: int) -> Vector | Constant:
    if isinstance(expr, Leaf):
        return leaves[expr.index]
    if isinstance(expr, Constant):
        return expr
    if isinstance(expr, Function):
        return _function(expr, [_value(arg, leaves, count) for arg in expr.args], count)
    if isinstance(expr, Pattern):
        raise TypeError("a pattern stands only right of =~ and !~")
    left = _value(expr.left, leaves, count)
    if isinstance(expr.right, Pattern):
        return _match(left, expr.right, expr.op == "!~", count)
    right = _value(expr.right, leaves, count)
    if expr.op in ("AND", "OR"):
        return _logical(expr.op, left, right, count)
    if expr.op in COMPARE:
        return _compare(expr.op, left, right, count)
    return arithmetic(expr.op, left, right, count)


# ---------------------------------------------------------------- conditions


def _truth(value: Vector | Constant, count: int) -> Mask | None:
    """Where *value* is true; None when it is no boolean. A boolean without a value counts as false."""
    if value.type is not BOOLEAN:
        return None
    vector = _as_vector(value, count)
    return vector.values if vector.valid is None else vector.values & vector.valid


def _logical(op: str, left: Vector | Constant, right: Vector | Constant, count: int) -> Vector:
    a, b = _truth(left, count), _truth(right, count)
    if a is None or b is None:
        return Vector(BOOLEAN, np.zeros(count, bool))
    return Vector(BOOLEAN, a & b if op == "AND" else a | b)


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _compare(op: str, left: Vector | Constant, right: Vector | Constant, count: int) -> Vector:
    """Numbers by value; strings and booleans only for (in)equality; anything else is false, as is a missing value."""
    numbers = left.type in NUMBERS and right.type in NUMBERS
    if not numbers and (left.type is not right.type or op not in ("=", "!=")):
        return Vector(BOOLEAN, np.zeros(count, bool))
    if left.type is BOOLEAN:
        # A boolean that is missing counts as false, when the other side is there.
        a, b = _truth(left, count), _truth(right, count)
        truth = COMPARE[op](a, b)
        there = _valid(left), _valid(right)
        if there[0] is not None and there[1] is not None:
            truth &= there[0] | there[1]
        return Vector(BOOLEAN, truth)
    a, b = _comparable(left), _comparable(right)
    if numbers and FLOAT in (left.type, right.type):
        a, b = _to_float(a), _to_float(b)
    truth = np.asarray(COMPARE[op](a, b), dtype=bool)
    if truth.ndim == 0:
        truth = np.full(count, bool(truth))
    for valid in (_valid(left), _valid(right)):
        if valid is not None:
            truth = truth & valid
    return Vector(BOOLEAN, truth)


def _comparable(value: Vector | Constant) -> Any:
    return value.values if isinstance(value, Vector) else value.value


def _to_float(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) else float(value)


def _valid(value: Vector | Constant) -> Mask | None:
    return value.valid if isinstance(value, Vector) else None


def _match(left: Vector | Constant, pattern: Pattern, negated: bool, count: int) -> Vector:
    if left.type is not STRING:
        return Vector(BOOLEAN, np.zeros(count, bool))
    vector = _as_vector(left, count)
    truth = match_words(vector.values, pattern) != negated
    return Vector(BOOLEAN, truth if vector.valid is None else truth & vector.valid)


def match_words(words: NDArray[Any], pattern: Pattern) -> Mask:
    """Which of *words* the pattern matches; each distinct word is looked at once."""
    seen: dict[str, bool] = {}
    out = np.empty(len(words), bool)
    for i, word in enumerate(words.tolist()):
        found = seen.get(word)
        if found is None:
            found = pattern.matches(word)
            if len(seen) < 65536:
                seen[word] = found
        out[i] = found
    return out


# ---------------------------------------------------------------- arithmetic

# The division of conditions: 8 / 3 > 2 is false in WHERE, where in the field list it is 2.67.
DIVIDE_WHOLE = "div"


def arithmetic_type(op: str, left: FieldType, right: FieldType) -> FieldType | None:
    """Type of ``left op right``; None when there is no such operation.

    An integer *literal* beside an unsigned column has to be passed as UNSIGNED.
    """
    if op in ("&", "|", "^"):
        return left if left is right and left in (INTEGER, UNSIGNED, BOOLEAN) else None
    if left not in NUMBERS or right not in NUMBERS:
        return None
    if FLOAT in (left, right):
        return FLOAT
    if left is not right:
        return None
    return FLOAT if op == "/" and left is INTEGER else left


def arithmetic(op: str, left: Vector | Constant, right: Vector | Constant, count: int) -> Vector:
    """``left op right`` row by row; no value where a side has none, or where the types do not go together."""
    left, right = _literal_beside(left, right), _literal_beside(right, left)
    type = arithmetic_type(op, left.type, right.type)
    if type is None:
        return nulls(FLOAT, count)
    a, b = _as_vector(left, count), _as_vector(right, count)
    valid = _both(a.valid, b.valid)
    if type is FLOAT:
        x, y = cast(a, FLOAT).values, cast(b, FLOAT).values
    else:
        x, y = a.values, b.values
    values = _OPERATIONS[op](x, y)
    if op == "%" and type is FLOAT:
        lost = np.isnan(values)
        if lost.any():
            values, valid = np.where(lost, 0.0, values), _both(valid, ~lost)
    return Vector(type, values, valid)


def _literal_beside(value: Vector | Constant, other: Vector | Constant) -> Vector | Constant:
    """An integer literal counts as unsigned beside an unsigned operand."""
    if isinstance(value, Constant) and value.type is INTEGER and other.type is UNSIGNED:
        return Constant(int(value.value) & 0xFFFFFFFFFFFFFFFF, UNSIGNED)
    return value


def _both(a: Mask | None, b: Mask | None) -> Mask | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _divide(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Division by zero is 0; integers give floats, unsigned give whole numbers."""
    zero = y == 0
    if x.dtype == np.uint64:
        return np.where(zero, np.uint64(0), x // np.where(zero, np.uint64(1), y))
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.where(zero, 0.0, x / np.where(zero, 1.0, y))


def _divide_whole(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """As ``_divide``, but integers give integers, cut towards zero."""
    if x.dtype != np.int64:
        return _divide(x, y)
    zero = y == 0
    by = np.where(zero, 1, y)
    return np.where(zero, 0, (x - np.fmod(x, by)) // by)


def _modulo(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """The sign is that of the left side; an integer modulo 0 is 0, a float one NaN."""
    if x.dtype == np.float64:
        return np.asarray(np.fmod(x, y))
    zero = y == 0
    return np.asarray(np.where(zero, x.dtype.type(0), np.fmod(x, np.where(zero, x.dtype.type(1), y))))


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divide,
    DIVIDE_WHOLE: _divide_whole,
    "%": _modulo,
    "&": np.bitwise_and,
    "|": np.bitwise_or,
    "^": np.bitwise_xor,
}


# ---------------------------------------------------------------- mathematical functions


def _round(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Halves go away from zero."""
    whole = np.trunc(values)
    return np.where(np.abs(values - whole) >= 0.5, whole + np.sign(values), whole)


# Name → what it does to floats; those of KEEP_TYPE leave integers whole.
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": _round,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
}
KEEP_TYPE = frozenset(("abs", "floor", "ceil", "round"))


def _log_to_base(x: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(x) / np.log(base)


FUNCTIONS_OF_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "atan2": np.arctan2,
    "pow": np.power,
    "log": _log_to_base,
}


def _function(expr: Function, args: list[Vector | Constant], count: int) -> Vector:
    vectors = [_as_vector(arg, count) for arg in args]
    if any(vector.type not in NUMBERS for vector in vectors):
        return nulls(FLOAT, count)
    first = vectors[0]
    if expr.name in KEEP_TYPE and first.type is not FLOAT:
        if expr.name == "abs" and first.type is INTEGER:
            return Vector(INTEGER, np.abs(first.values), first.valid)
        return first
    valid = first.valid
    for vector in vectors[1:]:
        valid = _both(valid, vector.valid)
    arrays = [cast(vector, FLOAT).values for vector in vectors]
    values = FUNCTIONS[expr.name](*arrays) if len(arrays) == 1 else FUNCTIONS_OF_TWO[expr.name](*arrays)
    lost = np.isnan(values)
    if lost.any():
        values, valid = np.where(lost, 0.0, values), _both(valid, ~lost)
    return Vector(FLOAT, values, valid)
