"""Records: conditional batches of changes, each whole or not at all (design, decision 13).

What the records mean is auth's business, with one exception: kind ``bucket`` is the list of living buckets, and
``retention_ns`` in their bodies says when their shards are over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import Conflict, Invalid
from common.rpc import wire
from services.storage.catalog.interface import Transaction
from services.storage.catalog.rows import StoredRecord
from services.storage.commits.draft import Draft
from services.storage.state.buckets import retention_of

BUCKET = "bucket"
MAX_BATCH = 10_000
MAX_BODY_BYTES = 1 << 20
MAX_KEY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Put:
    """A record as it is to be."""

    kind: str
    id: str
    body: bytes
    unique: tuple[str, ...]
    indexes: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A batch whose form has been checked."""

    conditions: tuple[tuple[Any, ...], ...]
    puts: tuple[Put, ...]
    deletes: tuple[tuple[str, str], ...]
    tags: tuple[str, ...]
    drop_buckets: tuple[str, ...]


def decode_change(head: Any) -> ChangeRequest:
    """Check the form of a batch. Raises Invalid."""
    if not isinstance(head, dict):
        raise Invalid("cannot change records: the head is no map")
    lists = [head.get(name, []) for name in ("conditions", "puts", "deletes", "tags", "drop_buckets")]
    if not all(isinstance(some, list) for some in lists) or sum(map(len, lists)) > MAX_BATCH:
        raise Invalid(f"cannot change records: lists of at most {MAX_BATCH} entries are wanted")
    conditions, puts, deletes, tags, drop_buckets = lists
    if not all(isinstance(name, str) for name in (*tags, *drop_buckets)):
        raise Invalid("cannot change records: a tag or a bucket is no string")
    return ChangeRequest(
        tuple(map(_decode_condition, conditions)),
        tuple(map(_decode_put, puts)),
        tuple(map(_decode_delete, deletes)),
        tuple(tags),
        tuple(drop_buckets),
    )


def _decode_condition(condition: Any) -> tuple[Any, ...]:
    match condition:
        case ["absent", str()] | ["none", str()] | ["exists", str(), str()] | ["version", str(), str(), int()] if (
            _are_short(condition)
        ):
            return tuple(condition)
    raise Invalid("cannot change records: a condition has no known form")


def _decode_put(put: Any) -> Put:
    match put:
        case {"kind": str(kind), "id": str(id), "body": dict(body), **rest}:
            unique, indexes = rest.get("unique", []), rest.get("indexes", {})
            packed = wire.encode_head(body)
            if (
                isinstance(unique, list)
                and all(isinstance(key, str) for key in unique)
                and isinstance(indexes, dict)
                and _are_short((kind, id, *unique))
                and len(packed) <= MAX_BODY_BYTES
            ):
                return Put(kind, id, packed, tuple(dict.fromkeys(unique)), tuple(_decode_indexes(indexes)))
    raise Invalid("cannot change records: a put has no known form")


def _decode_indexes(indexes: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs = []
    for field, given in indexes.items():
        for value in given if isinstance(given, list) else [given]:
            if value is None:
                continue  # no value: not in this index
            if not isinstance(value, str | int | bytes) or not _are_short((field, value)):
                raise Invalid("cannot change records: a value of an index has no known form")
            pairs.append((field, value))
    return pairs


def _decode_delete(delete: Any) -> tuple[str, str]:
    match delete:
        case [str(kind), str(id)]:
            return kind, id
    raise Invalid("cannot change records: a delete has no known form")


def _are_short(values: Sequence[Any]) -> bool:
    return all(len(value) <= MAX_KEY_BYTES for value in values if isinstance(value, str | bytes))


class ChangeRecords:
    """The job of one batch."""

    def __init__(self, request: ChangeRequest) -> None:
        self._request = request
        self.size = sum(len(put.body) for put in request.puts)

    def run(self, transaction: Transaction, draft: Draft) -> dict[str, Any]:
        """Check conditions and keys, then change. Raises Conflict."""
        request = self._request
        for index, condition in enumerate(request.conditions):
            if not _holds(transaction, condition):
                raise Conflict("a record has changed or is there already", details={"condition": index})
        self._check_unique(transaction)
        number = draft.number = transaction.next_number()
        # Before the puts: a key may move from a record that is deleted, or that gives it up, to another one.
        for kind, id in request.deletes:
            transaction.delete_record(kind, id)
            if kind == BUCKET:
                draft.set_bucket(id, None)
        for put in request.puts:
            transaction.forget_keys(put.kind, put.id)
        for put in request.puts:
            transaction.put_record(StoredRecord(put.kind, put.id, number, put.body), put.unique, put.indexes)
            if put.kind == BUCKET:
                draft.set_bucket(put.id, retention_of(put.body))
        for bucket_id in request.drop_buckets:
            drop_contents(transaction, draft, bucket_id)
        tags = [*request.tags, *(f"schema:{bucket_id}" for bucket_id in request.drop_buckets)]
        if tags:
            draft.tell({"number": number, "tags": tags})
        return {"number": number}

    def _check_unique(self, transaction: Transaction) -> None:
        """Each unique key is held by one record after the batch."""
        put_ids = {(put.kind, put.id) for put in self._request.puts}
        freed = put_ids | set(self._request.deletes)
        if len(put_ids) != len(self._request.puts):
            raise Invalid("cannot change records: two puts of one record")
        taken: set[str] = set()
        for put in self._request.puts:
            for key in put.unique:
                holder = transaction.find_by_unique(key)
                if key in taken or (holder is not None and holder not in freed):
                    raise Conflict("a unique key is taken", details={"unique": key})
                taken.add(key)


def _holds(transaction: Transaction, condition: tuple[Any, ...]) -> bool:
    match condition:
        case ("absent", key):
            return transaction.find_by_unique(key) is None
        case ("none", kind):
            return not transaction.has_kind(kind)
        case ("exists", kind, id):
            return transaction.find_record(kind, id) is not None
        case (_, kind, id, version):
            record = transaction.find_record(kind, id)
            return record is not None and record.version == version
    raise AssertionError(condition)


def drop_contents(transaction: Transaction, draft: Draft, bucket_id: str) -> None:
    """Drop all data of a bucket: forgotten at once, deleted from the disk later, in slices."""
    dropped = draft.measurements(bucket_id)
    transaction.drop_measurements([measurement.id for measurement in dropped])
    for measurement in dropped:
        draft.drop_measurement(measurement)
