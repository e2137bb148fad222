"""Which series a measurement has: exact membership of 128-bit ids, and each one's sequence number · pure.

About 20 bytes a series: two uint64 for the id and a uint32 for the sequence number, in a few sorted arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.segment import SeriesIds

ID_BYTES = 16
MAX_SERIES = 1 << 32


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

    def find(self, ids: SeriesIds) -> NDArray[np.int64]:
        """Sequence numbers of *ids* (shape (n, 2)); -1 where the series is not in the set."""
        found = np.full(len(ids), -1, np.int64)
        high, low = np.ascontiguousarray(ids[:, 0]), ids[:, 1]
        for run in self.runs:
            _find_in(run, high, low, found)
        return found

    def ids(self, start: int, stop: int) -> SeriesIds:
        """The ids with sequence numbers *start* … *stop* − 1, in order; looks at all."""
        found = np.zeros((stop - start, 2), np.uint64)
        for run in self.runs:
            here = np.flatnonzero((run.sequence >= start) & (run.sequence < stop))
            at = run.sequence[here].astype(np.int64) - start
            found[at, 0], found[at, 1] = run.high[here], run.low[here]
        return found

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
        return SeriesSet((*runs, _sorted(fresh)), count)


def decode_ids(raw: bytes | memoryview) -> SeriesIds:
    """Ids as stored in a block or in the dictionary: two little-endian uint64 each, the upper half first."""
    return np.frombuffer(raw, "<u8").reshape(-1, 2)


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
