"""Typed access to the records in storage; no rules.

Source: docs/rpc.md, "storage.read_records" and "storage.change_records".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from common.errors import Conflict, Invalid, TooLarge
from common.rpc import wire
from common.rpc.client import Answer
from services.auth.records.change import Change, KeyTaken, Stale
from services.auth.records.reader import Reader
from services.auth.records.reads import Answers, JoinedReads, Read

# Storage takes keys of 4096; what stands before a name in its key is shorter than the difference.
MAX_RECORD_BYTES = 1 << 20
MAX_BATCH = 10_000  # and this many entries in one change
MAX_KEY_CHARS, MAX_NAME_CHARS = 4096, 4000
_NOTED: ContextVar[list[tuple[list[str], int]] | None] = ContextVar("noted", default=None)
# Reads are harmless twice; a restart of storage takes about this long.
READ_RETRY_S = 1.0


@contextmanager
def noting() -> Iterator[list[tuple[list[str], int]]]:
    """Note the changes that are made within the block, as tags and number: whoever asked for them is told with the
    answer, and need not wait for the feed."""
    noted: list[tuple[list[str], int]] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


class Caller(Protocol):
    """What of ``RpcClient`` is used here."""

    async def call(
        self, url: str, method: str, head: Any, *, timeout_s: float = ..., retry_for_s: float = ...
    ) -> Answer: ...


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
            TooLarge: a record, or the number of them, is over storage's limit.
            Invalid: a name is too long to be a unique key.
            Unavailable: storage can't be reached; the change may have been made or not.
        """
        if any(len(key) > MAX_KEY_CHARS for put in change.puts for key in put["unique"]):
            raise Invalid(f"a name is too long: at most {MAX_NAME_CHARS} characters")
        if any(len(wire.encode_head(put["body"])) > MAX_RECORD_BYTES for put in change.puts):
            raise TooLarge(f"an object of over {MAX_RECORD_BYTES} bytes cannot be stored")
        tags = sorted(set(change.tags))
        lists: tuple[Sequence[object], ...] = (
            change.conditions, change.puts, change.deletes, tags, change.drop_buckets,
        )  # fmt: skip
        if sum(map(len, lists)) > MAX_BATCH:
            raise TooLarge("too many objects are changed at once: ask for fewer")
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
        noted = _NOTED.get()
        if noted is not None:
            noted.append((tags, number))
        return number
