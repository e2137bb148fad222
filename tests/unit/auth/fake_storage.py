"""Records in memory, with the semantics of ``storage.read_records`` and ``storage.change_records`` (docs/rpc.md)."""

from __future__ import annotations

from typing import Any

from common.errors import Conflict, Unavailable
from common.rpc import wire
from common.rpc.client import Answer

MAX_BATCH = 10_000


class Crash(Exception):
    """The process that called ends here."""


class FakeStorage:
    """Stands in for ``RpcClient``.

    Attributes:
        down: makes it unreachable.
        down_at: number of changes after which it is unreachable, None = it stays up.
        events: what the feed would tell.
        crash_at: number of changes after which the caller ends, None = never.
        crash_before: whether it ends before the last of them is made, or after it.
    """

    def __init__(self) -> None:
        self.number = 0
        self.records: dict[tuple[str, str], list[Any]] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.indexes: dict[tuple[str, str], dict[str, Any]] = {}
        self.dropped_buckets: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.down = False
        self.reads = 0
        self.down_at: int | None = None
        self.crash_at: int | None = None
        self.crash_before = False

    async def call(self, url: str, method: str, head: Any, **_: Any) -> Answer:
        if self.down:
            raise Unavailable("cannot reach storage")
        # Through bytes, as over the wire: what can't be packed fails here too.
        head = wire.decode_head(wire.encode_head(head))
        if method == "storage.read_records":
            self.reads += 1
            answer: Any = {"number": self.number, "answers": [self._read(read) for read in head["reads"]]}
        else:
            answer = self._change_or_crash(head)
            if self.down_at is not None:
                self.down_at -= 1
                if self.down_at <= 0:
                    self.down, self.down_at = True, None
        return Answer(wire.decode_head(wire.encode_head(answer)))

    def _read(self, read: list[Any]) -> list[Any]:
        match read:
            case ["id", kind, id]:
                return [self.records[kind, id]] if (kind, id) in self.records else []
            case ["unique", key]:
                return [self.records[self.keys[key]]] if key in self.keys else []
            case ["list", kind, field, value, after, limit]:
                found = [
                    self.records[key]
                    for key in sorted(self.records)
                    if key[0] == kind
                    and key[1] > (after or "")
                    and (field is None or _has(self.indexes[key].get(field), value))
                ]
                return found[:limit]
        raise AssertionError(read)

    def _change_or_crash(self, head: Any) -> dict[str, Any]:
        if self.crash_at is None:
            return self._change(head)
        self.crash_at -= 1
        if self.crash_at <= 0 and self.crash_before:
            raise Crash
        answer = self._change(head)
        if self.crash_at <= 0:
            raise Crash
        return answer

    def _change(self, head: Any) -> dict[str, Any]:
        assert sum(len(head[name]) for name in ("conditions", "puts", "deletes", "tags", "drop_buckets")) <= MAX_BATCH
        for index, condition in enumerate(head["conditions"]):
            if not self._holds(condition):
                raise Conflict("a record has changed", details={"condition": index})
        puts = {(put["kind"], put["id"]): put for put in head["puts"]}
        deletes = [tuple(key) for key in head["deletes"]]
        freed = {*puts, *deletes}
        taken: set[str] = set()
        for put in head["puts"]:
            for key in put["unique"]:
                if key in taken or self.keys.get(key, ("", "")) not in {("", ""), *freed}:
                    raise Conflict("a unique key is taken", details={"unique": key})
                taken.add(key)
        self.number += 1
        self.keys = {key: holder for key, holder in self.keys.items() if holder not in freed}
        for key in deletes:
            self.records.pop(key, None)
        for (kind, id), put in puts.items():
            self.records[kind, id] = [kind, id, self.number, put["body"]]
            self.indexes[kind, id] = put["indexes"]
            self.keys.update(dict.fromkeys(put["unique"], (kind, id)))
        self.dropped_buckets += head["drop_buckets"]
        if head["tags"]:
            self.events.append({"number": self.number, "tags": head["tags"]})
        return {"number": self.number}

    def _holds(self, condition: list[Any]) -> bool:
        match condition:
            case ["absent", key]:
                return key not in self.keys
            case ["none", kind]:
                return not any(held == kind for held, _ in self.records)
            case ["exists", kind, id]:
                return (kind, id) in self.records
            case ["version", kind, id, version]:
                return (kind, id) in self.records and self.records[kind, id][2] == version
        raise AssertionError(condition)


def _has(indexed: Any, value: str) -> bool:
    return value in indexed if isinstance(indexed, list) else indexed == value
