"""What the engine is asked to do: a SELECT whose names, types and times are settled · pure.

Made by the plan of a language for one measurement (or one subquery's rows); the engine knows no language.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from common.model import MIN_TIME_NS, FieldType
from services.query.engine.expressions import Expression, has_pattern
from services.query.engine.window import Windows


class RefKind(Enum):
    """What a name stands for in the source at hand."""

    FIELD = "field"
    TAG = "tag"
    UNKNOWN = "unknown"  # a column of nulls


@dataclass(frozen=True, slots=True)
class Ref:
    """A column of the source. ``type`` is that of the whole query, which differing shards are cast to."""

    name: str
    kind: RefKind
    type: FieldType


@dataclass(frozen=True, slots=True)
class Call:
    """A function over a column or over another call.

    Attributes:
        name: a key of the tables of aggregates, selectors or transformations.
        argument: what it works on.
        options: further arguments, as numbers and strings; durations in ns.
        tags: of top() and bottom(): columns of which each combination counts once.
    """

    name: str
    argument: Ref | Call
    options: tuple[int | float | str, ...] = ()
    tags: tuple[Ref, ...] = ()

    @property
    def column(self) -> Ref:
        """The column that it works on, through the calls inside it."""
        inner = self.argument
        while isinstance(inner, Call):
            inner = inner.argument
        return inner


class Filling(Enum):
    """What stands in windows without a value."""

    NULL = "null"
    NONE = "none"
    PREVIOUS = "previous"
    LINEAR = "linear"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Output:
    """One column of the answer: an expression over the leaves. A plain tag column is marked, for outer queries."""

    name: str
    expression: Expression
    tag: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on rows: an expression over *leaves*; a tag that is missing counts as ""."""

    expression: Expression
    leaves: tuple[Ref, ...]

    @property
    def only_tags(self) -> bool:
        """Whether whole series hold or don't."""
        return all(leaf.kind is not RefKind.FIELD for leaf in self.leaves)


@dataclass(frozen=True)
class Query:
    """One SELECT over one source.

    Attributes:
        leaves: what ``outputs`` are made of: columns, or calls, or one selector call and the columns that go with it.
        start_ns, stop_ns: the range; ``bounded`` tells whether it has a lower end at all.
        visible_from_ns: older rows are past the bucket's retention.
        filters: all of them have to hold.
        keys: tags grouped by, sorted.
        inherited: those of *keys* that the query around this one groups by: it gets them, but no names of them.
        windows: None without GROUP BY time().
        limit, offset: rows of each group; 0 = none.
        slimit, soffset: groups; 0 = none.
        seed: of what is chosen at random.
        max_cells: how many values a filled answer may have at most (by memory).
        derived: the source is a subquery: each of its rows is one, even if all that is selected of it is null.
        elsewhere: names that only other sources of the SELECT have: fill() gives their calls the number all the same.
    """

    leaves: tuple[Ref | Call, ...]
    outputs: tuple[Output, ...]
    start_ns: int
    stop_ns: int
    bounded: bool
    visible_from_ns: int = MIN_TIME_NS
    filters: tuple[Filter, ...] = ()
    keys: tuple[str, ...] = ()
    inherited: frozenset[str] = frozenset()
    windows: Windows | None = None
    fill: Filling = Filling.NULL
    fill_value: int | float = 0
    descending: bool = False
    limit: int = 0
    offset: int = 0
    slimit: int = 0
    soffset: int = 0
    time_name: str = "time"
    seed: int = 0
    max_cells: int = 1 << 26
    derived: bool = False
    elsewhere: frozenset[str] = frozenset()

    # What follows hangs on no time, so that ``at`` may hand it on.

    @cached_property
    def fields(self) -> frozenset[str]:
        """Names of the columns that ``leaves`` read as fields."""
        refs = [leaf.column if isinstance(leaf, Call) else leaf for leaf in self.leaves]
        return frozenset(ref.name for ref in refs if ref.kind is RefKind.FIELD)

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Call))

    @cached_property
    def fields_read(self) -> tuple[str, ...]:
        """The fields that have to be read for leaves and filters, sorted."""
        refs = [leaf for condition in self.filters for leaf in condition.leaves]
        for leaf in self.leaves:
            while isinstance(leaf, Call):
                refs += leaf.tags
                leaf = leaf.argument
            refs.append(leaf)
        return tuple(sorted({ref.name for ref in refs if ref.kind is RefKind.FIELD}))

    @cached_property
    def has_pattern(self) -> bool:
        """Whether a condition holds a regular expression."""
        return any(has_pattern(condition.expression) for condition in self.filters)

    def at(self, start_ns: int, stop_ns: int, bounded: bool, visible_from_ns: int, seed: int) -> Query:
        """The same query at other times."""
        # Not dataclasses.replace, which takes ten times as long for so many attributes.
        other = object.__new__(Query)
        times = {"start_ns": start_ns, "stop_ns": stop_ns, "bounded": bounded, "visible_from_ns": visible_from_ns}
        other.__dict__.update(self.__dict__, **times, seed=seed)
        return other
