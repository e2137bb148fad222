"""SHOW … CARDINALITY: how many series, keys, values, fields or measurements there are, by tags · pure.

InfluxDB counts them as a SELECT would, ``count(distinct(_tagKey)) … GROUP BY``: conditions that only points could
answer hold for no series. Source: spec/influxql.md, 13; InfluxDB 1.6.7 as observed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from services.query.engine.frame import Grouping, SeriesTable
from services.query.engine.vectors import Indexes
from services.query.influxql import tree
from services.query.schema.tables import Found, printed_keys

Tags = tuple[tuple[str, str], ...]


def count(
    counted: tree.Counted,
    entries: Sequence[Found],
    tags: tree.Expr | None,
    keys: tuple[str, ...] = (),
    wanted: Callable[[str], bool] = lambda _: True,
) -> list[tuple[Tags, int]]:
    """How many of what is *counted* there are, by groups; those without any are left out.

    Args:
        entries: one measurement, in each of its policies; of ``Counted.MEASUREMENT`` all that are to be counted.
        tags: which series count; None = all.
        keys: tag keys to group series by, sorted.
        wanted: which tag keys count, for ``Counted.TAG_VALUES``.
    """
    if counted is tree.Counted.FIELD_KEY and tags is None and not keys:
        names = {name for entry in entries for _, name, _ in entry.fields}
        return [((), len(names))] if names else []
    if counted is tree.Counted.SERIES and len(entries) == 1:
        return _count_rows(entries[0], tags, keys)
    members: dict[Tags, set[Hashable]] = {}
    for entry in entries:
        table, mask = entry.series(tags, of_points=False)
        rows = np.arange(table.count) if mask is None else np.flatnonzero(mask)
        if len(rows):
            grouping = table.group(keys)
            names_of = _names(table, grouping)
            for group, member in _members(counted, entry, rows, grouping.of_series[rows], wanted):
                members.setdefault(names_of[group], set()).add(member)
    return sorted((names, len(found)) for names, found in members.items())


def _count_rows(entry: Found, tags: tree.Expr | None, keys: tuple[str, ...]) -> list[tuple[Tags, int]]:
    """Series of one table, of which each is another one."""
    table, mask = entry.series(tags, of_points=False)
    grouping = table.group(keys)
    of_series = grouping.of_series if mask is None else grouping.of_series[mask]
    counts = np.bincount(of_series, minlength=grouping.count)
    names_of = _names(table, grouping)
    return [(names_of[group], int(counts[group])) for group in np.flatnonzero(counts).tolist()]


def _names(table: SeriesTable, grouping: Grouping) -> list[Tags]:
    """The tags of each group."""
    if not grouping.keys:
        return [()] * grouping.count
    columns: list[list[Any]] = [table.values(key)[grouping.example].tolist() for key in grouping.keys]
    return [tuple(zip(grouping.keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _members(
    counted: tree.Counted, entry: Found, rows: Indexes, groups: Indexes, wanted: Callable[[str], bool]
) -> Iterable[tuple[int, Hashable]]:
    """What is counted with its group, some of it more than once; *groups* are those of the series *rows*."""
    if counted is tree.Counted.SERIES:
        return zip(groups.tolist(), printed_keys(entry, rows), strict=True)
    if counted is tree.Counted.MEASUREMENT:
        return ((group, entry.name) for group in np.unique(groups).tolist())
    if counted is tree.Counted.FIELD_KEY:
        names = {name for _, name, _ in entry.fields}
        return ((group, name) for group in np.unique(groups).tolist() for name in names)
    return _of_tags(counted, entry, rows, groups, wanted)


def _of_tags(
    counted: tree.Counted, entry: Found, rows: Indexes, groups: Indexes, wanted: Callable[[str], bool]
) -> Iterator[tuple[int, Hashable]]:
    table, _ = entry.series(None)
    for key in filter(wanted, table.keys):
        codes = table.codes[key][rows].astype(np.int64)
        present = codes != 0
        if counted is tree.Counted.TAG_KEY:
            for group in np.unique(groups[present]).tolist():
                yield group, key
            continue
        words = table.words[key]
        for pair in np.unique(groups[present] * len(words) + codes[present]).tolist():
            yield pair // len(words), (key, words[pair % len(words)])
