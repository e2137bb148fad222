"""The series of one measurement as arrays: ids → codes, tag keys → dictionary-encoded columns · pure.

Grows only: a code, once given, stays. Tag keys come as storage keeps them, ``tag=value,tag2=value2`` escaped and
sorted (``common/segment.py``, series dictionary).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InternalError
from common.segment import NO_SERIES, SeriesIds
from services.query.engine.frame import ANSWER_BYTES, SeriesTable

Indexes = NDArray[np.int64]
_COMMA = re.compile(rb"(?<!\\),")
_EQUALS = re.compile(rb"(?<!\\)=")
_ESCAPED = re.compile(rb"\\([,= ])")
# Keys that are put in order while no other thread runs.
SORTED_TOGETHER = 20_000
# What a series costs beyond its codes, for the memory budget.
_KEY_BYTES = 64


class SeriesIndex:
    """Series that are known of one measurement.

    Attributes:
        table: the tags of all series, by code; replaced, never changed, as series come.
    """

    def __init__(self) -> None:
        self._ids: SeriesIds = np.zeros((0, 2), np.uint64)
        self._keys: list[bytes] = []
        self._pairs: dict[bytes, tuple[str, int]] = {}
        self._words: dict[str, dict[str, int]] = {}
        self._codes: dict[str, NDArray[np.int32]] = {}
        self._order: Indexes = np.zeros(0, np.int64)
        self._lost: int | None = None
        self.table = SeriesTable(0, {}, {}, np.zeros(0, np.int64))

    @property
    def count(self) -> int:
        """Number of series in ``table``: those that ``extend``, in another thread, is about to add don't count yet."""
        return self.table.count

    @property
    def nbytes(self) -> int:
        """Bytes held, near enough for a budget."""
        return self.count * (_KEY_BYTES + ANSWER_BYTES + 24 + 4 * len(self._codes)) + sum(map(len, self._keys))

    def extend(self, parts: Iterable[tuple[SeriesIds, Sequence[bytes]]]) -> None:
        """Take in series with the next codes, all of *parts* together."""
        ids, fresh = [self._ids], list[bytes]()
        for some, keys in parts:
            ids.append(some)
            fresh.extend(keys)
        first = len(self._keys)
        self._ids = np.concatenate(ids)
        self._keys.extend(fresh)
        lost = np.flatnonzero(self._ids[first:, 0] == NO_SERIES)
        if len(lost):
            self._lost = first + int(lost[0])
        # Of two series with one id the later one counts: the other one's tags were damaged, and came again.
        self._order = np.lexsort((-np.arange(len(self._ids)), self._ids[:, 1], self._ids[:, 0]))
        self._add_tags(first, fresh)
        count = len(self._keys)
        codes = {key: _grown(column, count) for key, column in self._codes.items()}
        self._codes = codes
        words = {key: _word_array(places) for key, places in self._words.items()}
        # What is in order already, or has been put in order here, is one run to the last sort.
        by_key: list[int] = np.argsort(self.table.ranks).tolist()
        for start in range(first, count, SORTED_TOGETHER):
            by_key += sorted(range(start, min(start + SORTED_TOGETHER, count)), key=self._keys.__getitem__)
        by_key.sort(key=self._keys.__getitem__)
        ranks = np.empty(count, np.int64)
        ranks[by_key] = np.arange(count)
        self.table = SeriesTable(count, dict(codes), words, ranks, dict(self._words))

    def _add_tags(self, first: int, keys: Sequence[bytes]) -> None:
        found: dict[str, tuple[list[int], list[int]]] = {}
        for code, key in enumerate(keys, first):
            for pair in _split(key):
                tag, word = self._pairs.get(pair) or self._add_pair(pair)
                at, words = found.setdefault(tag, ([], []))
                at.append(code)
                words.append(word)
        for tag, (at, words) in found.items():
            column = _grown(self._codes.get(tag, np.zeros(0, np.int32)), len(self._keys))
            column[at] = words
            self._codes[tag] = column

    def _add_pair(self, pair: bytes) -> tuple[str, int]:
        if b"\\" in pair:
            tag, value = (_unescape(text) for text in _EQUALS.split(pair, maxsplit=1))
        else:
            tag, _, value = pair.decode("utf-8", "surrogateescape").partition("=")
        places = self._words.setdefault(tag, {"": 0})
        known = self._pairs[pair] = (tag, places.setdefault(value, len(places)))
        return known

    def find_codes(self, ids: SeriesIds) -> Indexes:
        """The code of each of *ids*; of one that is not known that of a series whose id is lost: both are hidden.
        Raises InternalError when there is none such."""
        high = self._ids[self._order, 0]
        at = np.searchsorted(high, ids[:, 0])
        codes = self._order[np.minimum(at, max(len(high) - 1, 0))] if len(high) else np.zeros(len(ids), np.int64)
        wrong = np.flatnonzero((self._ids[codes] != ids).any(axis=1)) if len(high) else np.arange(len(ids))
        for i in wrong.tolist():
            codes[i] = self._find_one(ids[i])
        return codes

    def _find_one(self, id: NDArray[np.uint64]) -> int:
        # Two ids with equal high halves: as good as never, but then right.
        matches = np.flatnonzero((self._ids == id).all(axis=1))
        if not len(matches) and self._lost is not None:
            return self._lost
        if not len(matches):
            raise InternalError("a segment holds a series that the dictionary does not know")
        return int(matches[-1])


def _grown(column: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    out = np.zeros(count, np.int32)
    out[: len(column)] = column
    return out


def _word_array(places: dict[str, int]) -> NDArray[Any]:
    out = np.empty(len(places), dtype=object)
    out[:] = list(places)
    return out


def _split(key: bytes) -> list[bytes]:
    if not key:
        return []
    return _COMMA.split(key) if b"\\" in key else key.split(b",")


def _unescape(text: bytes) -> str:
    return _ESCAPED.sub(rb"\1", text).decode("utf-8", "surrogateescape")
