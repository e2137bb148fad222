"""The series dictionary as it is read: pieces from a sequence number on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.codecs.strings import concat_strings, gather_strings
from common.errors import Gone
from common.log import get_logger
from common.segment import (
    DamagedChunk,
    SeriesIds,
    StringArray,
    decode_dictionary_arrays,
    encode_dictionary_arrays,
)
from services.storage.catalog.interface import Catalog, Transaction
from services.storage.commits.committer import Committer
from services.storage.commits.draft import Draft
from services.storage.state.generations import measurement_of
from services.storage.state.measurement import Measurement
from services.storage.state.series import SeriesSet
from services.storage.state.state import State

log = get_logger("storage.dictionary")
# (first sequence number, count, piece)
PieceRow = tuple[int, int, bytes]

# Series whose pieces one read brings into memory, unless a single piece holds more.
SERIES_PER_READ = 20_000


@dataclass(frozen=True, slots=True)
class SeriesRange:
    """Series ``after`` … ``count`` − 1 of a measurement, as of now.

    Attributes:
        generation: of their numbers.
    """

    generation: int
    after: int
    count: int


class Dictionary:
    """Tag keys of all series, on disk."""

    def __init__(self, catalog: Catalog, state: State, committer: Committer) -> None:
        self._catalog = catalog
        self._state = state
        self._committer = committer
        # How many series of a generation have been looked at, all pieces that hold them.
        self._checked: dict[int, int] = {}

    def find(self, bucket_id: str, name: str, generation: int, after: int) -> SeriesRange:
        """What a client lacks that holds *after* series of *generation*; all when that is another dictionary."""
        measurement = self._state.find(bucket_id, name)
        if measurement is None:
            return SeriesRange(0, 0, 0)
        is_same = measurement.generation == generation and after <= measurement.series.count
        return SeriesRange(measurement.generation, after if is_same else 0, measurement.series.count)

    async def check(self, wanted: SeriesRange) -> None:
        """Look at the pieces of a measurement that nobody has looked at since the start. Raises Gone when one is
        damaged: the next plan does without its series."""
        measurement = self._measurement(wanted)
        at = self._checked.get(wanted.generation, 0)
        if measurement is None or at >= wanted.count:
            return
        lost: list[tuple[int, int]] = []
        while at < wanted.count:
            rows = await self._read(wanted, at)
            damaged = await asyncio.to_thread(lost_in, rows, at)
            at = rows[-1][0] + rows[-1][1]
            lost += damaged
        self._checked[wanted.generation] = at
        fresh = [span for span in lost if span not in measurement.lost_series]
        if fresh:
            await self._committer.submit(LoseSeries(measurement, wanted.generation, fresh))
            raise Gone("some series are damaged")

    async def read(self, wanted: SeriesRange) -> AsyncIterator[bytes]:
        """These series and none else, in order, as parts of ``encode_dictionary``; those that are lost without tags.
        Raises Gone when they are dropped meanwhile."""
        measurement = self._measurement(wanted)
        series = SeriesSet() if measurement is None else measurement.series
        at = wanted.after
        while at < wanted.count:
            rows = await self._read(wanted, at)
            stop = min(rows[-1][0] + rows[-1][1], wanted.count)
            yield await asyncio.to_thread(join_pieces, rows, at, stop, series)
            at = stop

    async def _read(self, wanted: SeriesRange, at: int) -> list[PieceRow]:
        last = min(at + SERIES_PER_READ, wanted.count) - 1
        rows = await self._catalog.read_dictionary(wanted.generation, at, last)
        # Its pieces are deleted only after it has ceased to be in force.
        if self._measurement(wanted) is None:
            raise Gone("the series have been dropped, or have other numbers")
        return whole_pieces(rows, at, last + 1)

    def _measurement(self, wanted: SeriesRange) -> Measurement | None:
        """The measurement while these numbers are in force."""
        measurement = self._state.by_id.get(measurement_of(wanted.generation))
        return measurement if measurement is not None and measurement.generation == wanted.generation else None


class LoseSeries:
    """The job of noting ranges of series whose tags are damaged, if *generation* is still in force."""

    size = 0

    def __init__(self, measurement: Measurement, generation: int, spans: Sequence[tuple[int, int]]) -> None:
        self._measurement = measurement
        self._generation = generation
        self._spans = spans

    def run(self, transaction: Transaction, draft: Draft) -> None:
        here = draft.find(self._measurement.bucket_id, self._measurement.name)
        if here is self._measurement and draft.generation(here) == self._generation:
            lose_series(transaction, draft, here, self._spans)


def lose_series(
    transaction: Transaction, draft: Draft, measurement: Measurement, spans: Sequence[tuple[int, int]]
) -> None:
    """Note ranges of series whose tags are damaged: their rows stay, and are hidden until somebody writes them again.

    They are no longer found, so the next write of one brings its tags, and it goes on under another number.
    """
    number = draft.number = transaction.next_number()
    lost = np.concatenate([np.arange(first, stop) for first, stop in spans])
    draft.set_series(measurement, draft.series(measurement).without(lost))
    draft.then(lambda state: _note_lost(state, measurement, spans, number))
    draft.tell({"number": number, "tags": [f"schema:{measurement.bucket_id}"]})


def _note_lost(state: State, measurement: Measurement, spans: Sequence[tuple[int, int]], number: int) -> None:
    for first, stop in spans:
        state.lose_series(measurement, first, stop, number)
        log.error("a table is damaged", table="dictionary", reason=state.damage[-1].reason)


def whole_pieces(rows: Sequence[PieceRow], start: int, stop: int) -> list[PieceRow]:
    """*rows* that follow each other from the piece with *start* on; what is missing stands there as an empty piece."""
    found: list[PieceRow] = []
    at = rows[0][0] if rows and rows[0][0] <= start < rows[0][0] + rows[0][1] else start
    for first, count, piece in rows:
        if first < at or count <= 0:
            continue
        if first > at:
            found.append((at, first - at, b""))
        found.append((first, count, piece))
        at = first + count
    if at < stop:
        found.append((at, stop - at, b""))
    return found


def lost_in(rows: Sequence[PieceRow], start: int) -> list[tuple[int, int]]:
    """Ranges of series from *start* on whose pieces are damaged."""
    return [(max(first, start), first + count) for first, count, piece in rows if _decode(piece, count) is None]


def join_pieces(rows: Sequence[PieceRow], start: int, stop: int, series: SeriesSet) -> bytes:
    """Series *start* … *stop* − 1 of neighbouring pieces (first, count, piece), as one piece.

    Args:
        series: tells the ids of those whose piece is damaged; their keys are empty then.
    """
    first, count, piece = rows[0]
    decoded = [_decode(piece, count) for _, count, piece in rows]
    if len(rows) == 1 and first == start and first + count == stop and decoded[0] is not None:
        return piece
    whole = [
        found if found is not None else (series.ids(first, first + count), _no_keys(count))
        for (first, count, _), found in zip(rows, decoded, strict=True)
    ]
    ids, keys = zip(*whole, strict=True)
    offsets, text = concat_strings([(array.offsets, array.data) for array in keys])
    chosen = np.arange(start - first, stop - first)
    return encode_dictionary_arrays(np.concatenate(ids)[chosen], take_strings(StringArray(offsets, text), chosen))


def take_strings(strings: StringArray, positions: NDArray[np.int64]) -> StringArray:
    """The strings at *positions*."""
    return StringArray(*gather_strings(strings.offsets, strings.data, positions))


def _decode(piece: bytes, count: int) -> tuple[SeriesIds, StringArray] | None:
    try:
        found = decode_dictionary_arrays(piece)
    except DamagedChunk:
        return None
    return found if len(found[0]) == count else None


def _no_keys(count: int) -> StringArray:
    return StringArray(np.zeros(count + 1, np.int64), np.zeros(0, np.uint8))
