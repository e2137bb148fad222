"""A real gateway on loopback, with auth, ingest and query played over real internal calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import aiohttp

from common.errors import InfluxError, Unauthorized
from common.identity import Identity, Permission
from common.rpc import wire
from common.rpc.server import Call, Reply
from common.rpc.wire import Keys
from common.web import Server, internal_app
from services.gateway.app import GUARD, PARTS, build
from services.gateway.config import GatewaySettings
from services.gateway.protocol import GuardedSite

SECRET = "k" * 32
KEYS = Keys(SECRET.encode(), (SECRET.encode(),))
ORG = "00000000000000aa"
TOKEN = {"Authorization": "Token good"}


def identity(org: str = ORG, name: str = "1", expires_ms: int | None = None) -> Identity:
    permission = Permission("write", "buckets", None, org)
    return Identity("token", f"{name:0>16}", "00000000000000ff", org, (permission,), True, expires_ms)


class PlayedService:
    """One internal service that answers as a test says."""

    def __init__(self, name: str, handlers: dict[str, Any]) -> None:
        self.state: dict[str, Any] = {"status": "ready"}
        self.app = internal_app(name, KEYS, handlers, lambda: self.state)
        self.server = Server(self.app, "127.0.0.1", 0)
        self.url = ""

    async def start(self) -> None:
        self.url = await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()


class PlayedAuth:
    """Knows the secrets in ``known``; keeps what it was asked; ``hold`` makes passwords wait."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {"good": identity(), "other": identity("00000000000000bb", "2")}
        self.asked: list[dict[str, Any]] = []
        self.rest: list[tuple[dict[str, Any], bytes]] = []
        self.rest_answer: Callable[[dict[str, Any], bytes], Reply] = lambda _head, _body: Reply(
            {"status": 200, "headers": [["Content-Type", "application/json; charset=utf-8"]]}, [b"{}"]
        )
        self.hold: asyncio.Event | None = None
        self.number = 1
        self.instances: list[list[str]] = []
        self.feeds: list[asyncio.Queue[list[dict[str, Any]] | None]] = []
        self.service = PlayedService("auth", {"verify": self._verify, "rest": self._rest, "feed": self._feed})

    async def _verify(self, call: Call) -> Reply:
        await call.finish()
        self.asked.append(call.head)
        if self.hold is not None and call.head["scheme"] == "query":
            await self.hold.wait()
        found = self.known.get(call.head["secret"])
        if found is None:
            raise Unauthorized("Unauthorized" if call.head["dialect"] == "v1" else "unauthorized access")
        tags = [f"auth:{found.credential_id}", f"org:{found.org_id}"]
        return Reply({"identity": found.to_wire(), "number": self.number, "tags": tags})

    async def _rest(self, call: Call) -> Reply:
        (body,) = await call.parts()
        self.rest.append((call.head, body))
        return self.rest_answer(call.head, body)

    async def _feed(self, call: Call) -> Reply:
        await call.finish()
        queue: asyncio.Queue[list[dict[str, Any]] | None] = asyncio.Queue()
        self.feeds.append(queue)

        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    try:
                        events = await asyncio.wait_for(queue.get(), 0.5)
                    except TimeoutError:
                        events = []
                    if events is None:
                        return
                    yield wire.encode_head(events)
            finally:
                self.feeds.remove(queue)

        return Reply({"number": self.number, "instances": self.instances}, parts())

    async def stop(self) -> None:
        stopping = asyncio.create_task(self.service.stop())
        await asyncio.sleep(0.01)
        for queue in self.feeds:
            queue.put_nowait(None)
        await stopping

    def tell(self, *events: dict[str, Any]) -> None:
        for queue in self.feeds:
            queue.put_nowait(list(events))


class PlayedIngest:
    """Keeps the writes it takes; ``answer`` may refuse some."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.writes: list[tuple[dict[str, Any], bytes]] = []
        self.calls: list[int] = []
        self.identities: list[list[Any]] = []
        self.hold: asyncio.Event | None = None
        self.before: Callable[[], InfluxError | None] = lambda: None
        self.answer: Callable[[dict[str, Any], bytes], dict[str, Any] | None] = lambda _item, _body: None
        self.cut: list[str] = []
        self.service = PlayedService("ingest", {"write": self._write})

    async def _write(self, call: Call) -> Reply:
        items = call.head["items"]
        refusal = self.before()
        if refusal is not None:
            raise refusal
        try:
            parts = await call.parts()
        except InfluxError as error:
            self.cut.append(str(error))
            raise
        parts = [b"".join(parts)]
        if items[0]["size"] != -1:
            stops = list(accumulate((item["size"] for item in items), initial=0))
            parts = [parts[0][start:stop] for start, stop in pairwise(stops)]
        self.calls.append(len(items))
        self.identities = call.head["identities"]
        if self.hold is not None:
            await self.hold.wait()
        self.writes += zip(items, parts, strict=True)
        return Reply({"results": [self.answer(item, part) for item, part in zip(items, parts, strict=True)]})


class PlayedQuery:
    """Answers what ``parts`` gives; when ``whole``, once it has all of that."""

    def __init__(self) -> None:
        self.heads: list[dict[str, Any]] = []
        self.cancelled = asyncio.Event()
        self.whole = False
        self.parts: Callable[[dict[str, Any]], AsyncIterator[bytes]] = self._default
        self.headers = [["Content-Type", "application/json"]]
        self.error: InfluxError | None = None
        self.changes: list[Any] = []
        self.service = PlayedService("query", {"influxql": self._influxql})

    async def _default(self, _head: dict[str, Any]) -> AsyncIterator[bytes]:
        yield b'{"results":[]}\n'

    async def _influxql(self, call: Call) -> Reply:
        await call.finish()
        self.heads.append(call.head)
        if self.error is not None:
            raise self.error

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for part in self.parts(call.head):
                    yield part
            except (asyncio.CancelledError, GeneratorExit):
                self.cancelled.set()
                raise

        head = {"status": 200, "headers": self.headers, "changes": self.changes}
        return Reply(head, [part async for part in watched()] if self.whole else watched())


@dataclass
class Parts:
    """The gateway and what is behind it."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    auth: PlayedAuth = field(default_factory=PlayedAuth)
    ingests: list[PlayedIngest] = field(default_factory=lambda: [PlayedIngest("ingest-0")])
    query: PlayedQuery = field(default_factory=PlayedQuery)
    storage: PlayedService = field(default_factory=lambda: PlayedService("storage", {}))
    url: str = ""

    @property
    def ingest(self) -> PlayedIngest:
        return self.ingests[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def start(self) -> None:
        services = [self.auth.service, self.query.service, self.storage, *(one.service for one in self.ingests)]
        for service in services:
            await service.start()
        self.auth.instances = [["query-0", "query", self.query.service.url]]
        self.auth.instances += [[one.name, "ingest", one.service.url] for one in self.ingests]
        settings = GatewaySettings(
            host="127.0.0.1",
            port=0,
            data=self.folder,
            internal_key=SECRET,
            auth_url=self.auth.service.url,
            storage_url=self.storage.url,
            **self.settings,
        )
        self.app = build(settings)
        self.server = Server(self.app, "127.0.0.1", 0)
        self.url = await self.server.start(lambda runner, socket: GuardedSite(runner, socket, self.app[GUARD]))
        self.gateway = self.app[PARTS]
        self.session = aiohttp.ClientSession(auto_decompress=False)
        async with asyncio.timeout(5):
            while not self.gateway.replicas.everyone():
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.session.close()
        await self.server.stop()
        await self.auth.stop()
        for service in (self.query.service, self.storage, *(one.service for one in self.ingests)):
            await service.stop()

    def request(self, method: str, path: str, **more: Any) -> Any:
        """A request to the gateway; the path as it is."""
        from yarl import URL

        return self.session.request(method, URL(self.url + path, encoded=True), **more)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, aiohttp.typedefs.CIMultiDictProxy, bytes]:
        """Status, headers and body of a request."""
        async with self.request(method, path, **more) as response:
            return response.status, response.headers, await response.read()

    async def write(self, body: bytes = b"m v=1", path: str = "/write?db=d", **more: Any) -> int:
        """Status of a write."""
        return (await self.ask("POST", path, data=body, headers=TOKEN | more.pop("headers", {}), **more))[0]


@contextlib.asynccontextmanager
async def running(folder: Path, ingests: int = 1, **settings: Any) -> AsyncIterator[Parts]:
    parts = Parts(folder, settings, ingests=[PlayedIngest(f"ingest-{number}") for number in range(ingests)])
    await parts.start()
    try:
        yield parts
    finally:
        await parts.stop()


def error_body(body: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(body)
    return parsed
