"""Types of fields that ingest keeps: learnt from commits, dropped by the feed, confirmed at storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from common.model import FieldType
from common.rpc.client import Answer
from services.ingest import schema
from services.ingest.schema import SchemaCache

INTEGER, FLOAT, STRING = FieldType.INTEGER, FieldType.FLOAT, FieldType.STRING


class FakeStorage:
    """Answers ``storage.schema`` from a table."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.fields: dict[str, list[list[Any]]] = {}

    async def call(self, url: str, method: str, head: Mapping[str, Any], **_: Any) -> Answer:
        self.calls.append((method, dict(head)))
        return Answer({"number": 9, "fields": self.fields})


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def cache(storage: FakeStorage) -> SchemaCache:
    made = SchemaCache(storage, "http://storage")  # type: ignore[arg-type]
    made.set_fed(True)
    return made


def test_what_is_learnt_adds_up_by_shard(cache: SchemaCache) -> None:
    cache.learn([("b", "m", 0, "v", INTEGER), ("b", "m", 7, "v", FLOAT), ("b", "n", 0, "v", STRING)], 1)
    cache.learn([("b", "m", 0, "w", FLOAT)], 2)
    assert cache.find("b", "m") == {0: {"v": INTEGER, "w": FLOAT}, 7: {"v": FLOAT}}
    assert cache.find("b", "n") == {0: {"v": STRING}}
    assert cache.find("c", "m") == {}


def test_a_change_drops_the_schema_of_its_bucket_alone(cache: SchemaCache) -> None:
    cache.learn([("b", "m", 0, "v", INTEGER), ("c", "m", 0, "v", INTEGER)], 1)
    cache.drop(["schema:b"], 5)
    assert cache.find("b", "m") == {}
    assert cache.find("c", "m") == {0: {"v": INTEGER}}


def test_what_is_older_than_a_change_is_not_taken_in(cache: SchemaCache) -> None:
    cache.drop(["schema:b"], 5)
    cache.learn([("b", "m", 0, "v", INTEGER)], 4)
    assert cache.find("b", "m") == {}
    cache.learn([("b", "m", 0, "v", FLOAT)], 5)
    assert cache.find("b", "m") == {0: {"v": FLOAT}}


async def test_confirming_asks_once_a_bucket_and_replaces_what_was_kept(
    storage: FakeStorage, cache: SchemaCache
) -> None:
    cache.learn([("b", "m", 0, "v", INTEGER)], 1)
    storage.fields = {"m": [[0, "v", int(FLOAT)]]}
    confirmed = await cache.confirm([("b", "m"), ("b", "none")])
    assert confirmed == {("b", "m"): {0: {"v": FLOAT}}, ("b", "none"): {}}
    assert cache.find("b", "m") == {0: {"v": FLOAT}}
    assert storage.calls == [("storage.schema", {"bucket_id": "b", "measurements": ["m", "none"]})]


def test_a_measurement_of_very_many_fields_is_not_kept(cache: SchemaCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAX_FIELDS", 3)
    cache.learn([("b", "m", 0, f"v{n}", FLOAT) for n in range(4)], 1)
    assert cache.find("b", "m") == {}
