"""The simulation is able to fail: each rule that keeps writes safe, taken away, is missed by some seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from common.model import FieldType
from services.gateway.batching import Batcher
from services.ingest import checks
from services.ingest.known_series import KnownSeries
from services.ingest.write import Writer
from services.storage import rpc as storage_rpc
from services.storage.changes import append, results
from services.storage.changes.append import Append
from services.storage.commits.draft import Draft
from services.storage.compaction.compactor import merge_segments
from services.storage.sqlite.transaction import SqliteTransaction
from tests.simulation import cluster
from tests.simulation.cluster import simulated_surroundings
from tests.simulation.disk import Disk, MemoryCatalog
from tests.simulation.run import simulate

Patch = pytest.MonkeyPatch
# A rule whose absence is not seen in so many seeds is not watched.
MOST_SEEDS = 400


@pytest.fixture(autouse=True)
def surroundings() -> Iterator[None]:
    with simulated_surroundings():
        yield


def forget_writes(patch: Patch) -> None:
    """Storage does not know a write when it comes again."""
    patch.setattr(Append, "_check_writes", lambda *_: None)
    patch.setattr(SqliteTransaction, "add_results", lambda *_: None)


def take_old_writes(patch: Patch) -> None:
    """Storage takes writes whose results it has forgotten."""
    assert storage_rpc.check_ids is results.check_ids
    patch.setattr(storage_rpc, "check_ids", lambda *_: None)


def mint_new_ids(patch: Patch) -> None:
    """The gateway's retry is a new write."""
    retry = Batcher._retry

    def renamed(self: Batcher, writes: Sequence[Any], error: Any) -> None:
        for write in writes:
            write.id = write.id[:8] + bytes(byte ^ 0x55 for byte in write.id[8:])
        retry(self, writes, error)

    patch.setattr(Batcher, "_retry", renamed)


def mint_new_times(patch: Patch) -> None:
    """The gateway's retry has the time of the retry."""
    retry = Batcher._retry

    def later(self: Batcher, writes: Sequence[Any], error: Any) -> None:
        for write in writes:
            write.now_ns += 1_000_000
        retry(self, writes, error)

    patch.setattr(Batcher, "_retry", later)


def first_write_wins(patch: Patch) -> None:
    """Compaction keeps the oldest value."""
    patch.setattr(cluster, "merge_segments", lambda sources, most: merge_segments(sources[::-1], most))


def any_type(patch: Patch) -> None:
    """Storage takes whatever type a field comes with."""
    check_types = Append._check_types

    def careless(self: Append, draft: Draft, retry: Any) -> Any:
        found = check_types(self, draft, retry)
        retry.conflicts.clear()
        return found

    patch.setattr(Append, "_check_types", careless)


def types_of_the_group(patch: Patch) -> None:
    """An append does not see the types of those before it in the same transaction."""

    def type_of(_self: Draft, measurement: Any, shard_start_ns: int, name: str) -> FieldType | None:
        known: FieldType | None = measurement.fields.get(shard_start_ns, {}).get(name)
        return known

    patch.setattr(Draft, "type_of", type_of)


def losers_count_as_stored(patch: Patch) -> None:
    """Ingest does not count the points that lose for their types."""
    patch.setattr(checks, "_count_rows", lambda _parsed, _mask, bodies: [0] * bodies)


def acknowledge_early(patch: Patch) -> None:
    """What was told to be stored was not on disk yet: a start finds the state before the last transaction."""
    transact, open_ = MemoryCatalog.transact, MemoryCatalog.open
    before: dict[Disk, bytes] = {}

    async def lazy(self: MemoryCatalog, change: Any) -> Any:
        before[self._disk] = self._disk.database.serialize()
        return await transact(self, change)

    async def open_late(self: MemoryCatalog) -> None:
        if self._disk in before:
            self._disk.database.deserialize(before[self._disk])
        await open_(self)

    patch.setattr(MemoryCatalog, "transact", lazy)
    patch.setattr(MemoryCatalog, "open", open_late)


def unknown_series(patch: Patch) -> None:
    """Storage takes points of series whose tags it does not have."""
    check_series = Append._check_series

    def careless(self: Append, transaction: Any, draft: Draft, retry: Any) -> Any:
        growth = check_series(self, transaction, draft, retry)
        retry.unknown.clear()
        return growth

    patch.setattr(Append, "_check_series", careless)
    # A new ingest takes every series for known.
    patch.setattr(KnownSeries, "find", lambda _self, _bucket, _name, ids: ids[:, 0] >= 0)


def series_known_for_ever(patch: Patch) -> None:
    """Ingest does not send the tags that storage misses."""
    patch.setattr(KnownSeries, "forget", lambda *_: None)
    patch.setattr(KnownSeries, "find", lambda _self, _bucket, _name, ids: ids[:, 0] >= 0)


def no_limit(patch: Patch) -> None:
    """The limit of series is not kept."""
    begin = Append.__init__
    patch.setattr(Append, "__init__", lambda self, request, _most: begin(self, request, 0))


def halves_of_writes(patch: Patch) -> None:
    """Storage loses the last block of a commit of several."""

    def shorter(self: Append, number: int, measurements: Any) -> Any:
        found = list(segments(self, number, measurements))
        return found[:-1] if len(found) > 1 else found

    segments = Append._segments
    patch.setattr(Append, "_segments", shorter)


def forget_at_start(patch: Patch) -> None:
    """A start does not find the newest commit."""
    load = MemoryCatalog.load

    async def shorter(self: MemoryCatalog) -> Any:
        loaded = await load(self)
        del loaded.commits[-1:]
        return loaded

    patch.setattr(MemoryCatalog, "load", shorter)


def do_not_recall(patch: Patch) -> None:
    """A write that comes again is told to be stored whole, whatever it was told at first."""

    async def nothing(self: Writer, raws: Any, outcomes: Any) -> None: ...

    patch.setattr(Writer, "_recall", nothing)
    patch.setattr(append, "decode_result", lambda _packed: None)


MUTATIONS: list[Callable[[Patch], None]] = [
    forget_writes, take_old_writes, mint_new_ids, mint_new_times, first_write_wins, any_type, types_of_the_group,
    losers_count_as_stored, acknowledge_early, unknown_series, series_known_for_ever, no_limit,
    halves_of_writes, forget_at_start, do_not_recall,
]  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_broken_rule_is_noticed(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutation(monkeypatch)
    for seed in range(MOST_SEEDS):
        if simulate(seed).findings:
            return
    pytest.fail(f"{MOST_SEEDS} seeds do not notice: {mutation.__doc__}")
