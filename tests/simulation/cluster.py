"""One storage, some ingests, an auth and a gateway's batching, wired as the services wire themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import structlog
from prometheus_client import CollectorRegistry

from common.folder_lock import FolderLock
from common.model import Bucket
from common.rpc import wire
from common.rpc.client import RpcClient
from common.rpc.server import Call, Handler, Reply
from services.gateway.batching import Batcher
from services.gateway.replicas import Replicas
from services.gateway.writes import sender
from services.ingest.app import Ingest
from services.ingest.config import IngestSettings
from services.ingest.rpc import handlers as ingest_handlers
from services.storage import storage as wiring
from services.storage.changes import results
from services.storage.changes.records import ChangeRecords, decode_change
from services.storage.commits.committer import Committer
from services.storage.compaction import compaction
from services.storage.compaction.compactor import merge_segments
from services.storage.compaction.sources import Source
from services.storage.config import StorageSettings
from services.storage.reading import segments
from services.storage.reading.segments import NewSegment
from services.storage.rpc import Methods
from services.storage.storage import Storage
from services.storage.sweep import sweeper
from tests.services.ingest_parts import HOUR_NS, ORG, WEEK_NS, FakeAuth
from tests.simulation.disk import Disk, MemoryCatalog
from tests.simulation.network import Network, Node, SimulatedClient

EPOCH_MS = 1_800_000_000_000
# A retry window that a run of some seconds can outlive.
REMEMBERED_MS, SLACK_MS = 20_000, 2_000
WRITE_TIMEOUT_S = 8.0
STORAGE_URL, AUTH_URL = "sim://storage", "sim://auth"
BUCKETS = {
    "db": Bucket("00000000000000b1", ORG, "db", 0, WEEK_NS),
    "short": Bucket("00000000000000b2", ORG, "short", HOUR_NS, HOUR_NS),
}
INGEST_SETTINGS = IngestSettings(
    data=Path("nowhere"), internal_key="k" * 32, storage_url=STORAGE_URL, auth_url=AUTH_URL,
    append_retry_s=1.0, append_timeout_s=2.0, ingest_threads=1,
)  # fmt: skip


def now_ms() -> int:
    """The wall clock of all nodes."""
    return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)


class _NoLock(FolderLock):
    """The folder is nobody else's."""

    def take(self) -> None: ...

    def give_back(self) -> None: ...


class _InProcess:
    """In the place of the compactor's process."""

    pid = None

    def call(self, merges: Sequence[Sequence[Source]], max_rows: int) -> list[list[NewSegment] | str]:
        return [
            [
                NewSegment(*merged)
                for merged in merge_segments([(wire.decode_head(meta), chunks) for meta, chunks in sources], max_rows)
            ]
            for sources in merges
        ]

    def kill(self) -> None: ...

    def end(self) -> None: ...


class SimulatedStorage(Storage):
    """``Storage`` on a disk of the simulation, by its clock."""

    def __init__(self, settings: StorageSettings, disk: Disk, node: Node, die: Callable[[], None]) -> None:
        super().__init__(settings, CollectorRegistry())
        self.catalog = MemoryCatalog(disk, node, die)
        self._lock = _NoLock(settings.data, "none")

    def now_ms(self) -> int:
        return now_ms()


class WriterFailed(BaseException):
    """Storage would have ended its process."""


def _fail(reason: str) -> NoReturn:
    raise WriterFailed(reason)


@contextlib.contextmanager
def simulated_surroundings() -> Iterator[None]:
    """What the parts do not take as an argument: clocks, the compactor's process, the window of retries."""
    logs = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with contextlib.ExitStack() as stack:
        stack.callback(structlog.configure, **logs)
        for module, name, value in (
            (wiring, "Committer", partial(Committer, on_fatal=_fail)),
            (compaction, "CompactorProcess", _InProcess),
            (segments, "_now_ms", now_ms),
            (results, "REMEMBERED_MS", REMEMBERED_MS),
            (sweeper, "REMEMBERED_MS", REMEMBERED_MS),
            (sweeper, "SLACK_MS", SLACK_MS),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield


@dataclass(frozen=True, slots=True)
class Shape:
    """What a run consists of."""

    ingests: int
    calls: int
    max_series: int


class Cluster:
    """The nodes of one run; killed ones come back by themselves."""

    def __init__(self, seed: str, shape: Shape, network: Network) -> None:
        self.network = network
        self.disk = Disk(seed)
        self.storage: SimulatedStorage | None = None
        self._shape = shape
        self._draw = random.Random(f"{seed} cluster")
        self._clock_s = asyncio.get_running_loop().time
        self._restarts: set[asyncio.Task[None]] = set()
        self._settings = StorageSettings(
            data=Path("nowhere"), internal_key="k" * 32, max_series_per_bucket=shape.max_series,
            storage_keep_replaced_s=2, shared_memory="",
        )  # fmt: skip
        self._storage_node = network.add("storage")
        self._auth_node = network.add("auth")
        self._ingest_nodes = [network.add(f"ingest{number}") for number in range(shape.ingests)]
        self.replicas = Replicas(self._clock_s)
        self.gateway = Batcher(
            sender(SimulatedClient(network, "gateway", "gateway"), WRITE_TIMEOUT_S),
            self.replicas,
            calls=shape.calls,
            max_waiting=1000,
            clock_s=self._clock_s,
        )

    async def start(self) -> None:
        """Bring everything up, with the buckets."""
        await self._start_storage()
        assert self.storage is not None
        puts = [
            {
                "kind": "bucket",
                "id": bucket.id,
                "body": {"retention_ns": bucket.retention_ns},
                "unique": [],
                "indexes": {},
            }
            for bucket in BUCKETS.values()
        ]
        await self.storage.committer.submit(ChangeRecords(decode_change({"puts": puts})))
        self._auth_node.handlers = _auth(lambda: 0 if self.storage is None else self.storage.state.number)
        self._auth_node.is_up = True
        for node in self._ingest_nodes:
            await self._start_ingest(node)
        self.replicas.update([node.name, "ingest", f"sim://{node.name}"] for node in self._ingest_nodes)

    async def stop(self) -> None:
        """End everything, as a kill does."""
        await self.gateway.close()
        for node in self.network.nodes.values():
            await node.kill()
        for task in list(self._restarts):
            task.cancel()
        await asyncio.gather(*self._restarts, return_exceptions=True)

    def kill(self, name: str) -> None:
        """Kill a node now and start it again soon."""
        node = self.network.nodes[f"sim://{name}"]
        if node.is_up:
            self.network.trace(f"{name} is killed")
            node.is_up = False
            task = asyncio.get_running_loop().create_task(self._restart(node))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)

    async def all_up(self) -> None:
        """Wait until every node is up."""
        while self._restarts or not all(node.is_up for node in self.network.nodes.values()):
            await asyncio.sleep(0.05)

    async def _restart(self, node: Node) -> None:
        await node.kill()
        if node is self._storage_node:
            self.storage = None
        await asyncio.sleep(self._draw.uniform(0.05, 1.0))
        await (self._start_storage() if node is self._storage_node else self._start_ingest(node))
        self.network.trace(f"{node.name} is up again")

    async def _start_storage(self) -> None:
        node = self._storage_node
        loop = asyncio.get_running_loop()

        def die() -> None:
            # Not from within: the one who dies can't wait for his own end.
            loop.call_soon(self.kill, node.name, context=Context())

        storage = SimulatedStorage(self._settings, self.disk, node, die)
        await node.spawn(storage.open())
        self.storage = storage
        node.handlers = Methods(storage).handlers()
        node.is_up = True

    async def _start_ingest(self, node: Node) -> None:
        client = SimulatedClient(self.network, node.name, "ingest")
        ingest = Ingest(INGEST_SETTINGS, client, CollectorRegistry(), self._clock_s)
        node.handlers = ingest_handlers(ingest.writer.write, ingest.budget, INGEST_SETTINGS.body_limit)
        node.spawn(ingest.feed.run())
        node.is_up = True


def _auth(number: Callable[[], int]) -> Mapping[str, Handler]:
    auth = FakeAuth(dict(BUCKETS))

    async def answer(method: Callable[[Call], Any], call: Call) -> Reply:
        auth.number = number()
        reply: Reply = await method(call)
        return reply

    return {"bucket": partial(answer, auth.bucket), "mappings": partial(answer, auth.mappings)}


def client_of(network: Network, caller: str) -> RpcClient:
    """A client beside the cluster."""
    return SimulatedClient(network, "outside", caller)
