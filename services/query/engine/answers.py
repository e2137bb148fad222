"""Rows of an answer as columns, group after group, and LIMIT and OFFSET over them · pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.query.engine.expressions import evaluate
from services.query.engine.spec import Output, Query
from services.query.engine.vectors import Indexes, Mask, Vector


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows in the order in which they are told, those of a group together.

    Attributes:
        groups: group of each row.
        columns: one an output of the query.
    """

    groups: Indexes
    times: Indexes
    columns: Sequence[Vector]

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, at: Indexes | slice | Mask) -> Answer:
        """The rows at *at*, in that order."""
        return Answer(self.groups[at], self.times[at], [column.take(at) for column in self.columns])


def no_answer() -> Answer:
    """No rows at all."""
    return Answer(np.zeros(0, np.int64), np.zeros(0, np.int64), ())


def evaluate_outputs(outputs: Sequence[Output], leaves: Sequence[Vector], count: int) -> list[Vector]:
    """The columns of the answer from those of its leaves."""
    return [evaluate(output.expression, leaves, count) for output in outputs]


def starts_of(groups: Indexes) -> Indexes:
    """Where each group's rows begin."""
    if not len(groups):
        return groups
    return np.concatenate((np.zeros(1, np.int64), np.flatnonzero(groups[1:] != groups[:-1]) + 1))


def limit_rows(answer: Answer, query: Query) -> Answer:
    """What LIMIT and OFFSET leave of each group."""
    if not (query.limit or query.offset) or not len(answer):
        return answer
    starts = starts_of(answer.groups)
    place = np.arange(len(answer)) - np.repeat(starts, np.diff(np.append(starts, len(answer))))
    kept = place >= query.offset
    if query.limit:
        kept &= place < query.offset + query.limit
    return answer if kept.all() else answer.take(kept)


def most_rows(query: Query) -> int:
    """How many rows of a group can be told at most."""
    return query.offset + query.limit if query.limit else np.iinfo(np.int64).max
