"""Small writes travel together: order, bounds, retries under the same id. The clock is played, no socket is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from common.errors import Forbidden, InternalError, Invalid, Unavailable
from services.gateway.batching import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ITEMS,
    PATIENCE_S,
    Batcher,
    Result,
    Write,
    write_head,
)
from services.gateway.gathering import ENOUGH_BYTES
from services.gateway.replicas import Replica, Replicas
from services.gateway.turns import Turns


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Ingest:
    """Plays all ingests: calls wait for ``release``; ``fail`` says how a call to a replica ends."""

    def __init__(self, replicas: int = 1, calls: int = 2, max_waiting: int = 10_000) -> None:
        self.clock = Clock()
        self.replicas = Replicas(self.clock)
        self.replicas.update([[f"i{number}", "ingest", f"http://{number}"] for number in range(replicas)])
        self.batcher = Batcher(self.send, self.replicas, calls=calls, max_waiting=max_waiting, clock_s=self.clock)
        self.calls: list[tuple[str, list[tuple[bytes, int, int]]]] = []
        self.release = asyncio.Event()
        self.release.set()
        self.fail: Callable[[Replica], Exception | None] = lambda _replica: None
        self.result: Callable[[Write], Result] = lambda _write: None

    async def send(self, replica: Replica, writes: Sequence[Write]) -> Sequence[Result]:
        self.calls.append((replica.instance, [(write.id, write.now_ns, write.attempt) for write in writes]))
        await self.release.wait()
        error = self.fail(replica)
        if error is not None:
            raise error
        return [self.result(write) for write in writes]

    def submit(self, number: int, org: str = "a", body: bytes = b"m v=1", deadline_s: float = 10) -> asyncio.Task[None]:
        write = Write(number.to_bytes(16, "big"), number, [], org, "v1", {}, "", body, deadline_s)
        return asyncio.create_task(self.batcher.submit(write))

    def sizes(self) -> list[int]:
        return [len(writes) for _, writes in self.calls]


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_arrives_during_a_call_goes_along_in_the_next() -> None:
    ingest = Ingest(calls=1)
    ingest.release.clear()
    tasks = [ingest.submit(0)]
    await rounds()
    tasks += [ingest.submit(number) for number in range(1, 6)]
    await rounds()
    assert ingest.sizes() == [1]
    ingest.release.set()
    await asyncio.gather(*tasks)
    assert ingest.sizes() == [1, 5]


async def test_clients_that_were_just_answered_are_waited_for() -> None:
    ingest = Ingest(calls=3)
    await asyncio.gather(*(ingest.submit(number) for number in range(8)))
    first = ingest.submit(8)
    await rounds()
    assert ingest.sizes() == [8]
    await asyncio.gather(first, *(ingest.submit(number) for number in range(9, 16)))
    assert ingest.sizes() == [8, 8]


async def test_clients_that_do_not_come_back_are_waited_for_once() -> None:
    ingest = Ingest(calls=3)
    await asyncio.gather(*(ingest.submit(number) for number in range(8)))
    await ingest.submit(8)
    ninth = ingest.submit(9)
    await rounds()
    assert ingest.sizes() == [8, 1, 1]
    await ninth


async def test_enough_bytes_leave_at_once() -> None:
    ingest = Ingest(calls=3)
    await asyncio.gather(*(ingest.submit(number) for number in range(8)))
    large = ingest.submit(8, body=bytes(ENOUGH_BYTES))
    await rounds()
    assert ingest.sizes() == [8, 1]
    await large


async def test_what_arrives_in_one_round_goes_together() -> None:
    ingest = Ingest()
    await asyncio.gather(*(ingest.submit(number) for number in range(20)))
    assert ingest.sizes() == [20]


async def test_items_and_bytes_of_a_call_are_bounded() -> None:
    ingest = Ingest(calls=100)
    await asyncio.gather(*(ingest.submit(number) for number in range(MAX_BATCH_ITEMS + 1)))
    assert ingest.sizes() == [MAX_BATCH_ITEMS, 1]
    ingest.calls.clear()
    body = b"x" * (MAX_BATCH_BYTES // 16)
    await asyncio.gather(*(ingest.submit(number, body=body) for number in range(17)))
    assert ingest.sizes() == [16, 1]


async def test_calls_under_way_are_bounded_for_each_replica() -> None:
    ingest = Ingest(replicas=2, calls=2)
    ingest.release.clear()
    tasks = []
    for number in range(10):
        tasks.append(ingest.submit(number))
        await asyncio.sleep(2 * PATIENCE_S)
    assert sorted(instance for instance, _ in ingest.calls) == ["i0", "i0", "i1", "i1"]
    ingest.release.set()
    await asyncio.gather(*tasks)


async def test_each_write_has_its_own_result() -> None:
    ingest = Ingest()
    ingest.result = lambda write: (
        {"code": "invalid", "message": "bad line", "retry_after_s": None, "details": {}} if write.now_ns == 1 else None
    )
    results = await asyncio.gather(*(ingest.submit(number) for number in range(3)), return_exceptions=True)
    assert results[0] is None
    assert results[2] is None
    assert isinstance(results[1], Invalid)
    assert str(results[1]) == "bad line"


async def test_a_failed_call_is_tried_on_another_replica_under_the_same_ids() -> None:
    ingest = Ingest(replicas=2)
    dead: list[str] = []

    def fail(replica: Replica) -> Exception | None:
        if not dead:
            dead.append(replica.instance)
        return Unavailable("cannot reach ingest: X") if replica.instance in dead else None

    ingest.fail = fail
    await asyncio.gather(*(ingest.submit(number) for number in range(3)))
    assert len(ingest.calls) == 2
    (first, sent), (second, again) = ingest.calls
    assert first != second
    assert [(id, now_ns) for id, now_ns, _ in sent] == [(id, now_ns) for id, now_ns, _ in again]
    assert {attempt for _, _, attempt in sent} == {0}
    assert {attempt for _, _, attempt in again} == {1}


async def test_a_retry_does_not_overtake_and_is_not_overtaken() -> None:
    ingest = Ingest(calls=1)
    failures = [Unavailable("cannot reach ingest: X")]
    ingest.fail = lambda _replica: failures.pop() if failures else None
    ingest.release.clear()
    tasks = [ingest.submit(0)]
    await rounds()
    tasks += [ingest.submit(1), ingest.submit(2)]
    await rounds()
    ingest.release.set()
    await rounds()
    ingest.clock.now_s = 1  # the replica has rested
    await asyncio.gather(*tasks)
    assert [now_ns for _, now_ns, _ in ingest.calls[1][1]] == [0, 1, 2]


@pytest.mark.parametrize("details", [{}, {"answered": True}])
async def test_trouble_ends_at_the_deadline_with_503(details: dict[str, Any]) -> None:
    ingest = Ingest()
    ingest.fail = lambda _replica: Unavailable("cannot reach ingest: X", details=details)
    task = ingest.submit(0, deadline_s=0.5)
    await rounds()
    assert not task.done()
    ingest.clock.now_s = 1
    with pytest.raises(Unavailable, match="cannot reach ingest") as caught:
        await task
    assert caught.value.retry_after_s == 1


async def test_without_any_ingest_writes_wait_and_go_when_one_comes() -> None:
    ingest = Ingest(replicas=0)
    waiting = ingest.submit(0)
    late = ingest.submit(1, deadline_s=-1)
    with pytest.raises(Unavailable, match="no ingest is running"):
        await late
    assert not waiting.done()
    ingest.replicas.update([["i0", "ingest", "http://0"]])
    await waiting
    assert ingest.sizes() == [1]


@pytest.mark.parametrize("error", [Forbidden("no"), Invalid("no")])
async def test_other_errors_are_not_tried_again(error: Exception) -> None:
    ingest = Ingest()
    ingest.fail = lambda _replica: error
    with pytest.raises(type(error), match="no"):
        await ingest.submit(0)
    assert len(ingest.calls) == 1


async def test_a_fault_of_ours_is_an_internal_error_and_the_queue_goes_on() -> None:
    ingest = Ingest()
    faults = [ValueError("secret text")]
    ingest.fail = lambda _replica: faults.pop() if faults else None
    with pytest.raises(InternalError) as caught:
        await ingest.submit(0)
    assert "secret" not in str(caught.value)
    await ingest.submit(1)


async def test_one_write_that_spoils_a_call_does_not_spoil_the_others() -> None:
    ingest = Ingest(calls=1)

    async def send(replica: Replica, writes: Sequence[Write]) -> Sequence[Result]:
        ingest.calls.append((replica.instance, [(write.id, write.now_ns, write.attempt) for write in writes]))
        if any(write.now_ns == 1 for write in writes):
            raise Invalid("the head of a write is malformed")
        return [None for _ in writes]

    ingest.batcher._send = send
    results = await asyncio.gather(*(ingest.submit(number) for number in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Invalid, type(None), type(None)]
    assert ingest.sizes() == [4, 1, 1, 1, 1]
    assert {attempt for _, writes in ingest.calls[1:] for _, _, attempt in writes} == {1}


async def test_the_queue_is_bounded_and_names_its_setting() -> None:
    ingest = Ingest(calls=1, max_waiting=2)
    ingest.release.clear()
    tasks = [ingest.submit(0)]
    await rounds()
    tasks += [ingest.submit(1), ingest.submit(2)]
    await rounds()
    with pytest.raises(Unavailable, match="TIDEGATE_WRITE_QUEUE is 2"):
        await ingest.submit(3)
    ingest.release.set()
    await asyncio.gather(*tasks)


async def test_a_client_that_goes_away_is_not_written_for() -> None:
    ingest = Ingest(calls=1)
    ingest.release.clear()
    first = ingest.submit(0)
    await rounds()
    gone, stays = ingest.submit(1), ingest.submit(2)
    await rounds()
    gone.cancel()
    ingest.release.set()
    await asyncio.gather(first, stays)
    assert [now_ns for _, writes in ingest.calls for _, now_ns, _ in writes] == [0, 2]


async def test_a_flooding_organization_waits_for_itself_only() -> None:
    ingest = Ingest(calls=1)
    ingest.release.clear()
    tasks = [ingest.submit(number, "flood") for number in range(2 * MAX_BATCH_ITEMS)]
    await rounds()
    calm = ingest.submit(9999, "calm")
    await rounds()
    ingest.release.set()
    await calm
    assert [now_ns for _, now_ns, _ in ingest.calls[1][1]][1] == 9999
    await asyncio.gather(*tasks)


async def test_stopping_waits_for_calls_and_sends_the_others_away() -> None:
    ingest = Ingest(calls=1)
    ingest.release.clear()
    under_way = ingest.submit(0)
    await rounds()
    waiting = ingest.submit(1)
    await rounds()
    closing = asyncio.create_task(ingest.batcher.close())
    await rounds()
    with pytest.raises(Unavailable, match="stopping"):
        await waiting
    assert not closing.done()
    ingest.release.set()
    await under_way
    await closing


def test_the_head_names_each_identity_once() -> None:
    one, other = ["token", "1"], ["token", "2"]
    writes = [
        Write(bytes(16), 1, identity, "a", "v1", {"db": "d"}, "gzip", b"xy", 0.0) for identity in (one, other, one)
    ]
    head = write_head(writes)
    assert head["identities"] == [one, other]
    assert [item["identity"] for item in head["items"]] == [0, 1, 0]
    assert head["items"][0]["size"] == 2
    assert write_head(writes[:1], size=-1)["items"][0]["size"] == -1


async def test_large_writes_take_turns() -> None:
    clock = Clock()
    replicas = Replicas(clock)
    replicas.update([["i0", "ingest", "http://0"]])
    turns = Turns(replicas, 1, clock)
    order: list[str] = []
    go = asyncio.Event()

    async def send(name: str, org: str) -> None:
        async with turns.turn(org, 100):
            order.append(name)
            await go.wait()

    tasks = [asyncio.create_task(send(name, name[0])) for name in ("f1", "f2", "f3", "c1")]
    await rounds()
    assert order == ["f1"]
    go.set()
    await asyncio.gather(*tasks)
    assert order.index("c1") < order.index("f3")
    assert replicas.of("ingest")[0].streams == 0
    assert replicas.of("ingest")[0].in_flight == 0


async def test_a_turn_is_given_on_when_its_client_goes_and_refused_when_none_comes() -> None:
    clock = Clock()
    replicas = Replicas(clock)
    replicas.update([["i0", "ingest", "http://0"]])
    turns = Turns(replicas, 1, clock)

    async def hold() -> None:
        async with turns.turn("a", 100):
            await asyncio.sleep(100)

    first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
    await rounds()
    with pytest.raises(Unavailable, match="no ingest took the write in time"):
        async with turns.turn("b", clock.now_s):
            pass
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with turns.turn("b", 100) as replica:
        assert replica.streams == 1
    assert replica.streams == 0
    replicas.update([])
    with pytest.raises(Unavailable, match="no ingest is running"):
        async with turns.turn("b", clock.now_s):
            pass


async def test_a_turn_that_comes_as_its_client_goes_is_not_lost() -> None:
    clock = Clock()
    replicas = Replicas(clock)
    replicas.update([["i0", "ingest", "http://0"]])
    turns = Turns(replicas, 1, clock)

    async def hold() -> None:
        async with turns.turn("a", 100):
            await asyncio.sleep(100)

    first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
    await rounds()
    first.cancel()
    await asyncio.sleep(0)  # first gives its turn to second, which has not seen it yet
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert replicas.of("ingest")[0].streams == 0
