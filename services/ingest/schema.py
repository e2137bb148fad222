"""Types of fields, by measurement and shard, as far as this ingest has seen them.

Kept to find conflicts before a commit is built; storage has the last word on what is stored, and a refusal is never
taken from what is kept here (design, decisions 8 and 11). Source: docs/rpc.md, "storage.schema".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from common.cache import ToldCache
from common.model import FieldType
from common.rpc.client import RpcClient

Fields = Mapping[str, FieldType]
Shards = Mapping[int, Fields]  # by start of the shard, ns
MeasurementKey = tuple[str, str]  # bucket id, measurement
NewField = tuple[str, str, int, str, FieldType]  # bucket id, measurement, shard start, field, type

MAX_MEASUREMENTS = 20_000
# A measurement with more fields, over all its shards, is not kept: storage answers for it each time.
MAX_FIELDS = 20_000
_NOTHING: Shards = MappingProxyType({})


class SchemaCache:
    """What is known of the types in use; dropped by the feed's tags."""

    def __init__(self, client: RpcClient, storage_url: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._storage_url = storage_url
        self._shards: ToldCache[Shards] = ToldCache(MAX_MEASUREMENTS, clock_s)

    def drop(self, tags: list[str], number: int) -> None:
        self._shards.drop(tags, number)

    def drop_all(self, number: int) -> None:
        self._shards.drop_all(number)

    def set_fed(self, fed: bool) -> None:
        self._shards.set_fed(fed)

    def find(self, bucket_id: str, measurement: str) -> Shards:
        """The fields' types by shard, as far as known; perhaps nothing."""
        return self._shards.find((bucket_id, measurement)) or _NOTHING

    def learn(self, fields: Iterable[NewField], as_of: int) -> None:
        """These fields have been stored with these types, as of change number *as_of*."""
        grown: dict[MeasurementKey, dict[int, Fields]] = {}
        for bucket_id, measurement, shard_start_ns, field, type in fields:
            key = (bucket_id, measurement)
            shards = grown.get(key)
            if shards is None:
                shards = grown[key] = dict(self.find(*key))
            shards[shard_start_ns] = {**shards.get(shard_start_ns, {}), field: type}
        for key, shards in grown.items():
            self._put(key, shards, as_of)

    async def confirm(self, measurements: Iterable[MeasurementKey]) -> dict[MeasurementKey, Shards]:
        """Ask storage for the types in these measurements; called before points are refused for a type."""
        by_bucket: dict[str, list[str]] = {}
        for bucket_id, measurement in measurements:
            by_bucket.setdefault(bucket_id, []).append(measurement)
        confirmed: dict[MeasurementKey, Shards] = {}
        for bucket_id, names in by_bucket.items():
            head = {"bucket_id": bucket_id, "measurements": names}
            answer = (await self._client.call(self._storage_url, "storage.schema", head, retry_for_s=1)).head
            for name in names:
                shards: dict[int, dict[str, FieldType]] = {}
                for shard_start_ns, field, type in answer["fields"].get(name, ()):
                    shards.setdefault(shard_start_ns, {})[field] = FieldType(type)
                confirmed[bucket_id, name] = shards
                self._put((bucket_id, name), shards, answer["number"])
        return confirmed

    def _put(self, key: MeasurementKey, shards: Shards, as_of: int) -> None:
        if sum(map(len, shards.values())) <= MAX_FIELDS:
            self._shards.put(key, shards, (f"schema:{key[0]}", f"bucket:{key[0]}"), as_of)
