"""What SELECTs were bound to, for those that are asked again · pure.

A dashboard asks the same texts over and over, and the parser keeps their trees. What a tree means hangs on the clock
only through ``now()`` and an open end of GROUP BY time(), and on what is stored only through names and types; while
those are the same, so is the query but for its times.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.query.engine.kept import Kept
from services.query.engine.spec import Query
from services.query.influxql import tree
from services.query.planning.check import Checked
from services.query.planning.names import Schema

# What one is counted for, and each of its columns: about what they take.
BYTES, COLUMN_BYTES = 4_000, 1_000
ROOM_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """One SELECT over one source.

    Attributes:
        checked: as it was when it was bound.
        query: None = it reads no field of the source.
    """

    checked: Checked
    schema: Schema
    query: Query | None

    def fits(self, checked: Checked, schema: Schema) -> bool:
        """Whether *checked*, of the same tree, asks the same of *schema* but for the times."""
        mine = self.checked
        same = checked is mine or (checked.condition == mine.condition and checked.windows == mine.windows)
        return same and schema == self.schema

    def at(self, checked: Checked, visible_from_ns: int, seed: int) -> Query | None:
        """The query with the times of *checked*, which fits."""
        if self.query is None:
            return None
        return self.query.at(checked.start_ns, checked.stop_ns, checked.bounded, visible_from_ns, seed)


class Preparations:
    """SELECTs that were asked before, by their trees; bounded in bytes, the least recently used go first."""

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        # By the identity of the tree, which what is kept keeps alive.
        self._kept: Kept[Prepared] = Kept(room_bytes)

    def find(self, select: tree.Select) -> Prepared | None:
        """What is known of this very tree."""
        return self._kept.find(id(select))

    def keep(self, prepared: Prepared) -> None:
        """Keep *prepared* for the next time."""
        columns = 0 if prepared.query is None else len(prepared.query.outputs)
        size = BYTES + COLUMN_BYTES * (columns + len(prepared.schema.fields) + len(prepared.schema.tags))
        self._kept.keep(id(prepared.checked.select), prepared, size)
