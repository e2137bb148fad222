"""Keys, values and series keys of measurements: read off their tables of series · pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.frame import SeriesTable
from services.query.influxql import tree
from services.query.schema.measurement_where import MeasurementFilter
from services.query.schema.where import Mask, series_mask

# Escapes of a series key in line protocol.
_IN_MEASUREMENT = str.maketrans({",": r"\,", " ": r"\ "})
_IN_TAG = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})


@dataclass(frozen=True, slots=True)
class Found:
    """One measurement of one bucket.

    Attributes:
        fields: (start of the shard, name, type).
        table: its series; None where nobody asked for them.
    """

    name: str
    fields: tuple[tuple[int, str, FieldType], ...]
    table: SeriesTable | None = None

    @property
    def count(self) -> int:
        return 0 if self.table is None else self.table.count

    def series(self, tags: tree.Expr | None, *, of_points: bool = True) -> tuple[SeriesTable, Mask | None]:
        """The table, and which of its series a condition keeps, None = all; *of_points* as for ``series_mask``."""
        assert self.table is not None
        fields = {name for _, name, _ in self.fields}
        return self.table, series_mask(self.table, self.name, tags, fields, of_points=of_points)


def measurement_names(found: Sequence[Sequence[Found]], keeps: MeasurementFilter) -> list[str]:
    """Names of the measurements that *keeps* keeps, in order."""
    return [entries[0].name for entries in found if keeps(entries[0].name, partial(_values, entries))]


def _values(entries: Sequence[Found], key: str) -> set[str]:
    """Values of the tag *key* over all the series of one measurement."""
    values: set[str] = set()
    for entry in entries:
        table, mask = entry.series(None)
        if key in table.codes:
            values.update(table.words[key][_used(table, key, mask)].tolist())
    return values


def tag_keys(entries: Sequence[Found], tags: tree.Expr | None) -> list[str]:
    """Keys that any of the kept series has, sorted."""
    keys: set[str] = set()
    for entry in entries:
        table, mask = entry.series(tags)
        keys.update(key for key in table.keys if len(_used(table, key, mask)))
    return sorted(keys)


def _used(table: SeriesTable, key: str, mask: Mask | None) -> NDArray[np.int64]:
    """Codes of the values of *key* that the kept series have, ascending; 0, which is no value, left out."""
    codes = table.codes[key] if mask is None else table.codes[key][mask]
    present = np.zeros(len(table.words[key]), dtype=bool)
    present[codes] = True
    present[:1] = False
    return np.flatnonzero(present)


def tag_values(
    entries: Sequence[Found], tags: tree.Expr | None, wanted: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """Keys and values of the kept series for each wanted key, row by row, sorted."""
    of_key: dict[str, list[list[str]]] = {}
    for entry in entries:
        table, mask = entry.series(tags)
        for key in table.keys:
            if wanted(key):
                of_key.setdefault(key, []).append(_sorted_values(table, key, mask))
    keys: list[str] = []
    values: list[str] = []
    for key in sorted(of_key):
        found = of_key[key]
        merged = found[0] if len(found) == 1 else sorted(set().union(*found))
        keys += [key] * len(merged)
        values += merged
    return keys, values


def _sorted_values(table: SeriesTable, key: str, mask: Mask | None) -> list[str]:
    codes = _used(table, key, mask)
    if len(codes) > 1:
        codes = codes[np.argsort(table.word_ranks(key)[codes])]
    values: list[str] = table.words[key][codes].tolist()
    return values


def field_keys(entries: Sequence[Found]) -> list[tuple[str, str]]:
    """(field, word of its type), sorted, each once."""
    return sorted({(name, FieldType(type).word) for entry in entries for _, name, type in entry.fields})


def series_keys(found: Sequence[Sequence[Found]], tags: tree.Expr | None) -> list[str]:
    """Keys of the kept series as line protocol writes them, sorted."""
    keys: list[str] = []
    for entries in found:
        of_measurement: set[str] = set()
        for entry in entries:
            table, mask = entry.series(tags)
            rows = np.arange(table.count) if mask is None else np.flatnonzero(mask)
            of_measurement.update(printed_keys(entry, rows))
        keys += of_measurement
    keys.sort()
    return keys


def printed_keys(entry: Found, rows: NDArray[np.int64]) -> list[str]:
    """The keys of the series *rows* as line protocol writes them."""
    table, _ = entry.series(None)
    printed = np.full(len(rows), entry.name.translate(_IN_MEASUREMENT), dtype=object)
    for key in table.keys:
        lead = f",{key.translate(_IN_TAG)}="
        # Each word is escaped once, however many series have it.
        words = np.array([lead + word.translate(_IN_TAG) if word else "" for word in table.words[key]], dtype=object)
        printed += words[table.codes[key][rows]]
    keys: list[str] = printed.tolist()
    return keys
