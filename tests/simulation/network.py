"""Nodes that die and calls between them that are delayed, cut and repeated. Every choice comes from the seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

from common.errors import InfluxError, Unavailable, error_of
from common.messages import CALLERS
from common.rpc import wire
from common.rpc.client import RpcClient, StreamedAnswer
from common.rpc.parts import Pieces
from common.rpc.server import Call, Handler, Reply
from common.rpc.wire import Buffer, Keys

_NODE: ContextVar[Node | None] = ContextVar("node", default=None)
CONNECT_S = 3.0


def task_factory(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
) -> asyncio.Task[Any]:
    """Makes tasks that belong to the node whose code starts them, so that they die with it."""
    task = asyncio.Task(work, loop=loop, context=context)
    node = _NODE.get() if context is None else context.get(_NODE)
    if node is not None:
        node.tasks.add(task)
        task.add_done_callback(node.tasks.discard)
    return task


class Node:
    """A process: its handlers answer while it is up; ``kill`` ends all that runs in it, at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = False
        self.handlers: Mapping[str, Handler] = {}
        self.tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *work* in this process."""
        context = copy_context()
        context.run(_NODE.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    async def kill(self) -> None:
        """Returns when nothing of it runs any more."""
        self.is_up = False
        self.handlers = {}
        ended = list(self.tasks)
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)


@dataclass(slots=True)
class Faults:
    """What the network does: shares of calls, and seconds.

    Attributes:
        late_s: how much later at most a request arrives a second time.
    """

    lost_request: float = 0.0
    lost_answer: float = 0.0
    repeated: float = 0.0
    delay_s: float = 0.002
    slow: float = 0.0
    slow_s: float = 1.0
    late_s: float = 3.0
    feed_cut: float = 0.0


@dataclass
class Network:
    """All nodes by URL, and what goes wrong between them."""

    seed: str
    faults: Faults = field(default_factory=Faults)
    nodes: dict[str, Node] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)
    crimes: list[str] = field(default_factory=list)
    trace: Callable[[str], None] = lambda line: None

    def add(self, name: str) -> Node:
        node = self.nodes[f"sim://{name}"] = Node(name)
        return node


def _delivered(caller: str, packed: bytes, parts: Sequence[bytes]) -> Call:
    """A call that has arrived whole, and whose signature was right."""
    claim = wire.CallClaim(form=wire.WHOLE, caller=caller, expires_ms=0, nonce=b"", mac=b"")
    body = wire.encode_whole(b"", parts)
    return Call(claim, wire.decode_head(packed), Pieces.of(body), b"", len(packed) + len(body))


class SimulatedClient(RpcClient):
    """``RpcClient`` over the network of the simulation.

    Args:
        node: whose client it is: from there calls go out.
    """

    def __init__(self, network: Network, node: str, caller: str) -> None:
        super().__init__(Keys(b"", ()), caller)
        self._network = network
        self._node = node
        self._draw = random.Random(f"{network.seed} {node} {caller}")

    @asynccontextmanager
    async def stream(  # type: ignore[override]
        self,
        url: str,
        method: str,
        head: Any,
        parts: Sequence[Buffer] | AsyncIterable[Buffer] = (),
        *,
        timeout_s: float | None = 30,
    ) -> AsyncIterator[StreamedAnswer]:
        assert isinstance(parts, Sequence)
        assert self._caller in CALLERS[method]
        faults, draw = self._network.faults, self._draw
        packed, copies = wire.encode_head(head), [bytes(part) for part in parts]
        target = self._network.nodes[url]
        name = f"{self._node} {method}"
        await asyncio.sleep(self._delay_s())
        if not {self._node, target.name}.isdisjoint(self._network.cut_off):
            await asyncio.sleep(CONNECT_S)
            raise Unavailable(f"cannot reach {target.name}: no connection")
        if not target.is_up:
            raise Unavailable(f"cannot reach {target.name}: refused")
        if method != "storage.feed" and draw.random() < faults.repeated:
            late_s = draw.uniform(0, faults.late_s)
            self._network.trace(f"{name} comes again {late_s:.3f} s later")
            # As a call that hung in some buffer does: whoever sent it knows nothing of it any more.
            loop = asyncio.get_running_loop()
            loop.call_later(late_s, self._repeat, target, method, packed, copies, context=Context())
        if draw.random() < faults.lost_request:
            self._network.trace(f"{name} is lost")
            raise Unavailable(f"cannot reach {target.name}: reset")
        handling = target.spawn(self._handle(target, method, packed, copies))
        await asyncio.wait([handling], timeout=timeout_s)
        if not handling.done():
            raise Unavailable(f"cannot reach {target.name}: TimeoutError")
        if handling.cancelled():
            raise Unavailable(f"cannot reach {target.name}: cut")
        reply: Reply | InfluxError = handling.result()
        await asyncio.sleep(self._delay_s())
        if draw.random() < faults.lost_answer:
            self._network.trace(f"the answer to {name} is lost")
            raise Unavailable(f"cannot reach {target.name}: cut")
        if isinstance(reply, InfluxError):
            details = {**reply.details, "answered": True}
            raise error_of(reply.code, str(reply), reply.retry_after_s, details)
        yield _Answer(wire.decode_head(wire.encode_head(reply.head)), self._parts(target, reply, timeout_s))

    def _repeat(self, target: Node, method: str, packed: bytes, copies: list[bytes]) -> None:
        if target.is_up:
            self._network.trace(f"{self._node} {method} again")
            target.spawn(self._handle(target, method, packed, copies))

    def _delay_s(self) -> float:
        faults, draw = self._network.faults, self._draw
        return draw.uniform(0, faults.slow_s if draw.random() < faults.slow else faults.delay_s)

    async def _handle(self, target: Node, method: str, packed: bytes, copies: list[bytes]) -> Reply | InfluxError:
        handler: Callable[[Call], Awaitable[Reply]] = target.handlers[method.partition(".")[2]]
        try:
            return await handler(_delivered(self._caller, packed, copies))
        except InfluxError as error:
            return error
        except Exception as error:
            self._network.crimes.append(f"{method} failed: {error!r}")
            return InfluxError("An internal error has occurred - check server logs")

    async def _parts(self, target: Node, reply: Reply, timeout_s: float | None) -> AsyncIterator[bytes]:
        if isinstance(reply.parts, Sequence):
            for part in reply.parts:
                yield bytes(part)
            return
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        sending = target.spawn(_send(reply.parts, arrived))
        while True:
            getting = asyncio.ensure_future(arrived.get())
            await asyncio.wait([getting, sending], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                if self._draw.random() < self._network.faults.feed_cut:
                    sending.cancel()
                    raise Unavailable(f"cannot reach {target.name}: cut")
                yield getting.result()
                continue
            getting.cancel()
            if sending.done() and not sending.cancelled():
                return
            sending.cancel()
            raise Unavailable(f"cannot reach {target.name}: cut")


async def _send(parts: AsyncIterable[Buffer], arrived: asyncio.Queue[bytes]) -> None:
    async for part in parts:
        arrived.put_nowait(bytes(part))


class _Answer(StreamedAnswer):
    """An answer whose parts come from a node."""

    def __init__(self, head: Any, parts: AsyncIterator[bytes]) -> None:
        self.head = head
        self._parts = parts

    def parts_at_hand(self) -> None:
        return None

    async def parts(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            yield part
