"""Typed access to the records in storage; no rules.

Source: docs/rpc.md, "storage.read_records" and "storage.change_records".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from common import wire
from common.errors import Conflict, Invalid, TooLarge, Unavailable
from common.rpc import Answer
from services.auth.entities import Entity
from services.auth.reads import Answers, Ask, JoinedReads, Read

E = TypeVar("E", bound=Entity)
READS_PER_CALL = 500
PAGE_RECORDS = 500
# No list of one organization or of all users is longer: a bound on what one call may hold.
MAX_LISTED = 100_000
# Storage takes keys of 4096; what stands before a name in its key is shorter than the difference.
MAX_RECORD_BYTES = 1 << 20
MAX_KEY_CHARS, MAX_NAME_CHARS = 4096, 4000
# Reads are harmless twice; a restart of storage takes about this long.
READ_RETRY_S = 1.0


class Stale(Exception):
    """What a change rested on is no longer so: read again and decide anew."""


class KeyTaken(Exception):
    """Another record holds a unique key of a change."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Caller(Protocol):
    """What of ``RpcClient`` is used here."""

    async def call(
        self, url: str, method: str, head: Any, *, timeout_s: float = ..., retry_for_s: float = ...
    ) -> Answer: ...


@dataclass(slots=True)
class Change:
    """One atomic batch, as it is put together."""

    conditions: list[list[Any]] = field(default_factory=list)
    puts: list[dict[str, Any]] = field(default_factory=list)
    deletes: list[list[str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    drop_buckets: list[str] = field(default_factory=list)

    def create(self, *entities: Entity) -> None:
        """Put new records."""
        for entity in entities:
            self._put(entity)

    def replace(self, old: Entity, new: Entity) -> None:
        """Put *new* for *old*, if nobody has changed it since it was read."""
        self.conditions.append(["version", old.KIND, old.id, old.version])
        self.tags += old.tags()
        self._put(new)

    def touch(self, *entities: Entity) -> None:
        """Leave records as they are, so that who decides on one of them at this moment has to decide anew."""
        for entity in entities:
            self.replace(entity, entity)

    def delete(self, *entities: Entity) -> None:
        """Delete records, those changed or deleted since they were read too."""
        for entity in entities:
            self.deletes.append([entity.KIND, entity.id])
            self.tags += entity.tags()

    def delete_once(self, entity: Entity) -> None:
        """Delete a record, if nobody has changed or deleted it since it was read."""
        self.conditions.append(["version", entity.KIND, entity.id, entity.version])
        self.delete(entity)

    def require(self, *entities: Entity) -> None:
        """Only if these records still exist."""
        for entity in entities:
            self.conditions.append(["exists", entity.KIND, entity.id])

    def require_none(self, *kinds: type[Entity]) -> None:
        """Only if there is no record of these kinds."""
        self.conditions += [["none", kind.KIND] for kind in kinds]

    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.puts or self.deletes)

    def size(self) -> int:
        """Entries as storage counts them, or more (equal tags count once there): it takes 10,000."""
        return len(self.conditions) + len(self.puts) + len(self.deletes) + len(self.tags) + len(self.drop_buckets)

    def _put(self, entity: Entity) -> None:
        self.puts.append(
            {
                "kind": entity.KIND,
                "id": entity.id,
                "body": entity.body(),
                "unique": entity.unique(),
                "indexes": dict(entity.indexes()),
            }
        )
        self.tags += entity.tags()


class Records:
    """Reads and changes records.

    Args:
        on_change: called with tags and number of each change made here, before the change is answered, so that this
            process's own caches never show what was before it.
    """

    def __init__(self, client: Caller, storage_url: str, on_change: Callable[[Sequence[str], int], None]) -> None:
        self._client = client
        self._url = storage_url
        self._on_change = on_change
        self._joined = JoinedReads(self._read)

    def reader(self) -> Reader:
        """Something to read with; its ``number`` is good for all that it has read."""
        return Reader(self._read, self._joined)

    async def _read(self, reads: Sequence[Read]) -> Answers:
        answer = await self._client.call(
            self._url, "storage.read_records", {"reads": reads}, timeout_s=10, retry_for_s=READ_RETRY_S
        )
        return answer.head["number"], answer.head["answers"]

    async def change(self, change: Change, taken: str | None = None) -> int:
        """Make the change, whole or not at all.

        Args:
            taken: what a client is told when another record holds a unique key; None = the caller handles KeyTaken.

        Raises:
            KeyTaken, Stale: see there.
            Conflict: with the text *taken*.
            TooLarge: a record is over storage's limit.
            Invalid: a name is too long to be a unique key.
            Unavailable: storage can't be reached; the change may have been made or not.
        """
        if any(len(key) > MAX_KEY_CHARS for put in change.puts for key in put["unique"]):
            raise Invalid(f"a name is too long: at most {MAX_NAME_CHARS} characters")
        if any(len(wire.encode_head(put["body"])) > MAX_RECORD_BYTES for put in change.puts):
            raise TooLarge(f"an object of over {MAX_RECORD_BYTES} bytes cannot be stored")
        tags = sorted(set(change.tags))
        head = {
            "conditions": change.conditions,
            "puts": change.puts,
            "deletes": change.deletes,
            "tags": tags,
            "drop_buckets": change.drop_buckets,
        }
        try:
            answer = await self._client.call(self._url, "storage.change_records", head)
        except Conflict as error:
            if "unique" in error.details:
                if taken is not None:
                    raise Conflict(taken) from None
                raise KeyTaken(error.details["unique"]) from None
            raise Stale(str(error)) from None
        number: int = answer.head["number"]
        self._on_change(tags, number)
        return number


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
