"""``GROUP BY time(…) ORDER BY time DESC LIMIT n``: the newest windows first, older ones only if need be · pure.

Segments that are older than the windows asked for are not read. Where it can't be told from the newest windows alone
that the answer is whole (fills that look at other windows, several calls, groups by tags), nothing is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from services.query.engine.answers import Answer
from services.query.engine.functions import NEVER_FILLED, TRANSFORMS
from services.query.engine.spec import Filling, Query
from services.query.engine.window import Windows

# The first try looks at as many windows as rows are wanted, each other one at so many times more.
GROWTH = 16
TRIES = 2
# Answers with more rows are not kept to see whether they are whole.
MAX_ROWS = 10_000
# What looks at other windows, or answers with several rows a window.
_NOT_BY_WINDOW = TRANSFORMS | NEVER_FILLED
_COUNTS = frozenset(("count", "count_distinct"))


def tries(query: Query) -> Iterator[Query]:
    """*query* over its newest windows only: first a few, then more."""
    windows = query.windows
    rows = query.limit + query.offset
    if windows is None or not _is_simple(query, windows) or rows > MAX_ROWS:
        return
    last_ns = windows.start(query.stop_ns - 1)
    for attempt in range(TRIES):
        start_ns = last_ns - (rows * GROWTH**attempt - 1) * windows.width_ns
        if start_ns <= query.start_ns:
            return
        yield replace(query, start_ns=start_ns)


def _is_simple(query: Query, windows: Windows) -> bool:
    call = query.calls[0] if len(query.calls) == 1 else None
    if call is None or call.name in _NOT_BY_WINDOW or windows.zone is not None:
        return False
    if not query.descending or not query.limit or query.keys or query.slimit or query.soffset:
        return False
    if query.fill is Filling.NONE:
        return True
    # Without a lower bound the answer begins at the first point there is: a filled row does not tell that there is one.
    return query.fill is Filling.NULL and (query.bounded or call.name not in _COUNTS)


def suffices(query: Query, told: Sequence[Answer]) -> bool:
    """Whether *told*, the answer over some newest windows, is that of *query*."""
    if sum(map(len, told)) < query.limit:
        return False
    if query.bounded or query.fill is Filling.NONE:
        return True
    return all(bool(column.mask[-1]) for column in told[-1].columns)
