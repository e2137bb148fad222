"""Small writes into the next ingest call (design, decision 7).

Writes that arrive while calls to ingest are under way travel together in the next one, and clients that were just
answered are waited for, for a millisecond at most (``gathering.py``). Each write keeps its id and its ``now`` over
every retry, on whatever replica. Knows no HTTP: the call itself comes in as a function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import InfluxError, InternalError, Unavailable, error_of
from common.log import get_logger
from common.messages import INGEST
from services.gateway.fair import FairQueue
from services.gateway.gathering import Gathering
from services.gateway.replicas import Replica, Replicas

log = get_logger("batching")
SMALL_BODY_BYTES = 64 << 10
MAX_BATCH_ITEMS = 256
MAX_BATCH_BYTES = 1 << 20
# While no replica can be called the queue is looked at this often: replicas end their rest, writes their time.
RETRY_PAUSE_S = 0.05
# Nobody waits longer for others.
PATIENCE_S = 0.001


@dataclass(slots=True, eq=False)
class Write:
    """One client write on its way to ingest.

    Attributes:
        id: 8 bytes Unix ms, 8 random ones; storage knows the write by it.
        now_ns: time of lines without one.
        identity: ``Identity.to_wire()``; writes of one caller share the object.
        org: whose turn it takes.
        deadline_s: monotonic time after which nothing is tried again.
        attempt: how many calls have carried it before.
        trouble: how the last of them failed.
    """

    id: bytes
    now_ns: int
    identity: bytes
    org: str
    dialect: str
    params: dict[str, str]
    encoding: str
    body: bytes
    deadline_s: float
    attempt: int = 0
    trouble: Unavailable | None = None
    done: asyncio.Future[None] = field(init=False)


Result = dict[str, Any] | None
Send = Callable[[Replica, Sequence[Write]], Awaitable[Sequence[Result]]]


def write_head(writes: Sequence[Write], size: int | None = None) -> dict[str, Any]:
    """The head of an ``ingest.write`` call; *size* −1 for one write whose body is streamed."""
    positions: dict[int, int] = {}
    identities: list[bytes] = []
    items = []
    for write in writes:
        position = positions.get(id(write.identity))
        if position is None:
            position = positions[id(write.identity)] = len(identities)
            identities.append(write.identity)
        items.append(
            {
                "id": write.id,
                "now_ns": write.now_ns,
                "attempt": write.attempt,
                "identity": position,
                "dialect": write.dialect,
                "params": write.params,
                "encoding": write.encoding,
                "size": len(write.body) if size is None else size,
            }
        )
    return {"identities": identities, "items": items}


def error_of_result(result: dict[str, Any]) -> InfluxError:
    """The error of one write in an ingest's answer."""
    return error_of(result["code"], result["message"], result.get("retry_after_s"), result.get("details"))


class Batcher:
    """Gathers small writes and sends them.

    Args:
        send: carries writes to one replica; returns a result for each, or raises for all of them.
        calls: how many calls with small writes may be under way to one replica.
        max_waiting: bound of the queue.
        clock_s: monotonic seconds.
    """

    def __init__(
        self,
        send: Send,
        replicas: Replicas,
        *,
        calls: int,
        max_waiting: int,
        clock_s: Callable[[], float],
        setting: str = "TIDEGATE_WRITE_QUEUE",
    ) -> None:
        self._send = send
        self._replicas = replicas
        self._calls = calls
        self._max_waiting = max_waiting
        self._clock_s = clock_s
        self._setting = setting
        self._queue: FairQueue[Write] = FairQueue()
        self._carrying: set[asyncio.Task[None]] = set()
        self._gathering = Gathering()
        self._woken = False
        self._patience: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.sizes: Callable[[int], None] = lambda _count: None
        replicas.listeners.append(self._wake)

    def __len__(self) -> int:
        return len(self._queue)

    async def submit(self, write: Write) -> None:
        """Carry *write* to an ingest and wait for its own result.

        Raises: what ingest says of this write; Unavailable when the queue is full or no ingest took it in time.
        """
        await self.push(write)

    def push(self, write: Write) -> asyncio.Future[None]:
        """Like ``submit`` for who does not wait here; to cancel the future is to go away."""
        if len(self._queue) >= self._max_waiting:
            raise Unavailable(f"too many writes are waiting: {self._setting} is {self._max_waiting}")
        write.done = asyncio.get_running_loop().create_future()
        self._queue_up(write)
        self._wake()
        return write.done

    async def close(self) -> None:
        """Wait for the calls under way; whatever waits still is told to come again."""
        for write in self._remove(lambda _write: True):
            _fail(write, Unavailable("the gateway is stopping"))
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def _queue_up(self, write: Write, *, front: bool = False) -> None:
        self._queue.push(write.org, write, front=front)
        self._gathering.add(len(write.body))

    def _remove(self, unwanted: Callable[[Write], bool]) -> list[Write]:
        removed = self._queue.remove(unwanted)
        if removed:
            self._gathering.remove(len(removed), sum(map(_size, removed)))
        return removed

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            # Not at once: what arrived in the same round of the event loop goes along.
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self, *, impatient: bool = False) -> None:
        self._woken = False
        while self._queue:
            if not impatient and not self._gathering.is_enough():
                if self._patience is None:
                    self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._lose_patience)
                break
            replica = self._replicas.find(INGEST, lambda one: one.batches < self._calls)
            if replica is None:
                break
            writes = self._queue.take(MAX_BATCH_ITEMS, MAX_BATCH_BYTES, _size)
            self._gathering.remove(len(writes), sum(map(_size, writes)))
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            writes = [write for write in writes if not write.done.done()]  # the client may be gone
            if writes:
                replica.batches += 1
                replica.in_flight += 1
                self._gathering.carried += len(writes)
                task = asyncio.create_task(self._carry(replica, writes))
                self._carrying.add(task)
                task.add_done_callback(self._carrying.discard)
        if self._queue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETRY_PAUSE_S, self._look_again)

    def _lose_patience(self) -> None:
        self._patience = None
        self._gathering.expect_no_more()
        self._pump(impatient=True)

    def _look_again(self) -> None:
        self._timer = None
        now_s = self._clock_s()
        for write in self._remove(lambda write: write.deadline_s <= now_s or write.done.done()):
            _fail(write, self._late(write))
        self._pump()

    def _late(self, write: Write) -> Unavailable:
        """Why *write* was not taken in its time."""
        if write.trouble is not None:
            return Unavailable(str(write.trouble), retry_after_s=write.trouble.retry_after_s)
        running = bool(self._replicas.of(INGEST))
        return Unavailable("no ingest took the write in time" if running else "no ingest is running")

    async def _carry(self, replica: Replica, writes: Sequence[Write]) -> None:
        try:
            await self._deliver(replica, writes)
        finally:
            replica.batches -= 1
            replica.in_flight -= 1
            self._gathering.carried -= len(writes)
            self._replicas.tell()

    async def _deliver(self, replica: Replica, writes: Sequence[Write]) -> None:
        self.sizes(len(writes))
        try:
            results = await self._send(replica, writes)
            if len(results) != len(writes):
                raise InternalError("ingest gave another number of results than it got writes")
        except Unavailable as error:
            if error.details.get("answered"):
                self._replicas.busy(replica)
            else:
                self._replicas.failed(replica)
                log.warning("a call to ingest failed", instance=replica.instance, reason=str(error))
            self._retry(writes, error)
        except Exception as error:
            refusal = error if isinstance(error, InfluxError) else InternalError()
            if not isinstance(error, InfluxError):
                log.error("a call to ingest failed", instance=replica.instance, exc_info=error)
            if len(writes) == 1:
                _fail(writes[0], error_of(refusal.code, str(refusal), refusal.retry_after_s))
                return
            # One of them spoils the call: alone each gets the answer that is its own.
            for write in writes:
                write.attempt += 1
                if not write.done.done():
                    await self._deliver(replica, [write])
        else:
            self._replicas.worked(replica)
            for write, result in zip(writes, results, strict=True):
                if result is not None:
                    _fail(write, error_of_result(result))
                elif not write.done.done():
                    write.done.set_result(None)

    def _retry(self, writes: Sequence[Write], error: Unavailable) -> None:
        """Back into the queue under the same ids; before the others, in their order."""
        now_s = self._clock_s()
        for write in reversed(writes):
            if write.done.done():
                continue
            write.trouble = error
            if write.deadline_s <= now_s:
                _fail(write, self._late(write))
            else:
                write.attempt += 1
                self._queue_up(write, front=True)


def _size(write: Write) -> int:
    return len(write.body)


def _fail(write: Write, error: InfluxError) -> None:
    if not write.done.done():
        write.done.set_exception(error)
