"""What the tests of ingest stand on: auth and storage played over real internal calls, and a gateway's call."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from common.errors import InfluxError, NotFound
from common.identity import Identity, Permission
from common.model import Bucket, FieldType
from common.rpc import wire
from common.rpc.client import RpcClient
from common.rpc.server import Call, Reply
from common.rpc.wire import Keys
from common.segment import StringArray, decode_block, decode_dictionary, split_chunks
from common.web import Server, internal_app
from services.ingest.app import build
from services.ingest.config import IngestSettings

KEY = b"a key of tests that is long enough"
KEYS = Keys(KEY, (KEY,))
ORG = "00000000000000aa"
HOUR_NS = 3_600_000_000_000
WEEK_NS = 168 * HOUR_NS
WRITER = Identity("token", "1", "2", ORG, (Permission("write", "buckets", None, ORG),))
Point = tuple[str, str, bytes, int]  # bucket id, measurement, tag key, time


@dataclass
class FakeStorage:
    """Takes appends into dicts; what it is to answer instead can be queued.

    Attributes:
        answers: each append takes the next one: an error is raised, a dict is a ``retry``; None = store it.
        points: fields by point.
    """

    answers: deque[InfluxError | dict[str, Any] | None] = field(default_factory=deque)
    appends: list[dict[str, Any]] = field(default_factory=list)
    points: dict[Point, dict[str, Any]] = field(default_factory=dict)
    results: dict[bytes, Any] = field(default_factory=dict)
    keys: dict[tuple[str, str], dict[bytes, bytes]] = field(default_factory=dict)
    types: dict[tuple[str, str, int, str], FieldType] = field(default_factory=dict)
    schema_calls: int = 0
    number: int = 1
    gate: asyncio.Event | None = None
    events: asyncio.Queue[list[dict[str, Any]]] = field(default_factory=asyncio.Queue)

    async def hello(self, _call: Call) -> Reply:
        return Reply({"hash_key": bytes(16), "number": self.number, "max_series_per_bucket": 0, "version": "test"})

    async def register(self, _call: Call) -> Reply:
        return Reply({})

    async def feed(self, _call: Call) -> Reply:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                try:
                    yield wire.encode_head(await asyncio.wait_for(self.events.get(), 0.5))
                except TimeoutError:
                    yield wire.encode_head([])

        return Reply({"number": self.number, "instances": []}, parts())

    async def schema(self, call: Call) -> Reply:
        self.schema_calls += 1
        fields: dict[str, list[list[Any]]] = {}
        for (bucket, measurement, shard, name), type in self.types.items():
            if bucket == call.head["bucket_id"] and measurement in call.head["measurements"]:
                fields.setdefault(measurement, []).append([shard, name, int(type)])
        return Reply({"number": self.number, "fields": fields})

    async def find_results(self, call: Call) -> Reply:
        return Reply({"results": [[id, self.results[id]] for id in call.head["ids"] if id in self.results]})

    async def append(self, call: Call) -> Reply:
        parts = await call.parts()
        self.appends.append(call.head)
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.popleft() if self.answers else None
        if isinstance(answer, InfluxError):
            raise answer
        if answer is not None:
            return Reply({"retry": answer})
        known = [[id, self.results[id]] for id, _ in call.head["writes"] if id in self.results]
        conflicts = [
            [index, entry[2], int(winner)]
            for index, meta in enumerate(call.head["blocks"])
            for entry in meta["chunks"][3:]
            if (winner := self.types.get((meta["bucket"], meta["measurement"], meta["shard"][0], entry[2]), entry[3]))
            != entry[3]
        ]
        if known or conflicts:
            return Reply({"retry": {"known": known, "conflicts": conflicts}})
        self._store(call.head, parts)
        return Reply({"number": self.number})

    def _store(self, head: Mapping[str, Any], parts: Sequence[bytes]) -> None:
        self.number += 1
        count = len(head["blocks"])
        for (bucket, measurement, _), part in zip(head["new_series"], parts[count:], strict=True):
            ids, keys = decode_dictionary(part)
            self.keys.setdefault((bucket, measurement), {}).update(zip((id.tobytes() for id in ids), keys, strict=True))
        for meta, part in zip(head["blocks"], parts, strict=False):
            block = decode_block(meta, split_chunks(meta, part))
            keys = [self.keys[block.bucket_id, block.measurement][id.tobytes()] for id in block.series]
            for column in block.columns:
                self.types[block.bucket_id, block.measurement, block.shard_start_ns, column.name] = column.type
            for series, key in enumerate(keys):
                for row in range(block.offsets[series], block.offsets[series + 1]):
                    point = (block.bucket_id, block.measurement, key, int(block.times[row]))
                    self.points.setdefault(point, {}).update(
                        (c.name, _value(c.values, row)) for c in block.columns if c.valid is None or c.valid[row]
                    )
        self.results.update((id, result) for id, result in head["writes"])


def _value(values: Any, row: int) -> Any:
    if isinstance(values, StringArray):
        return values.data[values.offsets[row] : values.offsets[row + 1]].tobytes()
    return values[row].item()


@dataclass
class FakeAuth:
    """Knows some buckets; each serves the database of its name."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    error: InfluxError | None = None
    calls: int = 0
    number: int = 1

    async def bucket(self, call: Call) -> Reply:
        self.calls += 1
        if self.error is not None:
            raise self.error
        found = self.buckets.get(call.head["bucket"])
        if found is None:
            raise NotFound(f'bucket "{call.head["bucket"]}" not found')
        return Reply({"number": self.number, "tags": [f"bucket:{found.id}"], "bucket": _bucket_wire(found)})

    async def mappings(self, call: Call) -> Reply:
        self.calls += 1
        if self.error is not None:
            raise self.error
        org_id = call.head["org_id"]
        wires = [[b.name, "autogen", True, True, _bucket_wire(b)] for b in self.buckets.values() if b.org_id == org_id]
        return Reply({"number": self.number, "tags": [f"dbrp:{org_id}"], "mappings": wires})


def _bucket_wire(bucket: Bucket) -> list[Any]:
    return [bucket.id, bucket.org_id, bucket.name, bucket.retention_ns, bucket.shard_ns]


@dataclass
class Parts:
    """A running ingest between the two, and how to write to it."""

    url: str
    client: RpcClient
    storage: FakeStorage
    auth: FakeAuth
    server: Server

    def item(self, body: bytes, dialect: str = "v1", **given: Any) -> tuple[dict[str, Any], bytes]:
        """One write as the gateway sends it; *given* replaces fields of the item."""
        params = {"db": "db"} if dialect == "v1" else {"org": "o", "bucket": "db"}
        item = {
            "id": (time.time_ns() // 1_000_000).to_bytes(8, "big") + secrets.token_bytes(8),
            "now_ns": time.time_ns(), "attempt": 0, "identity": 0, "dialect": dialect,
            "params": params, "encoding": "", "size": len(body),
        }  # fmt: skip
        return {**item, **given}, body

    async def send(self, items: Sequence[tuple[dict[str, Any], bytes]], identity: Identity = WRITER) -> list[Any]:
        """Writes that travel together; the results."""
        head = {"identities": [identity.to_wire()], "items": [item for item, _ in items]}
        answer = await self.client.call(self.url, "ingest.write", head, [b"".join(body for _, body in items)])
        results: list[Any] = answer.head["results"]
        return results

    async def write(self, body: bytes, dialect: str = "v1", identity: Identity = WRITER, **given: Any) -> Any:
        """One write; its result."""
        return (await self.send([self.item(body, dialect, **given)], identity))[0]

    async def stream(self, pieces: Sequence[bytes], dialect: str = "v1", **given: Any) -> Any:
        """One write of unknown size in several parts."""
        item, _ = self.item(b"", dialect, size=-1, **given)
        head = {"identities": [WRITER.to_wire()], "items": [item]}

        async def parts() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        async with self.client.stream(self.url, "ingest.write", head, parts()) as answer:
            return answer.head["results"][0]

    @property
    def times(self) -> list[int]:
        """Times of the stored points."""
        return sorted(time_ns for *_, time_ns in self.storage.points)


def make_auth() -> FakeAuth:
    """Auth with a bucket ``db``, one ``short`` that keeps an hour, and one of another organization."""
    return FakeAuth({
        "db": Bucket("01", ORG, "db", 0, WEEK_NS),
        "short": Bucket("02", ORG, "short", HOUR_NS, HOUR_NS),
        "foreign": Bucket("03", "00000000000000bb", "foreign", 0, WEEK_NS),
    })  # fmt: skip


@asynccontextmanager
async def running_auth(auth: FakeAuth) -> AsyncIterator[str]:
    """The URL of *auth*."""
    methods = {"bucket": auth.bucket, "mappings": auth.mappings}
    async with _listening(internal_app("auth", KEYS, methods, _ready)) as server:
        yield server.url or ""


@asynccontextmanager
async def running_ingest(folder: Path, storage_url: str, auth_url: str, **settings: Any) -> AsyncIterator[Server]:
    """A real ingest between those two."""
    given = {
        "data": folder, "internal_key": KEY.decode(), "storage_url": storage_url, "auth_url": auth_url,
        "append_retry_s": 0.3, **settings,
    }  # fmt: skip
    url: list[Callable[[], str | None]] = []
    ingest = Server(build(IngestSettings(**given), lambda: url[0]()), "127.0.0.1", 0)
    url.append(lambda: ingest.url)
    try:
        await ingest.start()
        yield ingest
    finally:
        await ingest.stop()


@asynccontextmanager
async def running_parts(folder: Path, *, wait: bool = True, **settings: Any) -> AsyncIterator[Parts]:
    """Fakes and a real ingest, listening on loopback. With *wait*: until it is ready."""
    storage, auth = FakeStorage(), make_auth()
    methods = {
        "hello": storage.hello, "register": storage.register, "feed": storage.feed, "append": storage.append,
        "results": storage.find_results, "schema": storage.schema,
    }  # fmt: skip
    client = RpcClient(KEYS, "gateway")
    await client.open()
    try:
        async with (
            _listening(internal_app("storage", KEYS, methods, _ready)) as storage_server,
            running_auth(auth) as auth_url,
            running_ingest(folder, settings.pop("storage_url", storage_server.url), auth_url, **settings) as ingest,
        ):
            parts = Parts(ingest.url or "", client, storage, auth, ingest)
            if wait:
                await wait_ready(parts.url)
            yield parts
    finally:
        await client.close()


def _ready() -> dict[str, str]:
    return {"status": "ready"}


@asynccontextmanager
async def _listening(app: web.Application) -> AsyncIterator[Server]:
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def wait_ready(url: str, within_s: float = 10.0) -> None:
    """Wait until the service says that it is ready."""
    async with aiohttp.ClientSession() as session:
        deadline = time.monotonic() + within_s
        while True:
            async with session.get(f"{url}/ready") as response:
                if response.status == 200:
                    return
                assert time.monotonic() < deadline, await response.text()
            await asyncio.sleep(0.02)
