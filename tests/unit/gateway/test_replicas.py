from __future__ import annotations

from services.gateway.replicas import MAX_PAUSE_S, Replica, Replicas


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make(count: int = 3) -> tuple[Replicas, Clock]:
    clock = Clock()
    replicas = Replicas(clock)
    replicas.update([[f"i{number}", "ingest", f"http://h:{number}"] for number in range(count)])
    return replicas, clock


def found(replicas: Replicas) -> Replica:
    replica = replicas.find("ingest")
    assert replica is not None
    return replica


def test_the_least_in_flight_is_taken() -> None:
    replicas, _ = make()
    for _ in range(9):
        found(replicas).in_flight += 1
    assert [replica.in_flight for replica in replicas.of("ingest")] == [3, 3, 3]


def test_equals_take_turns() -> None:
    replicas, _ = make()
    assert {found(replicas).instance for _ in range(3)} == {"i0", "i1", "i2"}


def test_a_failed_one_rests_longer_each_time_and_comes_back() -> None:
    replicas, clock = make(1)
    replica = found(replicas)
    pauses = []
    for _ in range(8):
        replicas.failed(replica)
        assert replicas.find("ingest") is None
        pauses.append(replica.resting_until_s - clock.now_s)
        clock.now_s = replica.resting_until_s
        assert found(replicas) is replica
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_S
    replicas.worked(replica)
    assert found(replicas) is replica


def test_a_list_keeps_what_is_known_of_those_that_stay() -> None:
    replicas, _ = make()
    first = replicas.of("ingest")[0]
    first.in_flight = 5
    told = []
    replicas.listeners.append(lambda: told.append(1))
    replicas.update([["i0", "ingest", "http://h:0"], ["i9", "ingest", "http://h:9"], ["q", "query", "http://h:8"]])
    assert replicas.of("ingest")[0] is first
    assert [replica.instance for replica in replicas.of("ingest")] == ["i0", "i9"]
    assert [replica.instance for replica in replicas.of("query")] == ["q"]
    assert told == [1]


def test_an_instance_at_another_place_is_another_one() -> None:
    replicas, _ = make(1)
    before = found(replicas)
    replicas.failed(before)
    replicas.update([["i0", "ingest", "http://elsewhere:1"]])
    assert found(replicas) is not before


def test_only_what_fits() -> None:
    replicas, _ = make(2)
    replicas.of("ingest")[0].batches = 3
    taken = replicas.find("ingest", lambda replica: replica.batches < 3)
    assert taken is replicas.of("ingest")[1]
    assert replicas.find("storage") is None
