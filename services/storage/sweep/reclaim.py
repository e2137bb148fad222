"""Takes series that have no rows left out of the dictionaries, so that they count no more (docs/decisions/0058).

Deletes and retention leave a settled tombstone that says which series may be without rows. The segments tell which
are (``emptied.py``). Where it is worth it the dictionary is written anew without them (``renumber.py``); until then
the tombstone is narrowed to them, so that queries look at no others. Killed at any moment it is begun again.
"""

from __future__ import annotations

from collections.abc import Callable

from common.errors import Gone
from common.log import get_logger
from common.tombstones import Tombstone, encode_choice
from services.storage.catalog.interface import Catalog, Transaction
from services.storage.commits.committer import Committer
from services.storage.commits.draft import Draft
from services.storage.reading.segments import Segments
from services.storage.state.generations import generation_of
from services.storage.state.measurement import Measurement
from services.storage.state.state import State
from services.storage.sweep.emptied import Look, look
from services.storage.sweep.renumber import Renumbering

log = get_logger("storage.reclaim")
# A dictionary is written anew when one of so many of its series is without rows: queries then read it whole again.
WORTH_ONE_IN = 4
# Where that costs little, or is needed because the bucket comes near its limit of series, it is done for fewer.
SMALL_SERIES = 10_000
NEAR_LIMIT = 0.75
WORTH_ONE_IN_FEW = 64


def is_worth(emptied: int, count: int, *, is_near_limit: bool) -> bool:
    """Whether the dictionary of *count* series is to be written anew without *emptied* ones."""
    one_in = WORTH_ONE_IN_FEW if is_near_limit or count <= SMALL_SERIES else WORTH_ONE_IN
    return emptied > 0 and emptied * one_in >= count


class Narrow:
    """The job of leaving only those series in doubt that are found without rows."""

    size = 0

    def __init__(self, found: Look) -> None:
        self._found = found

    def run(self, transaction: Transaction, draft: Draft) -> Tombstone | None:
        """Returns the tombstone that is left, None when there is none or it has changed meanwhile."""
        found = self._found
        measurement = found.measurement
        if not found.is_current(draft):
            return None
        choice = encode_choice(found.emptied)
        if choice == found.stone.series:
            return found.stone
        draft.number = transaction.next_number()
        transaction.delete_tombstones(measurement.id, [found.stone.number])
        left = [stone for stone in draft.tombstones(measurement) if stone != found.stone]
        narrowed = Tombstone(found.stone.number, 0, 0, choice) if found.emptied.any() else None
        if narrowed is not None:
            transaction.add_tombstone(measurement.id, narrowed)
            left.append(narrowed)
        draft.set_tombstones(measurement, tuple(sorted(left, key=lambda stone: stone.number)))
        return narrowed


class Reclaimer:
    """Does it for all measurements that have series in doubt, one after the other.

    Args:
        max_series_per_bucket: 0 = no limit.
        on_reclaimed: told how many series went.
    """

    def __init__(
        self,
        catalog: Catalog,
        state: State,
        committer: Committer,
        segments: Segments,
        max_series_per_bucket: int,
        on_reclaimed: Callable[[int], None] = lambda series: None,
    ) -> None:
        self._catalog = catalog
        self._state = state
        self._committer = committer
        self._segments = segments
        self._limit = max_series_per_bucket
        self._on_reclaimed = on_reclaimed
        # What was found of a measurement under its tombstone: how many series are without rows.
        self._known: dict[int, tuple[Tombstone, int]] = {}

    async def reclaim(self) -> None:
        """Look at all that is in doubt and was not looked at yet, and take out what is worth it."""
        # A damaged segment may hold rows of series that no other one names: they are kept as long as it is.
        if self._state.quarantined or self._state.may_be_misled:
            return
        self._known = {id: known for id, known in self._known.items() if id in self._state.settled}
        for id in list(self._state.settled):
            measurement = self._state.by_id.get(id)
            stone = None if measurement is None else measurement.settled
            if measurement is None or stone is None:
                continue
            if generation_of(id, measurement.epoch + 1) in self._state.stale:
                continue  # what an earlier try has left goes first
            known = self._known.get(id)
            if known is not None and known[0] == stone and not self._is_worth(measurement, known[1]):
                continue
            try:
                await self._take_out(measurement, stone)
            except Gone:
                log.debug("what is in doubt changed under the look; it is looked at again", measurement=id)

    def _is_worth(self, measurement: Measurement, emptied: int) -> bool:
        in_bucket = self._state.contents[measurement.bucket_id].series_count
        is_near_limit = bool(self._limit) and in_bucket >= NEAR_LIMIT * self._limit
        return is_worth(emptied, measurement.series.count, is_near_limit=is_near_limit)

    async def _take_out(self, measurement: Measurement, stone: Tombstone) -> None:
        found = await look(self._segments, measurement, stone)
        emptied = int(found.emptied.sum())
        if measurement.id not in self._state.by_id:
            return
        if self._is_worth(measurement, emptied):
            gone = await Renumbering(self._catalog, self._state, self._committer, self._segments, found).run()
            if gone is not None:
                self._on_reclaimed(gone)
                log.info("series without rows are gone", measurement=measurement.id, series=gone)
                return
        narrowed = await self._committer.submit(Narrow(found))
        if narrowed is not None:
            self._known[measurement.id] = (narrowed, emptied)
