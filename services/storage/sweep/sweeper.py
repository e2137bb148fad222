"""Deletes from the disk what nobody can read any more, in slices between the commits.

Everything here is done again from the start after a crash: what is left to delete is known from the catalog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.errors import InfluxError
from common.log import get_logger
from services.storage.catalog.interface import Catalog, Transaction
from services.storage.changes.deletes import SettleDeletes
from services.storage.changes.results import REMEMBERED_MS, oldest_id
from services.storage.commits.committer import Committer
from services.storage.commits.draft import Draft
from services.storage.state.state import State
from services.storage.sweep.pieces import merge_pieces
from services.storage.sweep.reclaim import Reclaimer
from services.storage.sweep.retention import ExpireShards

log = get_logger("storage.sweep")
INTERVAL_S = 1.0
# How often shards whose time is over and small pieces of dictionaries are looked for.
EXPIRE_EVERY_MS = 30_000
SLICE_SEGMENTS = 64
SLICE_BYTES = 8 << 20
SLICE_PIECES = 64
SLICE_RESULTS = 5000
# Results are forgotten this much later than they are refused.
SLACK_MS = 60_000


class DeleteReplaced:
    """The job of deleting a slice of what was replaced before *before_ms*, and of commits that hold nothing."""

    size = 0

    def __init__(self, state: State, before_ms: int) -> None:
        self._state = state
        self._before_ms = before_ms

    def run(self, transaction: Transaction, draft: Draft) -> bool:
        """Returns whether something was deleted."""
        expired: list[int] = []
        size = 0
        # In the order in which they were retired.
        for id, retired in self._state.retired.items():
            if retired.at_ms >= self._before_ms or len(expired) >= SLICE_SEGMENTS or size >= SLICE_BYTES:
                break
            expired.append(id)
            size += retired.segment.size
        commits: list[int] = []
        for number in self._state.empty:
            if len(commits) >= SLICE_SEGMENTS or size >= SLICE_BYTES:
                break
            commits.append(number)
            size += self._state.commits[number].size
        # A segment of level 0 goes with its commit's row.
        transaction.delete_segments([id for id in expired if self._state.retired[id].segment.level > 0])
        transaction.delete_commits(commits)
        draft.then(lambda state: state.forget_retired(expired))
        draft.then(lambda state: state.forget_commits(commits))
        return bool(expired or commits)


class DeleteDropped:
    """The job of deleting a slice of a dropped measurement, the dictionary of which is deleted."""

    size = 0

    def __init__(self, state: State, measurement: int) -> None:
        self._state = state
        self._measurement = measurement

    def run(self, transaction: Transaction, draft: Draft) -> bool:
        """Returns whether something was deleted."""
        left = self._state.dropped.get(self._measurement)
        if left is None:
            return False
        count = size = 0
        while count < min(len(left), SLICE_SEGMENTS) and size < SLICE_BYTES:
            size += left[count][1]
            count += 1
        transaction.delete_segments([id for id, _ in left[:count]])
        is_done = count == len(left)
        if is_done:
            transaction.delete_dropped(self._measurement)
        draft.then(lambda state: self._forget(state, count, is_done))
        return True

    def _forget(self, state: State, count: int, is_done: bool) -> None:
        del state.dropped[self._measurement][:count]
        if is_done:
            del state.dropped[self._measurement]


class DeleteStale:
    """The job of deleting a slice of a dictionary that is not in force."""

    size = 0

    def __init__(self, generation: int) -> None:
        self._generation = generation

    def run(self, transaction: Transaction, draft: Draft) -> None:
        if transaction.delete_pieces(self._generation, SLICE_PIECES):
            draft.then(lambda state: state.stale.discard(self._generation))


class ForgetResults:
    """The job of forgetting a slice of old results of writes."""

    size = 0

    def __init__(self, before: bytes) -> None:
        self._before = before

    def run(self, transaction: Transaction, draft: Draft) -> bool:
        """Returns whether there may be more."""
        return transaction.forget_results(self._before, SLICE_RESULTS) == SLICE_RESULTS


class Sweeper:
    """Runs these jobs, one at a time, for ever.

    Args:
        reclaimer: takes series without rows out of the dictionaries.
        keep_ms: how long a replaced segment stays readable.
        now_ms: Unix ms.
    """

    def __init__(
        self,
        catalog: Catalog,
        state: State,
        committer: Committer,
        reclaimer: Reclaimer,
        keep_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._catalog = catalog
        self._state = state
        self._committer = committer
        self._reclaimer = reclaimer
        self._keep_ms = keep_ms
        self._now_ms = now_ms
        self._expire_at_ms = 0

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except InfluxError as error:
                log.warning("cannot delete what is not needed any more", reason=str(error))
            except Exception as error:
                log.error("sweeping failed", exc_info=error)  # and is tried again
            await asyncio.sleep(INTERVAL_S)

    async def sweep(self) -> None:
        """Delete all that can be deleted now."""
        if self._now_ms() >= self._expire_at_ms:
            self._expire_at_ms = self._now_ms() + EXPIRE_EVERY_MS
            await self.expire()
            await merge_pieces(self._catalog, self._committer)
        if (settle := SettleDeletes(self._state)).is_needed():
            await self._committer.submit(settle)
        while self._has_replaced() and await self._committer.submit(
            DeleteReplaced(self._state, self._now_ms() - self._keep_ms)
        ):
            pass
        # The pieces first: as long as there are some, the row of their measurement stays.
        while (stale := next(iter(self._state.stale), None)) is not None or self._state.dropped:
            job = DeleteDropped(self._state, next(iter(self._state.dropped))) if stale is None else DeleteStale(stale)
            await self._committer.submit(job)
        await self._reclaimer.reclaim()
        before = oldest_id(self._now_ms() - REMEMBERED_MS - SLACK_MS)
        while await self._committer.submit(ForgetResults(before)):
            pass
        while await self._catalog.give_back_space():
            pass

    async def expire(self) -> None:
        """Retire all shards whose time is over."""
        while (job := ExpireShards(self._state, self._now_ms() * 1_000_000)).is_needed():
            if not await self._committer.submit(job):
                return

    def _has_replaced(self) -> bool:
        oldest = next(iter(self._state.retired.values()), None)
        return bool(self._state.empty) or (oldest is not None and oldest.at_ms < self._now_ms() - self._keep_ms)
