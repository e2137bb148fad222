"""Answers of subqueries as sources, and sources of one name joined · pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.query.engine.answers import Answer, starts_of
from services.query.engine.fill import without_bare_numbers
from services.query.engine.frame import Piece, SeriesTable
from services.query.engine.run import Task
from services.query.engine.scan import Source
from services.query.engine.spec import Filling
from services.query.engine.vectors import Indexes, Vector


def derive(name: str, task: Task, answer: Answer) -> Source:
    """The rows of *answer* as a source: its groups are series, its columns fields."""
    query, table = task.query, task.source.table
    if query.descending:
        answer = answer.take(np.arange(len(answer) - 1, -1, -1))
    starts = starts_of(answer.groups)
    groups = answer.groups[starts]
    examples = task.grouping.example[groups]
    codes, words = {}, {}
    for key in query.keys:
        codes[key], words[key] = _encode(table.values(key)[examples])
    columns: dict[str, Vector] = {}
    for output, column in zip(query.outputs, answer.columns, strict=False):
        columns.setdefault(output.name, without_bare_numbers(column) if query.fill is Filling.NUMBER else column)
    offsets = np.append(starts, len(answer))
    piece = Piece(np.arange(len(starts)), offsets, answer.times, columns)
    table = SeriesTable(len(starts), codes, words, np.arange(len(starts)), told=frozenset(query.keys))
    return Source(name, table, [piece] if len(answer) else [])


def empty_source(name: str) -> Source:
    """No rows and no series."""
    return Source(name, SeriesTable(0, {}, {}, np.zeros(0, np.int64)), [])


def _encode(values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Values as codes into words, of which the first is ""."""
    words, codes = np.unique(np.append(values, ""), return_inverse=True)
    return codes[:-1].astype(np.int32), words.astype(object)


def combine(sources: Sequence[Source]) -> Source:
    """Sources of one name (policies, subqueries) as one; equal times of a series in two of them stay two rows."""
    if len(sources) == 1:
        return sources[0]
    keys = sorted({key for source in sources for key in source.table.keys})
    codes, words = {}, {}
    for key in keys:
        codes[key], words[key] = _encode(np.concatenate([source.table.values(key) for source in sources]))
    shift = np.cumsum([0] + [source.table.count for source in sources])
    ranks = np.concatenate([source.table.ranks + at for source, at in zip(sources, shift, strict=False)])
    told = frozenset().union(*(source.table.told for source in sources))
    table = SeriesTable(int(shift[-1]), codes, words, ranks, told=told)
    ordered = sorted({(i, piece.shard) for i, source in enumerate(sources) for piece in source.pieces})
    places = {key: place for place, key in enumerate(ordered)}
    pieces = [
        replace(piece, series=piece.series + at, shard=places[i, piece.shard])
        for i, (source, at) in enumerate(zip(sources, shift.tolist(), strict=False))
        for piece in source.pieces
    ]
    return Source(sources[0].name, table, pieces)


def split_by_columns(source: Source, names: Iterable[str]) -> Source:
    """Columns *names* as tags: each series is split by their values."""
    for name in names:
        source = _split(source, name)
    return source


def _split(source: Source, name: str) -> Source:
    table = source.table
    row_words = [_row_words(piece, name) for piece in source.pieces]
    all_codes, words = _encode(np.concatenate(row_words) if row_words else np.zeros(0, dtype=object))
    width = len(words)
    pieces, used = [], np.zeros(0, np.int64)
    keys: list[Indexes] = []
    at = 0
    for piece, row in zip(source.pieces, row_words, strict=True):
        series = np.repeat(piece.series, np.diff(piece.offsets))
        keys.append(series * width + all_codes[at : at + len(row)])
        at += len(row)
    if keys:
        used = np.unique(np.concatenate(keys))
    for piece, key in zip(source.pieces, keys, strict=True):
        order = np.lexsort((np.arange(len(key)), piece.times, key))
        codes = np.searchsorted(used, key[order])
        starts = starts_of(codes)
        columns = {column: vector.take(order) for column, vector in piece.columns.items()}
        pieces.append(
            Piece(codes[starts], np.append(starts, len(order)), piece.times[order], columns, piece.shard)
        )  # fmt: skip
    old = used // width
    new_codes = {key: column[old] for key, column in table.codes.items()}
    new_codes[name] = (used % width).astype(np.int32)
    ranks = np.empty(len(used), np.int64)
    ranks[np.lexsort((used % width, table.ranks[old]))] = np.arange(len(used))
    split = SeriesTable(len(used), new_codes, {**table.words, name: words}, ranks, told=table.told - {name})
    return Source(source.name, split, pieces)


def _row_words(piece: Piece, name: str) -> NDArray[Any]:
    vector = piece.columns.get(name)
    if vector is None:
        return np.full(len(piece.times), "", dtype=object)
    words = vector.values.astype(object)
    return words if vector.valid is None else np.where(vector.valid, words, "")
