"""A SELECT of one measurement, worked out on what is held of it while storage is asked whether that is still so.

Whoever asks alone would otherwise wait for storage first: a fifth of a short question. An answer leaves only when
storage has said that nothing changed, so it is as new as one that was worked out after that. Source:
docs/decisions/0064-worked-out-ahead.md.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from common.model import Bucket
from services.query.context import QueryContext
from services.query.influxql import tree
from services.query.planning.check import Checked
from services.query.reading.held import Measured

if TYPE_CHECKING:
    from services.query.reading.reader import Reader


class Ahead:
    """A measurement as it is held; storage is asked from the entry of the block on."""

    def __init__(self, reader: Reader, held: Measured) -> None:
        self._reader = reader
        self._held = held

    async def __aenter__(self) -> None:
        # Without a wait: whoever is cancelled in here never comes to the end of the block.
        self._asked = self._reader.ask_aside(self._held.bucket, self._held.name)

    async def __aexit__(self, *error: object) -> None:
        if not self._asked.done():
            self._asked.cancel()
            await asyncio.wait((self._asked,))
        if not self._asked.cancelled():
            self._asked.exception()  # told by whoever asked; here the work has failed before

    async def find(self, bucket: Bucket, name: str) -> Measured:
        """As ``Reader.measured`` for the one measurement, but as it is held."""
        # The question leaves before the work begins.
        await asyncio.sleep(0)
        return self._held

    async def find_newer(self, bucket: Bucket, name: str) -> Measured | None:
        """As ``Reader.measured`` for the one measurement, as storage has said that it is."""
        return await self._asked

    async def holds(self) -> bool:
        """Whether what is held was the newest when the block was entered. Raises as ``Reader.measured``."""
        newer, held = await self._asked, self._held
        return newer is not None and (
            newer.held is held.held
            and newer.shards is held.shards
            and newer.tombstones is held.tombstones
            and newer.table is held.table
        )


async def begin(checked: Checked, context: QueryContext) -> Ahead | None:
    """What to begin with before storage has answered; None where it is better waited for. Raises as ``resolve``.

    Nothing is begun that a change would make vain when the last question met one, or while others ask storage of the
    same bucket: they share its answer, and the process has other work meanwhile.
    """
    sources = checked.select.sources
    source = sources[0]
    if len(sources) > 1 or not isinstance(source, tree.Measurement) or source.regex is not None:
        return None
    held = context.reader.unchanged(await context.resolve(source.database, source.policy), source.name)
    return None if held is None else Ahead(context.reader, held)
