"""What a scan gives the engine: series with their tags, and rows of them in blocks · pure.

A ``Piece`` holds rows sorted by series, then time, as they lie in the cache; ``Rows`` is a choice of such rows, whose
columns are gathered only when they are asked for (a run of neighbouring rows is a view, not a copy).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.model import FieldType
from services.query.engine.kept import Kept
from services.query.engine.kernels import choose_runs
from services.query.engine.vectors import Indexes, Mask, Vector

NO_INDEXES: Indexes = np.zeros(0, np.int64)
NO_MASK: Mask = np.zeros(0, bool)
# Groupings that a table keeps: dashboards ask for the same few.
MAX_GROUPINGS = 64
# Matches of patterns that a table keeps, a byte a word.
MAX_MATCHES_BYTES = 1 << 20
# Bytes a series that a table keeps of what SHOW has told of it: two answers with a value a series in each.
ANSWER_BYTES = 96
# Up to so many ranges are searched one by one: 1 us each, where all together take 70.
FEW_RUNS = 16


class SeriesTable:
    """Tag sets of the series of one measurement; a series is named by its place, its *code*.

    Args:
        count: number of series.
        codes: for each tag key the place of each series' value in ``words[key]``.
        words: for each tag key its values; place 0 is "", which is the value of a series without the tag.
        ranks: place of each series in ascending order of the series keys.
        places: of each word in ``words``, where they are known; it may know words that have come since.
        told: keys whose "" is a value, and told as such: those that a subquery groups by.

    Attributes:
        answers: what SHOW has told of these series, by all that it hangs on besides them. A table never changes, so
            nothing that is kept here is ever out of date.
    """

    def __init__(
        self,
        count: int,
        codes: Mapping[str, NDArray[np.int32]],
        words: Mapping[str, NDArray[Any]],
        ranks: Indexes,
        places: Mapping[str, Mapping[str, int]] | None = None,
        told: frozenset[str] = frozenset(),
    ) -> None:
        self.count = count
        self.codes = codes
        self.words = words
        self.ranks = ranks
        self.places = places
        self.told = told
        self.keys: tuple[str, ...] = tuple(sorted(codes))
        self.answers: Kept[Any] = Kept(ANSWER_BYTES * count)
        self._groupings: OrderedDict[tuple[str, ...], Grouping] = OrderedDict()
        self._word_ranks: dict[str, Indexes] = {}
        self._matches: OrderedDict[tuple[str, str], Mask] = OrderedDict()

    def values(self, key: str) -> NDArray[Any]:
        """The value of tag *key* of each series, "" where it has none."""
        codes = self.codes.get(key)
        if codes is None:
            return np.full(self.count, "", dtype=object)
        return self.words[key][codes]

    def column(self, key: str, series: Indexes) -> Vector:
        """The values of tag *key*, one of ``keys``, of each of *series*, as a column of strings."""
        codes = self.codes[key][series]
        return Vector(FieldType.STRING, self.words[key][codes], None if key in self.told else codes != 0)

    def having(self, key: str, value: str) -> Mask:
        """Which series have *value* in tag *key*, "" = not the tag."""
        if self.places is None:
            return np.asarray(self.words[key] == value, dtype=bool)[self.codes[key]]
        place = self.places[key].get(value)
        return np.zeros(self.count, bool) if place is None else self.codes[key] == place

    def matching(self, key: str, pattern: str, match: Callable[[NDArray[Any]], Mask]) -> Mask:
        """Which words of tag *key* the pattern of that text matches: *match* over the words, kept as room allows."""
        known = self._matches.get((key, pattern))
        if known is None:
            known = match(self.words[key])
            self._matches[key, pattern] = known
            # Listed first: another thread may add to them.
            while sum(map(len, list(self._matches.values()))) > MAX_MATCHES_BYTES:
                self._matches.popitem(last=False)
        return known

    def group(self, keys: tuple[str, ...]) -> Grouping:
        """Series with equal values of *keys* (sorted) together; groups in order of those values, empty first."""
        grouping = self._groupings.get(keys)
        if grouping is None:
            grouping = self._groupings[keys] = _group(self, keys)
            if len(self._groupings) > MAX_GROUPINGS:
                self._groupings.popitem(last=False)
        return grouping

    def word_ranks(self, key: str) -> Indexes:
        """Place of each word of tag *key* in byte order; -1 for "", which is no value."""
        ranks = self._word_ranks.get(key)
        if ranks is None:
            order = np.argsort(self.words[key], kind="stable")
            ranks = np.empty(len(order), np.int64)
            ranks[order] = np.arange(len(order))
            ranks[0] = -1
            self._word_ranks[key] = ranks
        return ranks


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups of series by the values of some tags.

    Attributes:
        keys: the tag keys, sorted.
        of_series: group of each series.
        example: one series of each group.
    """

    keys: tuple[str, ...]
    of_series: Indexes
    example: Indexes

    @property
    def count(self) -> int:
        return len(self.example)


def _group(table: SeriesTable, keys: tuple[str, ...]) -> Grouping:
    known = [key for key in keys if key in table.codes]
    combined = np.zeros(table.count, np.int64)
    for key in known:
        ranks = table.word_ranks(key) + 1
        # Dense after each key, so that the product of the cardinalities can't overflow.
        mixed = combined * (len(ranks) + 1) + ranks[table.codes[key]]
        combined = np.unique(mixed, return_inverse=True)[1].astype(np.int64).reshape(-1)
    if not table.count:
        return Grouping(keys, NO_INDEXES, NO_INDEXES)
    example = np.zeros(int(combined.max()) + 1, np.int64)
    example[combined[::-1]] = np.arange(table.count)[::-1]
    return Grouping(keys, combined, example)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one measurement in one shard, sorted by series code order of the block, then time.

    Attributes:
        series: code of each run's series, in ``SeriesTable``; each code once.
        offsets: rows of run i are ``offsets[i]:offsets[i + 1]``.
        times: ns since the epoch, ascending within a run.
        columns: fields that were asked for and occur here, in the types that they have here.
        shard: start of the shard, for the order of equal times; any number that orders the shards.
        bounds: first and last time of all rows; None = not known.
    """

    series: Indexes
    offsets: Indexes
    times: Indexes
    columns: Mapping[str, Vector]
    shard: int = 0
    bounds: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held, near enough for a budget."""
        columns = sum(vector.nbytes for vector in self.columns.values())
        return self.series.nbytes + self.offsets.nbytes + self.times.nbytes + columns

    def within(self, start_ns: int, stop_ns: int) -> bool:
        """Whether all rows lie in ``[start_ns, stop_ns)``."""
        if not len(self.times):
            return True
        first, last = self.bounds or (int(self.times.min()), int(self.times.max()))
        return start_ns <= first and last < stop_ns


class Rows:
    """Chosen rows of a piece, in its order. Runs without rows are left out.

    Attributes:
        series: series code of each run.
        offsets: rows of run i are ``offsets[i]:offsets[i + 1]``.
    """

    def __init__(self, piece: Piece, series: Indexes, offsets: Indexes, at: slice | Indexes) -> None:
        self.piece = piece
        self.series = series
        self.offsets = offsets
        self._at = at
        self._columns: dict[str, Vector] = {}
        self._times: Indexes | None = None

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def times(self) -> Indexes:
        if self._times is None:
            self._times = self.piece.times[self._at]
        return self._times

    def column(self, name: str) -> Vector | None:
        """Values of a field in these rows; None where the piece has no such field."""
        vector = self._columns.get(name)
        if vector is None:
            whole = self.piece.columns.get(name)
            if whole is None:
                return None
            vector = self._columns[name] = whole.take(self._at)
        return vector

    def row_series(self) -> Indexes:
        """Series code of each row."""
        return np.repeat(self.series, np.diff(self.offsets))

    def series_at(self, at: Indexes) -> Indexes:
        """Series code of the rows at *at*."""
        if 8 * len(at) > len(self):
            return self.row_series()[at]
        return self.series[np.searchsorted(self.offsets, at, side="right") - 1]

    def ends(self, count: int, *, last: bool) -> Rows:
        """Of each run the first rows, or the *last*, no more than *count*."""
        first, stop = self.offsets[:-1], self.offsets[1:]
        starts = np.maximum(stop - count, first) if last else first
        sizes = np.minimum(stop - first, count)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        at = at + self._at.start if isinstance(self._at, slice) else self._at[at]
        return _rows(self.piece, self.series, offsets[:-1], offsets[1:], at)

    def keep(self, mask: Mask) -> Rows:
        """Only the rows where *mask* is True."""
        kept = np.flatnonzero(mask)
        if len(kept) == len(mask):
            return self
        at = kept + self._at.start if isinstance(self._at, slice) else self._at[kept]
        offsets = np.searchsorted(kept, self.offsets)
        return _rows(self.piece, self.series, offsets[:-1], offsets[1:], at)


def choose_rows(piece: Piece, wanted: Mask | None, start_ns: int, stop_ns: int) -> Rows:
    """The rows of *piece* of the series that *wanted* marks (by code; None = all), in ``[start_ns, stop_ns)``."""
    stop_ns = max(start_ns, stop_ns)
    if choose_runs.compiled and piece.times.flags.c_contiguous and piece.series.flags.c_contiguous:
        return _rows_found(piece, wanted, start_ns, stop_ns)
    runs = slice(None) if wanted is None else np.flatnonzero(wanted[piece.series])
    series = piece.series[runs]
    starts = piece.offsets[:-1][runs]
    ends = piece.offsets[1:][runs]
    if not piece.within(start_ns, stop_ns):
        starts, ends = (
            lower_bounds(piece.times, starts, ends, np.int64(start_ns)),
            lower_bounds(piece.times, starts, ends, np.int64(stop_ns)),
        )
    return rows_between(piece, series, starts, ends)


def _rows_found(piece: Piece, wanted: Mask | None, start_ns: int, stop_ns: int) -> Rows:
    """As ``choose_rows``, by the kernel."""
    mask, every = (NO_MASK, True) if wanted is None else (wanted, False)
    series, starts, offsets = choose_runs(piece.series, piece.offsets, piece.times, mask, every, start_ns, stop_ns)
    total = int(offsets[-1])
    if not total:
        return Rows(piece, NO_INDEXES, offsets, slice(0, 0))
    series, starts = series[:-1], starts[:-1]
    first = int(starts[0])
    if int(starts[-1]) + total - int(offsets[-2]) == first + total:
        return Rows(piece, series, offsets, slice(first, first + total))
    return Rows(piece, series, offsets, np.arange(total) + np.repeat(starts - offsets[:-1], np.diff(offsets)))


def gather_piece(piece: Piece, wanted: Mask, start_ns: int, stop_ns: int, *, copy: bool) -> Piece:
    """The rows of *piece* of the series that *wanted* marks (others are left out), in ``[start_ns, stop_ns)``.

    Args:
        copy: whether the arrays are to be of their own, so that *piece* can be let go.
    """
    later = int(piece.series.max(initial=-1)) + 1 - len(wanted)
    if later > 0:  # series that came since
        wanted = np.concatenate((wanted, np.zeros(later, bool)))
    rows = choose_rows(piece, wanted, start_ns, stop_ns)
    vectors = {name: vector for name in piece.columns if (vector := rows.column(name)) is not None}
    times = rows.times
    if copy and np.shares_memory(times, piece.times):
        times = times.copy()
        vectors = {name: vector.take(np.arange(len(vector))) for name, vector in vectors.items()}
    return Piece(rows.series, rows.offsets, times, vectors, piece.shard)


def rows_between(piece: Piece, series: Indexes, starts: Indexes, ends: Indexes) -> Rows:
    """Rows ``starts[i]:ends[i]`` of the piece as run i of ``series[i]``; the ranges ascend."""
    counts = ends - starts
    if len(starts) and bool((starts[1:] == ends[:-1]).all()):
        return _rows(piece, series, starts - starts[0], ends - starts[0], slice(int(starts[0]), int(ends[-1])))
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
    return _rows(piece, series, offsets[:-1], offsets[1:], at)


def _rows(piece: Piece, series: Indexes, starts: Indexes, ends: Indexes, at: slice | Indexes) -> Rows:
    """Rows of runs that lie one after the other; the empty ones are dropped."""
    full = ends > starts
    if not full.all():
        series, starts, ends = series[full], starts[full], ends[full]
    offsets = np.concatenate((np.zeros(1, np.int64), ends)) if len(ends) else np.zeros(1, np.int64)
    return Rows(piece, series, offsets, at)


def lower_bounds(values: Indexes, starts: Indexes, ends: Indexes, sought: NDArray[np.int64] | np.int64) -> Indexes:
    """For each range ``starts[i]:ends[i]`` of ascending *values* the first place whose value is not under *sought*."""
    if len(starts) <= FEW_RUNS and sought.ndim == 0:
        found = [
            start + int(values[start:end].searchsorted(sought))
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        return np.array(found, np.int64)
    low, high = starts.copy(), ends.copy()
    steps = int((high - low).max()).bit_length() if len(low) else 0
    last = len(values) - 1
    for _ in range(steps):
        middle = (low + high) >> 1
        less = (values[np.minimum(middle, last)] < sought) & (low < high)
        low = np.where(less, middle + 1, low)
        high = np.where(less, high, middle)
    return low


def table_of_tags(tag_sets: Sequence[Mapping[str, str]]) -> SeriesTable:
    """A table of series given as tag sets, in the order of their series keys."""
    keys = sorted({key for tags in tag_sets for key in tags})
    codes: dict[str, NDArray[np.int32]] = {}
    words: dict[str, NDArray[Any]] = {}
    for key in keys:
        places: dict[str, int] = {"": 0}
        codes[key] = np.array([places.setdefault(tags.get(key, ""), len(places)) for tags in tag_sets], np.int32)
        words[key] = np.array(list(places), dtype=object)
    return SeriesTable(len(tag_sets), codes, words, np.arange(len(tag_sets)))
