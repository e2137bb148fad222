"""Leases: told when the list changes, bounded."""

from __future__ import annotations

import pytest

from common.errors import Invalid, Unavailable
from services.storage import instances
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
