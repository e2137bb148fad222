"""A checked SELECT and what its sources hold → what the engine is asked to do · pure.

Names become columns of known type; expressions are checked for types that don't go together. Source: InfluxQL as
observed on 2.9, sections 6 and 10; InfluxDB 1.x ``influxql.TypeValuerEval``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import Invalid, NotImplementedHere
from common.model import MAX_TIME_NS, MIN_TIME_NS, FieldType
from services.query.engine import spec
from services.query.engine.expressions import (
    DIVIDE_WHOLE,
    FUNCTIONS_OF_TWO,
    KEEP_TYPE,
    Binary,
    Constant,
    Expression,
    Function,
    Leaf,
    Pattern,
    arithmetic_type,
)
from services.query.engine.functions import DERIVATIVES, GIVES
from services.query.engine.spec import Call, Filter, Output, Query, Ref, RefKind
from services.query.engine.vectors import NUMBERS
from services.query.influxql import tree
from services.query.influxql.format import describe_expr
from services.query.planning.check import Checked
from services.query.planning.fields import distinct_argument, math_arguments
from services.query.planning.names import CompilePattern, Expanded, Schema

FLOAT, INTEGER, UNSIGNED = FieldType.FLOAT, FieldType.INTEGER, FieldType.UNSIGNED
STRING, BOOLEAN = FieldType.STRING, FieldType.BOOLEAN
SECOND_NS = 1_000_000_000
TYPES = {type.word: type for type in FieldType}
# No answer has so many rows, and LIMIT and OFFSET together stay within 64 bits.
MOST_ROWS = (1 << 62) - 1

# ---------------------------------------------------------------- binding to a source


def bind(
    checked: Checked,
    expanded: Expanded,
    schema: Schema,
    compile_pattern: CompilePattern,
    *,
    visible_from_ns: int,
    seed: int,
    max_cells: int,
) -> Query | None:
    """What the engine is asked of one source; None when it reads no field of it.

    Raises:
        Invalid: ``type error: …``.
    """
    binder = _Binder(checked, schema, expanded.types, compile_pattern)
    outputs = [
        Output(name, binder.expression(expr), binder.is_tag(expr)) for name, expr in expanded.columns
    ]  # fmt: skip
    if not any(_reads(leaf, schema) for leaf in binder.leaves):
        return None
    limits = checked.select.limits
    return Query(
        leaves=tuple(binder.leaves),
        outputs=tuple(outputs),
        start_ns=checked.start_ns,
        stop_ns=checked.stop_ns,
        bounded=checked.bounded,
        visible_from_ns=visible_from_ns,
        filters=tuple(binder.filters(checked.condition)),
        keys=expanded.keys,
        inherited=expanded.inherited,
        windows=checked.windows,
        fill=spec.Filling(checked.fill.value),
        fill_value=checked.select.fill_value or 0,
        descending=checked.descending,
        limit=min(limits.limit, MOST_ROWS),
        offset=min(limits.offset, MOST_ROWS),
        slimit=min(limits.slimit, MOST_ROWS),
        soffset=min(limits.soffset, MOST_ROWS),
        time_name=checked.time_name,
        seed=seed,
        max_cells=max_cells,
        derived=schema.derived,
        elsewhere=frozenset(expanded.types.keys() - schema.fields.keys()),
    )


def _reads(leaf: Ref | Call, schema: Schema) -> bool:
    """Whether it reads a field; of a subquery tags are as good."""
    kind = (leaf.column if isinstance(leaf, Call) else leaf).kind
    return kind is RefKind.FIELD or (schema.derived and kind is RefKind.TAG)


@dataclass(slots=True)
class _Binder:
    checked: Checked
    schema: Schema
    types: Mapping[str, FieldType]
    compile_pattern: CompilePattern
    leaves: dict[Ref | Call, int] = field(default_factory=dict)  # each with its place
    seen: frozenset[str] = frozenset()

    # ------------------------------------------------------------ names

    def ref(self, expr: tree.VarRef) -> Ref:
        """What a selected name stands for."""
        name, cast = expr.name, expr.cast
        if cast != "tag" and name in self.schema.fields and not (cast == "field" and name in self.schema.tag_columns):
            type = TYPES.get(cast or "", self.types.get(name, self.schema.fields[name]))
            kind = RefKind.TAG if name in self.schema.tag_columns else RefKind.FIELD
            return Ref(name, kind, type)
        if cast in (None, "tag") and (name in self.schema.tags or name in self.schema.tag_columns):
            return Ref(name, RefKind.TAG, STRING)
        return Ref(name, RefKind.UNKNOWN, self.types.get(name, FLOAT))

    def is_tag(self, expr: tree.Expr) -> bool:
        return isinstance(expr, tree.VarRef) and self.ref(expr).kind is RefKind.TAG

    # ------------------------------------------------------------ fields

    def expression(self, expr: tree.Expr) -> Expression:
        """A field as an expression over leaves, its types checked."""
        self._type(expr)
        return self._expression(expr)

    def _expression(self, expr: tree.Expr) -> Expression:
        if isinstance(expr, tree.ParenExpr):
            return self._expression(expr.expr)
        if isinstance(expr, tree.VarRef):
            return self._leaf(self.ref(expr))
        if isinstance(expr, tree.BinaryExpr):
            return Binary(expr.op, self._expression(expr.left), self._expression(expr.right))
        if isinstance(expr, tree.Call):
            if math_arguments(expr.name) is not None:
                return Function(expr.name, tuple(self._expression(arg) for arg in expr.args))
            return self._leaf(self._call(expr))
        return constant(expr)

    def _leaf(self, leaf: Ref | Call) -> Leaf:
        return Leaf(self.leaves.setdefault(leaf, len(self.leaves)))

    def _call(self, call: tree.Call) -> Call:
        inner = distinct_argument(call.args[0]) if call.name == "count" else None
        if inner is not None:
            return Call("count_distinct", self._argument(inner.args[0]))
        argument = call.args[0]
        if call.name == "sum_hll":
            raise NotImplementedHere("not implemented: sum_hll() without count_hll() around it")
        if call.name == "count_hll" and isinstance(argument, tree.Call):
            return Call("count_hll", self._argument(argument.args[0]))
        if isinstance(argument, tree.Distinct):
            argument = tree.Call("distinct", (tree.VarRef(argument.name),))
        bound = self._call(argument) if isinstance(argument, tree.Call) else self._argument(argument)
        tags = tuple(self.ref(arg) for arg in call.args[1:] if isinstance(arg, tree.VarRef))
        options = tuple(_option(arg) for arg in call.args[1:] if not isinstance(arg, tree.VarRef))
        if not options:
            options = self._default_options(call.name, isinstance(bound, Call))
        return Call(call.name, bound, options, tags)

    def _default_options(self, name: str, nested: bool) -> tuple[int, ...]:
        """Units that were not given."""
        if name in DERIVATIVES:
            windows = self.checked.windows
            return (windows.width_ns if nested and windows is not None else SECOND_NS,)
        if name == "integral":
            return (SECOND_NS,)
        return (1,) if name == "elapsed" else ()

    def _argument(self, expr: tree.Expr) -> Ref:
        if not isinstance(expr, tree.VarRef):
            raise Invalid("expected field argument")
        ref = self.ref(expr)
        if ref.kind is RefKind.TAG and self.schema.derived:
            # What a subquery groups by or selects is a column of strings to functions: count(distinct(host)).
            return Ref(ref.name, RefKind.FIELD, STRING)
        return ref

    # ------------------------------------------------------------ types

    def _type(self, expr: tree.Expr) -> FieldType | str | None:
        """Type of *expr*, ``"tag"``, or None where it is not known. Raises Invalid: ``type error: …``."""
        if isinstance(expr, tree.ParenExpr):
            return self._type(expr.expr)
        if isinstance(expr, tree.VarRef):
            ref = self.ref(expr)
            if ref.kind is RefKind.TAG:
                return "tag"
            return ref.type if ref.kind is RefKind.FIELD or expr.name in self.types else None
        if isinstance(expr, tree.Call):
            return self._call_type(expr)
        if isinstance(expr, tree.BinaryExpr):
            return self._binary_type(expr)
        literal = constant(expr)
        return literal.type

    def _call_type(self, call: tree.Call) -> FieldType | str | None:
        if math_arguments(call.name) is not None:
            types = [self._type(arg) for arg in call.args]
            return types[0] if call.name in KEEP_TYPE and types[0] in NUMBERS else FLOAT
        if call.name in GIVES:
            return GIVES[call.name]
        return self._type(call.args[0]) if call.args else None

    def _binary_type(self, expr: tree.BinaryExpr) -> FieldType | None:
        left, right = self._type(expr.left), self._type(expr.right)
        if left is None or right is None:
            return None
        if isinstance(left, FieldType) and isinstance(right, FieldType):
            left, right = _literal_type(expr.left, left, right), _literal_type(expr.right, right, left)
            result = arithmetic_type(expr.op, left, right)
            if result is not None:
                return result
            if {left, right} == {INTEGER, UNSIGNED}:
                raise Invalid(
                    f"type error: {self._typed(expr)}: cannot use {expr.op} between an integer and unsigned, "
                    "an explicit cast is required"
                )
        raise Invalid(f"type error: {self._typed(expr)}: incompatible types: {_word(left)} and {_word(right)}")

    def _typed(self, expr: tree.Expr) -> str:
        """*expr* as text, each name with its type."""
        return describe_expr(self._with_types(expr))

    def _with_types(self, expr: tree.Expr) -> tree.Expr:
        if isinstance(expr, tree.VarRef):
            type = self._type(expr)
            return tree.VarRef(expr.name, None if type is None else _word(type))
        if isinstance(expr, tree.BinaryExpr):
            return tree.BinaryExpr(expr.op, self._with_types(expr.left), self._with_types(expr.right))
        if isinstance(expr, tree.ParenExpr):
            return tree.ParenExpr(self._with_types(expr.expr))
        if isinstance(expr, tree.Call):
            return tree.Call(expr.name, tuple(self._with_types(arg) for arg in expr.args))
        return expr

    # ------------------------------------------------------------ conditions

    def filters(self, condition: tree.Expr | None) -> Iterable[Filter]:
        """The condition in parts that all have to hold, so that those on tags can choose whole series."""
        self.seen = _names_seen(condition)
        stack = [] if condition is None else [condition]
        while stack:
            expr = stack.pop()
            if isinstance(expr, tree.ParenExpr):
                stack.append(expr.expr)
            elif isinstance(expr, tree.BinaryExpr) and expr.op == "AND":
                stack += [expr.right, expr.left]
            else:
                leaves: dict[Ref, int] = {}
                yield Filter(self._condition(expr, leaves), tuple(leaves))

    def _condition(self, expr: tree.Expr, leaves: dict[Ref, int]) -> Expression:
        if isinstance(expr, tree.ParenExpr):
            return self._condition(expr.expr, leaves)
        if isinstance(expr, tree.VarRef):
            return Leaf(leaves.setdefault(self._condition_ref(expr), len(leaves)))
        if isinstance(expr, tree.RegexLiteral):
            return Pattern(self.compile_pattern(expr), expr.pattern)
        if isinstance(expr, tree.Call):
            return Function(expr.name, tuple(self._condition(arg, leaves) for arg in expr.args))
        if isinstance(expr, tree.BinaryExpr):
            left, right = self._condition(expr.left, leaves), self._condition(expr.right, leaves)
            mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
            if isinstance(left, Constant) and not isinstance(right, Constant) and expr.op in tree.COMPARISONS:
                # A literal on the left: the scan looks for it on the right.
                return Binary(mirrored.get(expr.op, expr.op), right, left)
            return Binary(DIVIDE_WHOLE if expr.op == "/" else expr.op, left, right)
        return constant(expr)

    def _condition_ref(self, expr: tree.VarRef) -> Ref:
        ref = self.ref(expr)
        if expr.name not in self.seen:
            return Ref(expr.name, RefKind.UNKNOWN, ref.type)
        if ref.kind is RefKind.UNKNOWN:
            # What a subquery does not give is an empty tag whatever its cast (InfluxDB 1.x, query.newFilterCursor).
            casts = not self.schema.derived and (expr.cast in TYPES or expr.cast == "field")
            return Ref(ref.name, RefKind.FIELD, ref.type) if casts else Ref(expr.name, RefKind.TAG, STRING)
        # A tag column of a subquery differs from row to row, as a field does.
        return Ref(ref.name, RefKind.FIELD, ref.type) if ref.name in self.schema.tag_columns else ref


def _names_seen(condition: tree.Expr | None) -> frozenset[str]:
    """Names of a condition that have values there: inside a function only those that are arguments themselves.

    So ``abs(temp - 20) < 1`` finds nothing, as recorded, unless ``temp`` stands elsewhere too (InfluxDB,
    ``influxql.walkRefs``).
    """
    names: set[str] = set()
    stack = [] if condition is None else [condition]
    while stack:
        expr = stack.pop()
        if isinstance(expr, tree.VarRef):
            names.add(expr.name)
        elif isinstance(expr, tree.Call):
            names.update(arg.name for arg in expr.args if isinstance(arg, tree.VarRef))
        else:
            stack += tree.children(expr)
    return frozenset(names)


def _literal_type(expr: tree.Expr, type: FieldType, other: FieldType) -> FieldType:
    return UNSIGNED if isinstance(expr, tree.IntegerLiteral) and other is UNSIGNED else type


def _word(type: FieldType | str) -> str:
    return type if isinstance(type, str) else type.word


def constant(expr: tree.Expr) -> Constant:
    """A literal for the engine."""
    if isinstance(expr, tree.IntegerLiteral):
        return Constant(expr.value, INTEGER)
    if isinstance(expr, tree.UnsignedLiteral):
        return Constant(expr.value, UNSIGNED)
    if isinstance(expr, tree.NumberLiteral):
        return Constant(expr.value, FLOAT)
    if isinstance(expr, tree.BooleanLiteral):
        return Constant(expr.value, BOOLEAN)
    if isinstance(expr, tree.StringLiteral):
        return Constant(expr.value, STRING)
    if isinstance(expr, tree.DurationLiteral | tree.TimeLiteral):
        return Constant(min(max(expr.ns, MIN_TIME_NS), MAX_TIME_NS), INTEGER)
    raise Invalid(f"invalid expression: {describe_expr(expr)}")


def _option(expr: tree.Expr) -> int | float | str:
    if isinstance(expr, tree.DurationLiteral):
        return expr.ns
    if isinstance(expr, tree.IntegerLiteral | tree.NumberLiteral | tree.StringLiteral):
        return expr.value
    raise Invalid(f"invalid argument: {describe_expr(expr)}")


def output_types(query: Query) -> list[FieldType | None]:
    """Type of each output before anything is read, for an outer query; None = not known."""
    leaves = [_leaf_type(leaf, query.elsewhere) for leaf in query.leaves]
    return [_expression_type(output.expression, leaves) for output in query.outputs]


def _leaf_type(leaf: Ref | Call, elsewhere: frozenset[str]) -> FieldType | None:
    if isinstance(leaf, Ref):
        # Of a name that another measurement of FROM has, this one gives nulls.
        return None if leaf.kind is RefKind.UNKNOWN and leaf.name not in elsewhere else leaf.type
    # Asked by name: FLOAT is 0, and so as false as what is not there.
    return GIVES[leaf.name] if leaf.name in GIVES else _leaf_type(leaf.argument, elsewhere)


def _expression_type(expr: Expression, leaves: Sequence[FieldType | None]) -> FieldType | None:
    if isinstance(expr, Leaf):
        return leaves[expr.index]
    if isinstance(expr, Constant):
        return expr.type
    if isinstance(expr, Function):
        first = _expression_type(expr.args[0], leaves)
        return first if expr.name in KEEP_TYPE and expr.name not in FUNCTIONS_OF_TWO and first in NUMBERS else FLOAT
    if isinstance(expr, Binary):
        left, right = _expression_type(expr.left, leaves), _expression_type(expr.right, leaves)
        if left is None or right is None:
            return None
        if UNSIGNED in (left, right) and INTEGER in (left, right):
            return UNSIGNED
        return arithmetic_type(expr.op, left, right)
    return None
