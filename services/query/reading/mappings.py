"""The mappings of organizations as auth tells them, kept until the feed says that they changed.

Source: docs/rpc.md, "auth.mappings"; design, decision 11.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from common.cache import ToldCache
from common.dbrp import MappingTable
from common.rpc.client import RpcClient

MAX_TABLES = 10_000


class Mappings:
    """``services.query.context.MappingSource``.

    Of questions about one organization at most one is under way and one waits for it, shared by all who came since:
    a flood of refusals costs auth one call after another.
    """

    def __init__(self, client: RpcClient, auth_url: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._auth_url = auth_url
        self._tables: ToldCache[MappingTable] = ToldCache(MAX_TABLES, clock_s)
        self._asked: dict[tuple[str, bool], asyncio.Task[MappingTable]] = {}
        self._next: dict[tuple[str, bool], asyncio.Task[MappingTable]] = {}

    async def of_org(self, org_id: str, *, confirm: bool = False) -> MappingTable:
        table = None if confirm else self._tables.find(org_id)
        return table if table is not None else await self._ask((org_id, confirm))

    def drop(self, tags: Iterable[str], number: int) -> None:
        self._tables.drop(tags, number)

    def drop_all(self, number: int) -> None:
        self._tables.drop_all(number)

    def set_fed(self, fed: bool) -> None:
        self._tables.set_fed(fed)

    async def _ask(self, key: tuple[str, bool]) -> MappingTable:
        running = self._asked.get(key)
        if running is None:
            task = self._start(key, None)
        elif not key[1]:
            task = running  # what auth keeps is as good now as a moment ago
        else:
            # A refusal wants an answer that was asked for after the refused came.
            task = self._next.get(key) or self._start(key, running)
        # One who leaves must not take the answer from the others.
        return await asyncio.shield(task)

    def _start(self, key: tuple[str, bool], after: asyncio.Task[MappingTable] | None) -> asyncio.Task[MappingTable]:
        async def run() -> MappingTable:
            if after is not None:
                await asyncio.wait([after])
                self._next.pop(key, None)
                self._asked[key] = task
            try:
                return await self._fetch(*key)
            finally:
                if self._asked.get(key) is task:
                    del self._asked[key]

        task = asyncio.create_task(run())
        (self._asked if after is None else self._next)[key] = task
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return task

    async def _fetch(self, org_id: str, confirm: bool) -> MappingTable:
        head: dict[str, Any] = {"org_id": org_id, "confirm": True} if confirm else {"org_id": org_id}
        answer = (await self._client.call(self._auth_url, "auth.mappings", head, timeout_s=10, retry_for_s=1)).head
        table = await asyncio.to_thread(MappingTable.from_wire, answer["mappings"])
        self._tables.put(org_id, table, answer["tags"], answer["number"])
        return table
