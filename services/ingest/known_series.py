"""Ids of series that are known to be stored, so that their tag sets need not be sent again · pure.

A hint, not a truth: storage says when it misses a series, and an id that is not known here is merely sent once more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from common.segment import SeriesIds

ID_BYTES = 16
# An array of this many ids is sorted in 0.1 ms; each array costs every search 10 us.
SMALL_RUN = 2048
Key = tuple[str, str]  # bucket id, measurement


class SeriesSet:
    """Ids of one measurement, as a few sorted arrays.

    A new array is merged with the last one as long as that is less than twice its size or merging costs next to
    nothing, so there are at most log2(n) of them and an id is moved log2(n) times. The arrays are replaced, never
    changed: readers need no lock.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: tuple[SeriesIds, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def find(self, ids: SeriesIds) -> NDArray[np.bool_]:
        """Which of *ids* (shape (n, 2)) are in the set, as one bool each.

        Two ids that share their upper half are told apart only where they stand first; the other one is then not
        found, which costs its tag set once more and nothing else.
        """
        found = np.zeros(len(ids), np.bool_)
        for run in self._runs:
            at = np.searchsorted(run[:, 0], ids[:, 0])
            at[at == len(run)] = 0
            found |= (run[at] == ids).all(axis=1)
        return found

    def add(self, ids: SeriesIds) -> None:
        """Take in *ids*, none of which is in the set, each once."""
        if not len(ids):
            return
        runs = list(self._runs)
        fresh = np.asarray(ids, np.uint64)
        while runs and len(runs[-1]) < max(2 * len(fresh), SMALL_RUN):
            fresh = np.concatenate((runs.pop(), fresh))
        # One array for each half: a search runs over the upper halves alone.
        self._runs = (*runs, np.asfortranarray(fresh[np.argsort(fresh[:, 0], kind="stable")]))


class KnownSeries:
    """The sets of all measurements in use, least recently used first to go.

    Args:
        max_bytes: bound on the ids' bytes in all sets together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes // ID_BYTES
        self._sets: OrderedDict[Key, SeriesSet] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def find(self, bucket_id: str, measurement: str, ids: SeriesIds) -> NDArray[np.bool_]:
        """Which of *ids* are known, as one bool each."""
        with self._lock:
            known = self._sets.get((bucket_id, measurement))
            if known is None:
                return np.zeros(len(ids), np.bool_)
            self._sets.move_to_end((bucket_id, measurement))
        return known.find(ids)

    def add(self, bucket_id: str, measurement: str, ids: SeriesIds) -> None:
        """Remember *ids* as stored; may be called from any thread."""
        key = (bucket_id, measurement)
        with self._lock:
            known = self._sets.get(key)
            if known is None:
                known = self._sets[key] = SeriesSet()
            fresh = ids[~known.find(ids)]
            if len(fresh) > self._max:
                return
            known.add(fresh)
            self._sets.move_to_end(key)
            self._count += len(fresh)
            while self._count > self._max:
                _, oldest = self._sets.popitem(last=False)
                self._count -= len(oldest)

    def forget(self, bucket_id: str, measurement: str) -> None:
        """Storage misses series of this measurement: know nothing of it any more."""
        with self._lock:
            known = self._sets.pop((bucket_id, measurement), None)
            self._count -= len(known) if known is not None else 0

    def forget_bucket(self, bucket_id: str) -> None:
        with self._lock:
            for key in [key for key in self._sets if key[0] == bucket_id]:
                self._count -= len(self._sets.pop(key))

    def forget_all(self) -> None:
        with self._lock:
            self._sets.clear()
            self._count = 0
