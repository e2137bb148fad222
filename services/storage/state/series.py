"""Which series a measurement has: exact membership of 128-bit ids, and each one's sequence number · pure.

About 20 bytes a series: two uint64 for the id and a uint32 for the sequence number, in a few sorted arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.segment import NO_SERIES, SeriesIds

ID_BYTES = 16
MAX_SERIES = 1 << 32
Sequences = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Run:
    """Ids sorted by their upper halves, each with its sequence number."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    sequence: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True, slots=True)
class SeriesSet:
    """The series of one measurement, numbered 0 … count − 1 in the order in which they came.

    Never changed: ``with_added`` gives another set, so a set may be read in any thread. Each run is at least twice
    as long as the next one, so there are at most log2(count) of them.
    """

    runs: tuple[_Run, ...] = ()
    count: int = 0
    # Those that are not found any more.
    lost: tuple[_Run, ...] = ()

    def find(self, ids: SeriesIds) -> NDArray[np.int64]:
        """Sequence numbers of *ids* (shape (n, 2)); -1 where the series is not in the set."""
        found = np.full(len(ids), -1, np.int64)
        high, low = np.ascontiguousarray(ids[:, 0]), ids[:, 1]
        for run in self.runs:
            _find_in(run, high, low, found)
        return found

    def ids(self, start: int, stop: int) -> SeriesIds:
        """The ids with sequence numbers *start* … *stop* − 1, in order; of those without one, such as no series has.
        Looks at all."""
        found = no_ids(start, stop)
        for run in (*self.runs, *self.lost):
            here = np.flatnonzero((run.sequence >= start) & (run.sequence < stop))
            at = run.sequence[here].astype(np.int64) - start
            found[at, 0], found[at, 1] = run.high[here], run.low[here]
        return found

    def doubles(self) -> Sequences:
        """Sequence numbers, ascending, of the series whose ids come again with a greater one, in a set of one run."""
        found = [run.sequence[:-1][_same_as_next(run)] for run in self.runs if len(run)]
        return np.sort(np.concatenate(found).astype(np.int64)) if found else np.zeros(0, np.int64)

    def without(self, sequence: Sequences) -> SeriesSet:
        """This set, in which the series with these sequence numbers are not found any more; they stay numbered."""
        if not len(sequence):
            return self
        masks = [np.isin(run.sequence, sequence) for run in self.runs]
        left = tuple(_left(run, ~mask) for run, mask in zip(self.runs, masks, strict=True))
        lost = tuple(_left(run, mask) for run, mask in zip(self.runs, masks, strict=True) if mask.any())
        return SeriesSet(left, self.count, (*self.lost, *lost))

    def with_added(self, ids: SeriesIds) -> SeriesSet:
        """This set and *ids*, none of which is in it, each once; they get the next sequence numbers in order."""
        if not len(ids):
            return self
        count = self.count + len(ids)
        if count > MAX_SERIES:
            raise OverflowError("too many series in a measurement")
        runs = list(self.runs)
        fresh = [_Run(ids[:, 0], ids[:, 1], np.arange(self.count, count, dtype=np.uint32))]
        size = len(ids)
        while runs and len(runs[-1]) < 2 * size:
            size += len(runs[-1])
            fresh.append(runs.pop())
        return SeriesSet((*runs, _sorted(fresh)), count, self.lost)


def decode_ids(raw: bytes | memoryview) -> SeriesIds:
    """Ids as stored in a block or in the dictionary: two little-endian uint64 each, the upper half first."""
    return np.frombuffer(raw, "<u8").reshape(-1, 2)


def no_ids(start: int, stop: int, measurement: int = 0) -> SeriesIds:
    """Ids such as no series has, one for each sequence number *start* … *stop* − 1."""
    low = np.arange(start, stop, dtype=np.uint64) | np.uint64(measurement << 32 & 0xFFFF_FFFF_FFFF_FFFF)
    return np.column_stack((np.full(stop - start, NO_SERIES), low))


def spans_of(sequence: Sequences) -> list[tuple[int, int]]:
    """Ascending sequence numbers as ranges (first, stop)."""
    if not len(sequence):
        return []
    cuts = np.flatnonzero(np.diff(sequence) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(sequence, cuts)]


def _same_as_next(run: _Run) -> NDArray[np.bool_]:
    """Which ids of *run* stand there again; equal ones stand in the order of their numbers."""
    same: NDArray[np.bool_] = (run.high[:-1] == run.high[1:]) & (run.low[:-1] == run.low[1:])
    return same


def _left(run: _Run, kept: NDArray[np.bool_]) -> _Run:
    return _Run(run.high[kept], run.low[kept], run.sequence[kept])


def _sorted(runs: list[_Run]) -> _Run:
    high = np.concatenate([run.high for run in runs])
    # Stable sorts of 64-bit values are merges: near linear for a few sorted runs.
    order = np.argsort(high, kind="stable")
    low = np.concatenate([run.low for run in runs])
    sequence = np.concatenate([run.sequence for run in runs])
    return _Run(high[order], low[order], sequence[order])


def _find_in(run: _Run, high: NDArray[np.uint64], low: NDArray[np.uint64], found: NDArray[np.int64]) -> None:
    """Fill in *found* where an id is in *run*."""
    at = np.searchsorted(run.high, high)
    open_ = np.arange(len(high))
    # Once, as a rule: again only for ids that share their upper half with another one.
    while len(open_):
        open_ = open_[at[open_] < len(run)]
        open_ = open_[run.high[at[open_]] == high[open_]]
        hit = run.low[at[open_]] == low[open_]
        hits = open_[hit]
        found[hits] = run.sequence[at[hits]]
        open_ = open_[~hit]
        at[open_] += 1
