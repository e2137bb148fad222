"""Merges the small pieces of series dictionaries: a write that brings one series leaves a piece of one.

Pieces stand in the order of their series' numbers and only neighbours at the end merge, each time into at least twice
the longest, so a series is written again only some times. The work is one transaction of some milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.segment import decode_dictionary_arrays
from services.storage.catalog.interface import Catalog, Transaction
from services.storage.commits.committer import Committer
from services.storage.commits.draft import Draft
from services.storage.reading.dictionary import join_pieces, lost_in, whole_pieces
from services.storage.state.series import SeriesSet

MIN_PIECES = 8
MAX_SERIES = 20_000
MAX_BYTES = 4 << 20


class PieceSize(NamedTuple):
    """A piece of a dictionary: its first sequence number, how many series, how many bytes."""

    first: int
    series: int
    size: int


def plan_pieces(pieces: Sequence[PieceSize]) -> tuple[int, int] | None:
    """Sequence numbers (first, stop) of the pieces at the end that are worth merging; None = they are few, or large.

    Args:
        pieces: of one measurement, in order.
    """
    series = size = count = 0
    for piece in reversed(pieces):
        if count and (
            piece.series >= 2 * series or series + piece.series > MAX_SERIES or size + piece.size > MAX_BYTES
        ):
            break
        count, series, size = count + 1, series + piece.series, size + piece.size
    if count < MIN_PIECES:
        return None
    last = pieces[-1]
    return pieces[len(pieces) - count].first, last.first + last.series


class MergePieces:
    """The job of merging the pieces with the series *first* … *stop* − 1."""

    size = MAX_BYTES

    def __init__(self, generation: int, first: int, stop: int) -> None:
        self._generation = generation
        self._first = first
        self._stop = stop

    def run(self, transaction: Transaction, draft: Draft) -> bool:
        """Returns whether they are merged; damaged ones, and those that have changed, are left as they are."""
        rows = whole_pieces(
            transaction.read_dictionary(self._generation, self._first, self._stop - 1), self._first, self._stop
        )
        if rows[0][0] != self._first or sum(count for _, count, _ in rows) != self._stop - self._first:
            return False
        if lost_in(rows, self._first):
            return False
        piece = join_pieces(rows, self._first, self._stop, SeriesSet())
        ids = np.ascontiguousarray(decode_dictionary_arrays(piece)[0], "<u8").tobytes()
        transaction.delete_series(self._generation, self._first, self._stop)
        transaction.add_series(self._generation, self._first, self._stop - self._first, ids, piece)
        return True


async def merge_pieces(catalog: Catalog, committer: Committer) -> None:
    """Merge what is worth it, of all dictionaries."""
    for generation in await catalog.find_in_pieces(MIN_PIECES):
        found = plan_pieces([PieceSize(*row) for row in await catalog.list_pieces(generation)])
        if found is not None:
            await committer.submit(MergePieces(generation, *found))
