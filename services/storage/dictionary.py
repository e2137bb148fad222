"""The series dictionary as it is read: pieces from a sequence number on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import Gone
from common.segment import StringArray, decode_dictionary_arrays, encode_dictionary_arrays
from common.strings import concat_strings, gather_strings
from services.storage.catalog import Catalog
from services.storage.state import State

# Series whose pieces one read brings into memory, unless a single piece holds more.
SERIES_PER_READ = 20_000


@dataclass(frozen=True, slots=True)
class SeriesRange:
    """Series ``after`` … ``count`` − 1 of a measurement, as of now."""

    generation: int
    after: int
    count: int


class Dictionary:
    """Tag keys of all series, on disk."""

    def __init__(self, catalog: Catalog, state: State) -> None:
        self._catalog = catalog
        self._state = state

    def find(self, bucket_id: str, name: str, generation: int, after: int) -> SeriesRange:
        """What a client lacks that holds *after* series of *generation*; all when that is another dictionary."""
        measurement = self._state.find(bucket_id, name)
        if measurement is None:
            return SeriesRange(0, 0, 0)
        is_same = measurement.id == generation and after <= measurement.series.count
        return SeriesRange(measurement.id, after if is_same else 0, measurement.series.count)

    async def read(self, wanted: SeriesRange) -> AsyncIterator[bytes]:
        """These series and none else, in order, as parts of ``encode_dictionary``. Raises Gone when they are dropped
        meanwhile."""
        at = wanted.after
        while at < wanted.count:
            last = min(at + SERIES_PER_READ, wanted.count) - 1
            rows = await self._catalog.read_dictionary(wanted.generation, at, last)
            if not rows:
                raise Gone("the series have been dropped")
            stop = min(rows[-1][0] + rows[-1][1], wanted.count)
            yield await asyncio.to_thread(join_pieces, rows, at, stop)
            at = stop


def join_pieces(rows: Sequence[tuple[int, int, bytes]], start: int, stop: int) -> bytes:
    """Series *start* … *stop* − 1 of neighbouring pieces (first, count, piece), as one piece."""
    first, count, piece = rows[0]
    if len(rows) == 1 and first == start and first + count == stop:
        return piece
    ids, keys = zip(*(decode_dictionary_arrays(piece) for _, _, piece in rows), strict=True)
    offsets, text = concat_strings([(array.offsets, array.data) for array in keys])
    chosen = np.arange(start - first, stop - first)
    strings = StringArray(*gather_strings(offsets, text, chosen))
    return encode_dictionary_arrays(np.concatenate(ids)[chosen], strings)
