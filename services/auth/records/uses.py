"""When tokens and legacy authorizations were last used: told by the gateways, written in batches, never per request.

A gateway tells every 15 s which it has seen, and they are written every 15 s: what is shown is 30 s old, a minute
behind a slow storage. A crash loses that much, a clean stop nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from common.errors import InfluxError
from common.log import get_logger
from services.auth.entities.authorizations import ApiToken, LastUse, Legacy
from services.auth.records.change import Change, Stale
from services.auth.records.store import Records

log = get_logger("uses")
WRITE_EVERY_S = 15.0
# The supervisor waits longer for auth to stop.
LAST_WRITE_S = 3.0
MAX_PENDING = 100_000
PUTS_PER_CHANGE = 200


class Uses:
    """What was used and is not written yet."""

    def __init__(self) -> None:
        self._pending: dict[str, int] = {}

    def note(self, used_ms: Mapping[str, int]) -> None:
        """Ids of authorizations and when each was used, Unix ms; past the bound new ones are left out."""
        for id, at_ms in used_ms.items():
            if id in self._pending or len(self._pending) < MAX_PENDING:
                self._pending[id] = max(at_ms, self._pending.get(id, 0))

    async def write(self, records: Records) -> int:
        """Write what is pending; returns how many. Raises Unavailable: the rest stays pending."""
        written = 0
        while self._pending:
            taken = dict(list(self._pending.items())[:PUTS_PER_CHANGE])
            reader = records.reader()
            found = await reader.find_many((kind, id) for id in taken for kind in (ApiToken, Legacy, LastUse))
            before = {id: entity for (kind, id), entity in found.items() if kind == LastUse.KIND}
            change = Change()
            for id, at_ms in taken.items():
                old = before.get(id)
                exists = (ApiToken.KIND, id) in found or (Legacy.KIND, id) in found
                if exists and (not isinstance(old, LastUse) or old.at_ms < at_ms):
                    change.create(LastUse(id=id, at_ms=at_ms))
            if change.puts:
                await records.change(change)
                written += len(change.puts)
            for id, at_ms in taken.items():
                if self._pending.get(id) == at_ms:
                    del self._pending[id]
        return written


async def keep_writing(uses: Uses, records: Records) -> None:
    """Write every 15 s, for ever."""
    while True:
        await asyncio.sleep(WRITE_EVERY_S)
        try:
            await uses.write(records)
        except (InfluxError, Stale) as error:
            log.warning("cannot write now when tokens were last used", reason=str(error))


async def write_last(uses: Uses, records: Records) -> None:
    """Write what is pending at the end, for a few seconds at most."""
    try:
        async with asyncio.timeout(LAST_WRITE_S):
            await uses.write(records)
    except (InfluxError, Stale, TimeoutError) as error:
        log.warning("cannot write at the end when tokens were last used", reason=str(error) or "storage is slow")
