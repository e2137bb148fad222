"""Which series of a measurement have no rows left: those in doubt that no segment names.

Only the ids of segments are read, the newest segments first, and only until no series is in doubt any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.segment import IDS
from common.tombstones import Tombstone, choice_mask
from services.storage.catalog.segment_store import ChunkRead
from services.storage.commits.draft import Draft
from services.storage.reading.segments import Segments, slices
from services.storage.state.blocks import Segment, chunk_reads
from services.storage.state.measurement import Measurement
from services.storage.state.series import Sequences, SeriesSet, decode_ids

Mask = NDArray[np.bool_]
# Segments that are looked at together, their ids some MB at a time.
TOGETHER = 64


@dataclass(slots=True)
class Look:
    """What has been found out of a measurement.

    Attributes:
        stone: the tombstone that told which series are in doubt.
        series: as they were when the look began.
        emptied: a bool for each of them: nothing has been found of it.
        seen: ids of the segments whose series are known.
    """

    measurement: Measurement
    generation: int
    stone: Tombstone
    series: SeriesSet
    emptied: Mask
    seen: set[int]

    def is_current(self, draft: Draft) -> bool:
        """Whether the measurement, its numbers and what was in doubt are still as they were; else nothing follows."""
        here = draft.find(self.measurement.bucket_id, self.measurement.name)
        return (
            here is self.measurement
            and draft.generation(here) == self.generation
            and self.stone in draft.tombstones(here)
        )

    def named(self, ids: Iterable[bytes]) -> Sequences:
        """Numbers, ascending, of the emptied ones that the ids of some segments name; changes nothing."""
        mask = np.zeros_like(self.emptied)
        for raw in ids:
            numbers = self.series.find(decode_ids(raw))
            mask[numbers[numbers >= 0]] = True
        return np.flatnonzero(mask & self.emptied)

    def unseen(self, segments: Iterable[Segment]) -> list[Segment]:
        """Those of *segments* whose series are not known, the newest first."""
        fresh = [segment for segment in segments if segment.id not in self.seen]
        return sorted(fresh, key=lambda segment: -segment.id)


async def look(segments: Segments, measurement: Measurement, stone: Tombstone) -> Look:
    """Find out which of the series in doubt have no rows. Raises Gone when segments went away meanwhile."""
    series, generation = measurement.series, measurement.generation
    emptied = await asyncio.to_thread(choice_mask, stone.series, series.count)
    found = Look(measurement, generation, stone, series, emptied, set())
    await learn_more(segments, found)
    return found


async def learn_more(segments: Segments, found: Look) -> Sequences:
    """Look at the segments that came since; returns the numbers of the series that are not emptied after all."""
    again: list[Sequences] = [np.zeros(0, np.int64)]
    unseen = found.unseen(found.measurement.segments.values())
    for start in range(0, len(unseen), TOGETHER):
        if not found.emptied.any():
            break
        some = unseen[start : start + TOGETHER]
        for reads in slices(await asyncio.to_thread(ids_of, some)):
            ids = [raw async for raw in segments.read(reads)]
            again.append(await asyncio.to_thread(found.named, ids))
            found.emptied[again[-1]] = False
        found.seen.update(segment.id for segment in some)
    return np.sort(np.concatenate(again))


def ids_of(segments: Sequence[Segment]) -> list[ChunkRead]:
    """Where the ids of *segments* are."""
    return [read for segment in segments for read in chunk_reads(segment, [IDS])]
