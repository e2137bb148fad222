"""Writes the dictionary of a measurement anew without series that have no rows left.

The pieces of the new generation are copied beside those in force, a slice a transaction. The last transaction takes
in what has come meanwhile, gives the tombstones the new numbers, and puts the new generation into force; the old pieces
are deleted later, in slices (``sweeper.py``). Segments name series by ids and stay as they are. Killed before the last
transaction nothing has happened, and what was copied is deleted at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np

from common.errors import Gone
from common.segment import SeriesIds, decode_dictionary_arrays, encode_dictionary_arrays
from common.tombstones import Tombstone, choice_mask, encode_choice
from services.storage.catalog.interface import Catalog, Transaction
from services.storage.catalog.segment_store import DamagedSegment
from services.storage.commits.committer import Committer
from services.storage.commits.draft import Draft
from services.storage.reading.dictionary import (
    SERIES_PER_READ,
    LoseSeries,
    PieceRow,
    join_pieces,
    lost_in,
    take_strings,
    whole_pieces,
)
from services.storage.reading.segments import READ_BYTES, Segments
from services.storage.state.generations import epoch_of, generation_of
from services.storage.state.series import Sequences, SeriesSet
from services.storage.state.state import State
from services.storage.sweep.emptied import Look, ids_of, learn_more

# How often what has come meanwhile is copied before the last transaction is left for a later time.
MAX_ROUNDS = 8
# What the last transaction copies by itself: slices of the dictionary.
MAX_LAST_SLICES = 2


class Copy:
    """The job of adding a piece to a generation that is not in force yet."""

    def __init__(self, found: Look, generation: int, first: int, ids: SeriesIds, piece: bytes) -> None:
        self._found = found
        self._generation = generation
        self._first = first
        self._ids = ids
        self._piece = piece
        self.size = len(piece) + ids.nbytes

    def run(self, transaction: Transaction, draft: Draft) -> None:
        """Raises Gone when what it is copied from is no longer in force."""
        if not self._found.is_current(draft):
            raise Gone("the series have been dropped, or have other numbers")
        transaction.require_space(self.size)
        add_piece(transaction, self._generation, self._first, self._ids, self._piece)


def add_piece(transaction: Transaction, generation: int, first: int, ids: SeriesIds, piece: bytes) -> None:
    """Store a piece of a dictionary."""
    transaction.add_series(generation, first, len(ids), np.ascontiguousarray(ids, "<u8").tobytes(), piece)


class Renumbering:
    """One measurement's way from one generation to the next; ``run`` once."""

    def __init__(self, catalog: Catalog, state: State, committer: Committer, segments: Segments, found: Look) -> None:
        self._catalog = catalog
        self._state = state
        self._committer = committer
        self._segments = segments
        self.found = found
        self.epoch = epoch_of(found.generation) + 1
        self.generation = generation_of(found.measurement.id, self.epoch)
        # The new set, and for each of its series the number that it had.
        self.series = SeriesSet()
        self.olds: list[Sequences] = []
        # Series of the old generation that are copied, or left out.
        self.until = found.series.count

    async def run(self) -> int | None:
        """Returns how many series are gone; None when there is nothing to gain any more, or too much has come.

        Raises:
            Gone: something changed under it. Nothing has happened.
        """
        try:
            await self._copy(np.flatnonzero(~self.found.emptied))
            for _ in range(MAX_ROUNDS):
                await self._copy(await learn_more(self._segments, self.found))
                if not self.found.emptied.any():
                    return None
                count = self.found.measurement.series.count
                await self._copy(np.arange(self.until, count))
                self.until = count
                if (gone := await self._committer.submit(Switch(self, self._state))) is not None:
                    return int(gone)
            return None
        finally:
            if self.found.measurement.generation != self.generation:
                self._state.stale.add(self.generation)

    async def _copy(self, olds: Sequences) -> None:
        """Copy the series with these numbers, ascending."""
        for some in slices_of(olds):
            first, last = int(some[0]), int(some[-1])
            rows = whole_pieces(
                await self._catalog.read_dictionary(self.found.generation, first, last), first, last + 1
            )
            lost = await asyncio.to_thread(lost_in, rows, rows[0][0])
            if lost:
                await self._committer.submit(LoseSeries(self.found.measurement, self.found.generation, lost))
                raise Gone("some series are damaged")
            ids, piece = await asyncio.to_thread(pick, rows, some)
            await self._committer.submit(Copy(self.found, self.generation, self.series.count, ids, piece))
            self.series = await asyncio.to_thread(self.series.with_added, ids)
            self.olds.append(some)


class Switch:
    """The job of putting the new generation into force."""

    size = 0

    def __init__(self, renumbering: Renumbering, state: State) -> None:
        self._renumbering = renumbering
        self._state = state

    def run(self, transaction: Transaction, draft: Draft) -> int | None:
        """Returns how many series are gone; None when too much has come meanwhile. Raises Gone."""
        work = self._renumbering
        found = work.found
        measurement = found.measurement
        # A segment that went into quarantine may hold rows of series that no other one names.
        if self._state.quarantined or not found.is_current(draft):
            raise Gone("the series have been dropped, or have other numbers")
        living = [each for each in measurement.segments.values() if draft.find_segment(each.id) is not None]
        reads = ids_of(found.unseen([*living, *draft.added_segments(measurement)]))
        if sum(read.size for read in reads) > READ_BYTES:
            return None
        try:
            again = found.named(transaction.read_chunks(reads))
        except DamagedSegment:  # it is told, and goes into quarantine, in the next round
            return None
        count = draft.series(measurement).count
        last = [*slices_of(again), *slices_of(np.arange(work.until, count))]
        if len(last) > MAX_LAST_SLICES or not work.series.count:
            return None
        number = draft.number = transaction.next_number()
        series, olds = work.series, [*work.olds]
        for some in last:
            first, stop = int(some[0]), int(some[-1]) + 1
            rows = whole_pieces(transaction.read_dictionary(found.generation, first, stop - 1), first, stop)
            ids, piece = pick(rows, some)
            add_piece(transaction, work.generation, series.count, ids, piece)
            series = series.with_added(ids)
            olds.append(some)
        held = draft.tombstones(measurement)
        stones = renumbered([stone for stone in held if stone != found.stone], np.concatenate(olds), count)
        transaction.set_epoch(measurement.id, work.epoch)
        transaction.delete_tombstones(measurement.id, [stone.number for stone in held])
        for stone in stones:
            transaction.add_tombstone(measurement.id, stone)
        draft.renumber(measurement, series, stones)
        draft.tell({"number": number, "tags": [f"schema:{measurement.bucket_id}"]})
        return int(found.emptied.sum()) - len(again)


def renumbered(stones: Sequence[Tombstone], olds: Sequences, count: int) -> tuple[Tombstone, ...]:
    """*stones* in other numbers; those that are of no series any more are left out.

    Args:
        olds: for each series the number that it had.
        count: of the numbers that there were.
    """
    found = []
    for stone in stones:
        if stone.is_whole:
            found.append(stone)
            continue
        mask = choice_mask(stone.series, count)[olds]
        if mask.any():
            found.append(Tombstone(stone.number, stone.start_ns, stone.stop_ns, encode_choice(mask)))
    return tuple(found)


def slices_of(numbers: Sequences) -> Iterator[Sequences]:
    """Ascending *numbers* in runs whose pieces one read brings into memory."""
    at = 0
    while at < len(numbers):
        stop = int(np.searchsorted(numbers, numbers[at] + SERIES_PER_READ))
        yield numbers[at:stop]
        at = stop


def pick(rows: Sequence[PieceRow], numbers: Sequences) -> tuple[SeriesIds, bytes]:
    """Ids, and a piece, of the series with these ascending *numbers*. Raises Gone when a piece of theirs is damaged."""
    first, stop = int(numbers[0]), int(numbers[-1]) + 1
    if lost_in(rows, first):
        raise Gone("some series are damaged")
    ids, keys = decode_dictionary_arrays(join_pieces(rows, first, stop, SeriesSet()))
    chosen = numbers - first
    return ids[chosen], encode_dictionary_arrays(ids[chosen], take_strings(keys, chosen))
