"""Types that a function can't take, in InfluxDB's words · pure.

They are refused before a row is looked at, wherever series are chosen. Source: InfluxQL as observed on 2.9, section 11,
and on 1.6.7.
"""

from __future__ import annotations

from collections.abc import Iterable

from common.errors import Invalid
from common.model import FieldType
from services.query.engine.functions import GIVES, NAME_IN_ERRORS, accepts
from services.query.engine.spec import Call, Ref, RefKind


def check_types(calls: Iterable[Call]) -> None:
    """Raise Invalid for the first of *calls* that can't take what it works on, those inside it first."""
    for call in calls:
        _type_of(call)


def _type_of(leaf: Ref | Call) -> FieldType | None:
    """Type of the values of *leaf*; None where it has no values."""
    if isinstance(leaf, Ref):
        return leaf.type if leaf.kind is RefKind.FIELD else None
    taken = _type_of(leaf.argument)
    if taken is None:
        return None
    # Of top() and bottom() with tags the best point of each tag set is found first.
    name = {"top": "max", "bottom": "min"}.get(leaf.name, leaf.name) if leaf.tags else leaf.name
    if not accepts(name, taken):
        word = NAME_IN_ERRORS.get(name, name.replace("_", " "))
        of_distinct = isinstance(leaf.argument, Call) and leaf.argument.name == "distinct"
        kind = "Interval" if of_distinct else "Interrupt"
        raise Invalid(f"unsupported {word} iterator type: *query.{taken.word}{kind}Iterator")
    return GIVES.get(leaf.name, taken)
