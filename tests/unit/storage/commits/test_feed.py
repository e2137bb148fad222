"""The feed: its bound, and its heartbeat."""

from __future__ import annotations

import pytest

from common.rpc.wire import decode_head
from services.storage.commits import feed
from services.storage.commits.feed import Feed


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
