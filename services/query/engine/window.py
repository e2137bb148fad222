"""GROUP BY time(): which window a time falls in, and the windows of a range · pure.

Source: InfluxQL as observed on 2.9, section 7; InfluxDB 1.x ``query.IteratorOptions.Window``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.model import MAX_TIME_NS, MIN_TIME_NS
from services.query.engine.vectors import Indexes

SECOND_NS = 1_000_000_000
_WEEK_S = 7 * 86400
# Zone offsets are looked up within these years; outside they stay as at the edge.
_FIRST_S = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp())
_LAST_S = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of *width_ns*, aligned to the epoch (local midnights with a zone), moved by *offset_ns*."""

    width_ns: int
    offset_ns: int = 0
    zone: tzinfo | None = None

    def starts(self, times: Indexes) -> Indexes:
        """Start of the window that each time falls in."""
        width = np.int64(self.width_ns)
        if self.zone is None:
            # The remainder is taken first, so that the offset can't lead out of 64 bits.
            starts = times - np.mod(np.mod(times, width) - np.int64(self.offset_ns), width)
            # A window that would begin before the first possible time begins there.
            return np.where(starts > times, np.int64(MIN_TIME_NS), starts)
        shifted = times - np.int64(self.offset_ns)
        zone = zone_offsets(self.zone, shifted)
        starts = times - np.mod(shifted + zone, width)
        change = zone - zone_offsets(self.zone, starts)
        # A change of the clock as long as the window itself moves nothing.
        moved: Indexes = np.where(np.abs(change) < self.width_ns, starts + change, starts)
        return moved

    def start(self, time_ns: int) -> int:
        """Start of the window that holds *time_ns*."""
        if self.zone is None:
            return max(time_ns - (time_ns % self.width_ns - self.offset_ns) % self.width_ns, MIN_TIME_NS)
        return int(self.starts(np.array([time_ns], np.int64))[0])

    def count(self, first_ns: int, last_ns: int) -> int:
        """How many windows there are from the one that starts at *first_ns* to the one at *last_ns*, about."""
        return max(0, (last_ns - first_ns) // self.width_ns + 1)

    def grid(self, first_ns: int, last_ns: int) -> Indexes:
        """Starts of all windows from the one at *first_ns* to the one at *last_ns*, ascending."""
        if last_ns < first_ns:
            return np.zeros(0, np.int64)
        if self.zone is None:
            return np.arange(self.count(first_ns, last_ns), dtype=np.int64) * self.width_ns + first_ns
        # Half steps: no window can be jumped over, however the clock changes.
        step = max(1, self.width_ns // 2)
        probes = np.arange(first_ns, last_ns + 1, step, dtype=np.int64)
        return np.unique(np.concatenate((self.starts(probes), np.array([last_ns], np.int64))))

    def bounds(self, start_ns: int, last_ns: int) -> tuple[int | None, int | None]:
        """Starts of the first and last window of the inclusive range; None where it has no bound on that side."""
        first = None if start_ns <= MIN_TIME_NS else self.start(start_ns)
        last = None if last_ns >= MAX_TIME_NS else self.start(last_ns)
        return first, last


def zone_offsets(zone: tzinfo, times: Indexes) -> Indexes:
    """What the zone adds to UTC at each of *times*, ns."""
    at_s, offsets = _transitions(zone)
    return offsets[np.searchsorted(at_s, np.floor_divide(times, SECOND_NS), side="right")]


@lru_cache(maxsize=64)
def _transitions(zone: tzinfo) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Moments (Unix seconds) at which the zone's offset changes, and the offsets (ns) before, between and after."""
    moments: list[int] = []
    offsets = [_offset_s(zone, _FIRST_S)]
    for probe in range(_FIRST_S + _WEEK_S, _LAST_S, _WEEK_S):
        offset = _offset_s(zone, probe)
        if offset != offsets[-1]:
            low, high = probe - _WEEK_S, probe
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset_s(zone, middle) == offsets[-1] else (low, middle)
            moments.append(high)
            offsets.append(offset)
    return np.array(moments, np.int64), np.array(offsets, np.int64) * SECOND_NS


def _offset_s(zone: tzinfo, unix_s: int) -> int:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_s)
    offset = moment.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
