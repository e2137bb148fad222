"""Plans and series of measurements, kept and renewed by difference.

The board tells, or else one ``storage.plan``, whether anything changed since the plan that is held. Source:
docs/rpc.md, "storage.plan"; docs/decisions/0065-the-board.md.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from common.board import word_of
from common.budget import Budget
from common.errors import Gone
from common.model import MAX_TIME_NS, MIN_TIME_NS
from common.rpc.client import RpcClient
from common.segment import decode_dictionary
from common.tombstones import Tombstone
from services.query.reading import units
from services.query.reading.board import Board
from services.query.reading.held import Held, in_shards, with_difference
from services.query.reading.unit_cache import UnitCache

# Measurements whose plan and series are held; the least recently used go first.
MAX_MEASUREMENTS = 10_000
# A measurement of a request comes without a wait where the board tells; each so many others get the loop.
GIVE_WAY_EVERY = 16


@dataclass(slots=True)
class _Batch:
    """Measurements of one bucket that wait for the next plan call; ``done`` is set after it."""

    names: set[str] = field(default_factory=set)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Plans:
    """What is held of measurements.

    Args:
        cache: of decoded units; it gives way to what grows here, and those of a forgotten measurement go with it.
        board: learns from what storage answers here.
    """

    def __init__(self, client: RpcClient, storage_url: str, budget: Budget, cache: UnitCache, board: Board) -> None:
        self._client = client
        self._url = storage_url
        self._budget = budget
        self._cache = cache
        self._board = board
        self._spared = 0
        self._held: OrderedDict[tuple[str, str], Held] = OrderedDict()
        self._waiting: dict[str, _Batch] = {}
        # Buckets for which a call is under way: by whoever came first (None), or for all who came behind.
        self._planning: dict[str, asyncio.Task[None] | None] = {}

    def find(self, bucket_id: str, name: str) -> Held | None:
        """What is held of a measurement, as old as it may be."""
        return self._held.get((bucket_id, name))

    def is_asking(self, bucket_id: str) -> bool:
        """Whether storage is being asked about measurements of the bucket."""
        return bucket_id in self._planning

    def is_newest(self, bucket_id: str, name: str) -> bool:
        """Whether what is held of a measurement is known to be the newest, without asking."""
        held = self._held.get((bucket_id, name))
        return held is not None and held.version >= 0 and self._board.holds(held.word, held.stamp)

    async def refresh(self, bucket_id: str, name: str) -> None:
        """Bring what is held of a measurement up to date by a call that begins after this one.

        No call where the board tells that it is. Those who come while a call is under way wait for the next one and
        share it.
        """
        if self.is_newest(bucket_id, name):
            self._held.move_to_end((bucket_id, name))
            self._spared += 1
            if self._spared % GIVE_WAY_EVERY == 0:
                await asyncio.sleep(0)
            return
        if bucket_id in self._planning:
            batch = self._waiting.get(bucket_id)
            if batch is None:
                batch = self._waiting[bucket_id] = _Batch()
            batch.names.add(name)
            await asyncio.shield(batch.done)
            return
        self._planning[bucket_id] = None
        try:
            await self._plan(bucket_id, (name,))
        finally:
            # Of those who have come meanwhile anyone may leave: their call is a task of its own.
            if bucket_id in self._waiting:
                self._planning[bucket_id] = asyncio.create_task(self._plan_waiting(bucket_id))
            else:
                del self._planning[bucket_id]

    async def _plan_waiting(self, bucket_id: str) -> None:
        try:
            while (batch := self._waiting.pop(bucket_id, None)) is not None:
                try:
                    await self._plan(bucket_id, batch.names)
                except Exception as error:
                    batch.done.set_exception(error)
                    # Whoever waited may be gone; then nobody takes the error.
                    batch.done.exception()
                else:
                    batch.done.set_result(None)
        finally:
            del self._planning[bucket_id]

    async def _plan(self, bucket_id: str, names: Iterable[str]) -> None:
        versions = {name: held.version if (held := self._held.get((bucket_id, name))) else -1 for name in names}
        head = {
            "bucket_id": bucket_id, "measurements": versions, "start_ns": MIN_TIME_NS, "stop_ns": MAX_TIME_NS + 1,
        }  # fmt: skip
        stamps = {name: self._board.stamp(word_of(bucket_id, name)) for name in versions}
        asked_s = self._board.now_s()
        answer = (await self._client.call(self._url, "storage.plan", head)).head
        self._board.learn(answer.get("board"), asked_s)
        answers = answer["measurements"]
        lost = []
        for name, version in versions.items():
            key = (bucket_id, name)
            held = self._held.get(key)
            if name not in answers:
                self._forget(key)
            elif version >= 0 and (held is None or held.base != version):
                # What the answer is a difference to has been given up meanwhile.
                self._forget(key)
                lost.append(name)
            elif answers[name] is not None:
                self._apply_plan(key, answers[name])
            elif held is not None:
                held.is_quiet = True
            held = self._held.get(key)
            if held is not None:
                held.stamp = stamps[name]
                self._held.move_to_end(key)
        if lost:
            await self._plan(bucket_id, lost)
        while len(self._held) > MAX_MEASUREMENTS:
            self._forget(next(iter(self._held)))

    def _apply_plan(self, key: tuple[str, str], plan: dict[str, Any]) -> None:
        held = self._held.get(key)
        generation, count = plan["series"]
        if held is None or held.generation != generation:
            # Other numbers of the series, or another measurement of the same name: none of the codes holds.
            self._forget(key)
            held = self._held[key] = Held((*key, generation), generation)
        shards = with_difference(held.shards, plan["segments"], plan["gone"]) if "gone" in plan else {}
        if "gone" not in plan:
            known = {segment.id: segment for segments in held.shards.values() for segment in segments}
            shards = in_shards([known.get(entry[0]) or units.read_segment(*entry) for entry in plan["segments"]])
        held.version = held.base = plan["version"]
        held.is_quiet = False
        held.shards, held.wanted_series = shards, count
        held.tombstones = tuple(map(Tombstone.from_wire, plan["tombstones"]))
        held.units = {shard: units for shard, units in held.units.items() if shard in shards}

    async def read_series(self, bucket_id: str, name: str, held: Held) -> None:
        """Read the series that the plan has and the index has not; one at a time, and never cut short.

        Raises Gone: they have other numbers now.
        """
        if held.index.count >= held.wanted_series:
            return
        head = {
            "bucket_id": bucket_id, "measurement": name, "generation": held.generation, "after": held.index.count,
        }  # fmt: skip
        parts = []
        async with self._client.stream(self._url, "storage.series", head) as answer:
            if answer.head["generation"] != held.generation:
                raise Gone(f"the series of {name!r} have been dropped, or have other numbers")
            async for part in answer.parts():
                parts.append(await asyncio.to_thread(decode_dictionary, part))
        await asyncio.to_thread(held.index.extend, parts)
        grown = held.index.nbytes - held.plan_bytes
        self._cache.make_room(grown)
        self._budget.take(grown)
        held.plan_bytes += grown

    def _forget(self, key: tuple[str, str]) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._budget.give(held.plan_bytes)
            self._cache.drop(held.key)
