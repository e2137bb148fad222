"""One query over one source, from rows to answer · pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.query.engine.answers import Answer, starts_of
from services.query.engine.calls import CallRun
from services.query.engine.frame import Grouping, Rows
from services.query.engine.raw import run_raw
from services.query.engine.scan import Source, choose_all, choose_series, scan
from services.query.engine.spec import Query
from services.query.engine.tag_columns import with_tag_columns
from services.query.engine.vectors import Mask


@dataclass(slots=True)
class Task:
    """A query over a source, in two steps, so that its size is known before the work is begun.

    Attributes:
        wanted: series that its conditions leave, if they are known already.
        chosen: what ``choose`` has found.
    """

    query: Query
    source: Source
    wanted: Mask | None = None
    chosen: list[Rows] | None = None

    def choose(self) -> int:
        """Choose rows by series and time; gives their number."""
        query = self.query
        if query.derived:
            self.source = with_tag_columns(self.source, query.fields)
            # The ends of series that LIMIT may leave are sought by their values; here rows without any count too.
            query = replace(query, limit=0)
        if self.wanted is None:
            self.wanted = choose_series(self.source, query)
        self.chosen = choose_all(self.source, query, self.wanted, query.start_ns, query.stop_ns)
        return sum(len(rows) for rows in self.chosen)

    def run(self) -> Answer:
        """The rows of the answer; ``choose`` comes first."""
        if self.chosen is None:
            self.choose()
        if self.query.calls:
            return CallRun(self.query, self.source, self.wanted, self.chosen).answer()
        query = self.query
        return run_raw(query, scan(self.source, query, self.wanted, query.start_ns, query.stop_ns, self.chosen))

    @property
    def grouping(self) -> Grouping:
        return self.source.table.group(self.query.keys)


def tags_of(task: Task, groups: NDArray[np.int64]) -> list[tuple[tuple[str, str], ...]]:
    """The tags of each of *groups*: all keys grouped by, missing ones as ""."""
    query, table = task.query, task.source.table
    if not query.keys:
        return [()] * len(groups)
    examples = task.grouping.example[groups]
    columns = [
        table.words[key][table.codes[key][examples]].tolist() if key in table.codes else [""] * len(groups)
        for key in query.keys
    ]
    return [tuple(zip(query.keys, values, strict=True)) for values in zip(*columns, strict=True)]


def by_group(answer: Answer) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of each group of the answer, in its order."""
    starts = starts_of(answer.groups).tolist()
    return zip(starts, [*starts[1:], len(answer)], strict=True)
