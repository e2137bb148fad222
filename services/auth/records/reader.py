"""Reads of records, as the types that the rules know.

Source: docs/rpc.md, "storage.read_records".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from common.errors import Unavailable
from services.auth.entities.entity import Entity
from services.auth.records.reads import Ask, JoinedReads, Read

E = TypeVar("E", bound=Entity)
READS_PER_CALL = 500
PAGE_RECORDS = 500
# No list of one organization or of all users is longer: a bound on what one call may hold.
MAX_LISTED = 100_000


class Reader:
    """Reads records; ``number`` is the lowest change number as of which anything was read."""

    def __init__(self, read: Ask, joined: JoinedReads) -> None:
        self._read = read
        self._joined = joined
        self._number: int | None = None

    @property
    def number(self) -> int:
        return self._number or 0

    async def ask(self, reads: Sequence[Read]) -> list[list[Any]]:
        """Several reads in one call, as of one number."""
        number, answers = await self._read(reads)
        self._saw(number)
        return answers

    def _saw(self, number: int) -> None:
        self._number = number if self._number is None else min(number, self._number)

    async def find(self, kind: type[E], id: str) -> E | None:
        return await self._find_one(kind, ["id", kind.KIND, id])

    async def find_unique(self, kind: type[E], key: str) -> E | None:
        return await self._find_one(kind, ["unique", key])

    async def _find_one(self, kind: type[E], read: Read) -> E | None:
        number, records = await self._joined.one(read)
        self._saw(number)
        return kind.from_record(records[0]) if records else None

    async def find_many(self, wanted: Iterable[tuple[type[Entity], str]]) -> dict[tuple[str, str], Entity]:
        """Those of *wanted* that exist, by kind and id."""
        unique = list(dict.fromkeys(wanted))
        found: dict[tuple[str, str], Entity] = {}
        for start in range(0, len(unique), READS_PER_CALL):
            piece = unique[start : start + READS_PER_CALL]
            answers = await self.ask([["id", kind.KIND, id] for kind, id in piece])
            for (kind, id), records in zip(piece, answers, strict=True):
                if records:
                    found[kind.KIND, id] = kind.from_record(records[0])
        return found

    async def list_all(
        self,
        kind: type[E],
        field: str | None = None,
        value: str | None = None,
        limit: int = MAX_LISTED,
        after: str = "",
    ) -> list[E]:
        """Records of a kind (whose index *field* has *value*) in the order of their ids, behind the id *after*."""
        listed: list[E] = []
        last = after or None
        while len(listed) < limit:
            size = min(PAGE_RECORDS, limit - len(listed))
            (records,) = await self.ask([["list", kind.KIND, field, value, last, size]])
            listed += [kind.from_record(record) for record in records]
            if len(records) < size:
                return listed
            last = listed[-1].id
        if limit == MAX_LISTED:
            raise Unavailable(f"more than {MAX_LISTED} records of kind {kind.KIND}")
        return listed

    async def list_each(self, kind: type[E], field: str, values: Sequence[str]) -> dict[str, list[E]]:
        """For each of *values* the records whose index *field* has it; at most one page each."""
        found: dict[str, list[E]] = {}
        for start in range(0, len(values), READS_PER_CALL):
            piece = values[start : start + READS_PER_CALL]
            answers = await self.ask([["list", kind.KIND, field, value, None, PAGE_RECORDS] for value in piece])
            for value, records in zip(piece, answers, strict=True):
                found[value] = [kind.from_record(record) for record in records]
        return found
