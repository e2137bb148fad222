"""Wildcards and regular expressions of a SELECT as names, and the names of its columns · pure.

Source: InfluxQL as observed on 2.9, sections 9.2 and 9.3; InfluxDB 1.x ``SelectStatement.RewriteFields`` and
``ColumnNames``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.errors import Invalid
from common.model import FieldType
from services.query.engine.functions import accepts
from services.query.influxql import tree
from services.query.planning.check import Checked

CompilePattern = Callable[[tree.RegexLiteral], Callable[[str], bool]]


@dataclass(frozen=True, slots=True)
class Schema:
    """What a source holds.

    Attributes:
        fields: name → type over the shards of the range.
        tags: tag keys; of a subquery what it groups by.
        tag_columns: of a subquery, those of *fields* that are tags of its own source.
        derived: it is a subquery: a name that it does not have is an empty tag to a condition, whatever its cast.
    """

    fields: Mapping[str, FieldType]
    tags: frozenset[str]
    tag_columns: frozenset[str] = frozenset()
    derived: bool = False


@dataclass(frozen=True, slots=True)
class Expanded:
    """The fields and groups of a SELECT by name.

    Attributes:
        columns: (name, expression) of each column but the time.
        keys: tags grouped by, sorted.
        inherited: those of them that only the queries around this one name.
        types: type of each field over all sources.
    """

    columns: tuple[tuple[str, tree.Expr], ...]
    keys: tuple[str, ...]
    inherited: frozenset[str]
    types: Mapping[str, FieldType]


# ---------------------------------------------------------------- wildcards and names


def expand(checked: Checked, schemas: Sequence[Schema], compile_pattern: CompilePattern) -> Expanded:
    """Name the columns and groups of *checked*. Raises Invalid, e.g. ``unable to use tag wildcard in count()``."""
    types: dict[str, FieldType] = {}
    tags: set[str] = set()
    tag_columns: set[str] = set()
    for schema in schemas:
        for name, type in schema.fields.items():
            types[name] = min(types.get(name, type), type)
        tags |= schema.tags
        tag_columns |= schema.tag_columns
    dimensions = checked.select.dimensions
    wild = any(isinstance(each, tree.Wildcard | tree.RegexLiteral) for each in dimensions)
    named = {each.name for each in dimensions if isinstance(each, tree.VarRef)}
    refs = [(name, name in tag_columns) for name in types]
    if not wild:
        refs += [(name, True) for name in tags - named]
    refs.sort()
    expander = _Expander(refs, types, compile_pattern)
    fields = [new for each in checked.fields for new in expander.field(each)]
    keys = set(named)
    for each in dimensions:
        if isinstance(each, tree.Wildcard):
            keys |= tags
        elif isinstance(each, tree.RegexLiteral):
            keys |= set(filter(compile_pattern(each), tags))
    inherited = checked.inherited_keys - keys
    return Expanded(tuple(_named(_with_top_columns(fields))), tuple(sorted(keys | inherited)), inherited, types)


@dataclass(frozen=True, slots=True)
class _Expander:
    """Replaces wildcards by names; *refs* are (name, is it a tag), sorted."""

    refs: Sequence[tuple[str, bool]]
    types: Mapping[str, FieldType]
    compile_pattern: CompilePattern

    def field(self, each: tree.Field) -> list[tree.Field]:
        expr = each.expr
        if isinstance(expr, tree.Wildcard):
            return [
                tree.Field(tree.VarRef(name, "tag" if tag else "field"))
                for name, tag in self.refs
                if expr.kind is None or (expr.kind == "tag") is tag
            ]
        if isinstance(expr, tree.RegexLiteral):
            matches = self.compile_pattern(expr)
            return [
                tree.Field(tree.VarRef(name, "tag" if tag else "field")) for name, tag in self.refs if matches(name)
            ]
        if isinstance(expr, tree.Call):
            return self._call(each, expr)
        return [each]

    def _call(self, each: tree.Field, call: tree.Call) -> list[tree.Field]:
        """A call whose innermost argument is a wildcard becomes one call for each field that it can take."""
        inner = call
        while inner.args and isinstance(inner.args[0], tree.Call):
            inner = inner.args[0]
        if not inner.args:
            return [each]
        wildcard = inner.args[0]
        matches: Callable[[str], bool] = lambda name: True  # noqa: E731
        if isinstance(wildcard, tree.RegexLiteral):
            matches = self.compile_pattern(wildcard)
        elif not isinstance(wildcard, tree.Wildcard):
            return [each]
        elif wildcard.kind == "tag":
            raise Invalid(f"unable to use tag wildcard in {inner.name}()")
        lead = each.alias or call.name
        return [
            tree.Field(_replace_innermost(call, tree.VarRef(name, "field")), f"{lead}_{name}")
            for name, tag in self.refs
            if not tag and accepts(inner.name, self.types[name]) and matches(name)
        ]


def _replace_innermost(call: tree.Call, argument: tree.Expr) -> tree.Call:
    first = call.args[0]
    new = _replace_innermost(first, argument) if isinstance(first, tree.Call) else argument
    return tree.Call(call.name, (new, *call.args[1:]))


def _with_top_columns(fields: Iterable[tree.Field]) -> Iterable[tree.Field]:
    """The tags of top() and bottom() are columns after it."""
    for each in fields:
        yield each
        if isinstance(each.expr, tree.Call) and each.expr.name in ("top", "bottom"):
            yield from (tree.Field(arg) for arg in each.expr.args[1:] if isinstance(arg, tree.VarRef))


def _named(fields: Iterable[tree.Field]) -> Iterable[tuple[str, tree.Expr]]:
    """Columns with their names: aliases as they are, automatic ones numbered when taken."""
    fields = list(fields)
    taken = {each.alias: 1 for each in fields if each.alias}
    for each in fields:
        name = each.alias or column_name(each.expr)
        if not each.alias:
            if name in taken:
                number = taken[name]
                while f"{name}_{number}" in taken:
                    number += 1
                taken[name] = number + 1
                name = f"{name}_{number}"
            taken[name] = taken.get(name, 0) + 1
        yield name, each.expr


def column_name(expr: tree.Expr) -> str:
    """The automatic name of a column."""
    if isinstance(expr, tree.ParenExpr):
        return column_name(expr.expr)
    if isinstance(expr, tree.BinaryExpr):
        return "_".join(_names_inside(expr))
    if isinstance(expr, tree.VarRef | tree.Call):
        return expr.name
    return "distinct" if isinstance(expr, tree.Distinct) else ""


def _names_inside(expr: tree.Expr) -> list[str]:
    if isinstance(expr, tree.VarRef | tree.Call):
        return [expr.name]
    return [name for child in tree.children(expr) for name in _names_inside(child)]
