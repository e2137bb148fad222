"""Leases, ids of writes, pressure, the folder's lock, the feed's bound."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.errors import Invalid, Unavailable
from common.folder_lock import FolderHeld, FolderLock
from common.wire import decode_head
from services.storage import instances
from services.storage.changes.pressure import Pressure
from services.storage.changes.results import REMEMBERED_MS, TOLERANCE_MS, check_ids, oldest_id
from services.storage.commits import feed
from services.storage.commits.feed import Feed
from services.storage.instances import Instance, Instances

ONE, TWO = Instance("a", "ingest", "http://1"), Instance("b", "query", "http://2")


def test_leases_are_told_only_when_the_list_changes() -> None:
    now, told = [0.0], []
    leases = Instances(lambda: now[0], told.append)
    leases.register(TWO, 6)
    leases.register(ONE, 6)
    now[0] = 4
    leases.register(ONE, 6)
    leases.expire()
    assert told == [[TWO], [ONE, TWO]]
    now[0] = 6
    leases.expire()
    leases.register(Instance("a", "ingest", "http://moved"), 6)
    leases.register(ONE, 0)
    leases.register(ONE, 0)
    assert told[2:] == [[ONE], [Instance("a", "ingest", "http://moved")], []]


def test_leases_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "MAX_INSTANCES", 1)
    leases = Instances(lambda: 0.0, lambda listed: None)
    leases.register(ONE, 1)
    leases.register(ONE, 1)
    with pytest.raises(Unavailable):
        leases.register(TWO, 1)
    for lease_s in (-1, 61):
        with pytest.raises(Invalid):
            leases.register(ONE, lease_s)


@pytest.mark.parametrize(("minted_ms", "good"), [(0, True), (-REMEMBERED_MS, True), (-REMEMBERED_MS - 1, False),
                                                 (TOLERANCE_MS, True), (TOLERANCE_MS + 1, False)])  # fmt: skip
def test_ids_are_good_for_15_minutes(minted_ms: int, good: bool) -> None:
    now_ms = 10**12
    ids = [oldest_id(now_ms), oldest_id(now_ms + minted_ms)]
    if good:
        check_ids(ids, now_ms)
    else:
        with pytest.raises(Invalid):
            check_ids(ids, now_ms)


async def test_pressure_slows_down_and_then_refuses() -> None:
    for load in (0.0, 1.0, 1.01):
        await Pressure(lambda load=load: load).wait()
    with pytest.raises(Unavailable) as caught:
        await Pressure(lambda: 3.0).wait()
    assert caught.value.retry_after_s
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Pressure(lambda: 2.0).wait(), 0.01)


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "data", "x.lock"), FolderLock(tmp_path / "data", "x.lock")
    first.take()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    with pytest.raises(FolderHeld, match="held by process"):
        second.take()
    first.give_back()
    second.take()
    second.give_back()


async def test_a_subscriber_that_does_not_keep_up_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MAX_QUEUED_EVENTS", 2)
    cut = []
    told = Feed()
    slow, quick = told.subscribe(lambda: cut.append(1)), told.subscribe(lambda: cut.append(2))
    parts = quick.parts()
    for number in range(4):
        told.publish({"number": number, "tags": []})
        assert decode_head(await anext(parts)) == [{"number": number, "tags": []}]
    assert cut == [1]
    assert slow.is_over
    assert len(told) == 2
    del slow
    assert len(told) == 1


async def test_a_quiet_feed_still_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT_S", 0.01)
    subscription = Feed().subscribe(lambda: None)
    assert decode_head(await anext(subscription.parts())) == []
