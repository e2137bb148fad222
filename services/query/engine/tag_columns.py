"""Tags of a subquery's answer as columns, for functions of them · pure.

Source: InfluxQL as observed on 2.9, section 12; InfluxDB 1.x ``query.subqueryBuilder``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from services.query.engine.frame import Piece, SeriesTable
from services.query.engine.scan import Source


def with_tag_columns(source: Source, names: Iterable[str]) -> Source:
    """*source* with those of its tags among *names* that are no columns as columns of strings, "" = no value."""
    tags = [name for name in names if name in source.table.codes]
    if not tags:
        return source
    return replace(source, pieces=[_with_columns(piece, source.table, tags) for piece in source.pieces])


def _with_columns(piece: Piece, table: SeriesTable, tags: Iterable[str]) -> Piece:
    sizes = np.diff(piece.offsets)
    columns = dict(piece.columns)
    for name in tags:
        if name not in columns:
            columns[name] = table.column(name, np.repeat(piece.series, sizes))
    return replace(piece, columns=columns)
