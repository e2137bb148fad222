"""What every service's aiohttp app shares: status numbers, running and stopping, health, metrics, registration.

The only place that knows HTTP status numbers of our error codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from common import allocator
from common.config import CannotStart, faults
from common.errors import InfluxError
from common.log import get_logger
from common.rpc.client import RpcClient
from common.rpc.protocol import CallSite
from common.rpc.server import Handler, RpcServer
from common.rpc.small import PATH
from common.rpc.wire import Keys

log = get_logger("web")

STATUS = {
    "internal error": 500,
    "not implemented": 501,
    "not found": 404,
    "conflict": 422,
    "invalid": 400,
    "unprocessable entity": 422,
    "empty value": 400,
    "unavailable": 503,
    "forbidden": 403,
    "too many requests": 429,
    "unauthorized": 401,
    "method not allowed": 405,
    "request too large": 413,
}

# aiohttp waits so long twice: until requests under way end, then until those that it has told to give up do. Both
# together and the cleanup have to fit into the 15 s within which a service ends.
SHUTDOWN_TIMEOUT_S = 5.0
HEARTBEAT_S = 2.0
LAG_EVERY_S = 0.1
LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

REGISTRY = web.AppKey("registry", CollectorRegistry)
# () -> {"status": "ready" | other, ...reasons}: what /ready of a service shows.
READINESS = web.AppKey("readiness", object)
STARTED_NS = time.time_ns()


@dataclass(frozen=True, slots=True)
class Front:
    """Answers the requests of an app whose path begins with *prefix*, in place of its routes."""

    prefix: str
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


FRONT = web.AppKey("front", Front)
RPC = web.AppKey("rpc", RpcServer)


def status_of(error: InfluxError) -> int:
    """HTTP status of an error that a client sees."""
    return STATUS.get(error.code, 500)


def make_registry() -> CollectorRegistry:
    """A metrics registry with the process's own figures in it."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def internal_app(
    audience: str,
    keys: Keys,
    handlers: Mapping[str, Handler],
    readiness: Callable[[], Mapping[str, Any]],
    registry: CollectorRegistry | None = None,
) -> web.Application:
    """An app with ``/rpc/<method>``, ``/health``, ``/ready`` and ``/metrics``.

    Bodies are bounded by each handler as it reads its parts, so aiohttp's own bound is off.
    """
    app = web.Application(client_max_size=0)
    app[REGISTRY] = registry or make_registry()
    app[READINESS] = readiness
    app[RPC] = rpc = RpcServer(audience, keys, handlers)
    app[FRONT] = Front(PATH, rpc.handle)

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"name": audience, "status": "pass"})

    async def ready(_request: web.Request) -> web.Response:
        state = readiness()
        return web.Response(
            status=200 if state.get("status") == "ready" else 503,
            body=orjson.dumps(state),
            content_type="application/json",
        )

    async def metrics(_request: web.Request) -> web.Response:
        return metrics_response(app[REGISTRY])

    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)
    app.router.add_get("/metrics", metrics)
    app.cleanup_ctx.append(measure_loop_lag)
    return app


def metrics_response(registry: CollectorRegistry) -> web.Response:
    """The registry in Prometheus' text format 0.0.4."""
    response = web.Response(body=generate_latest(registry))
    response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
    return response


async def measure_loop_lag(app: web.Application) -> AsyncIterator[None]:
    """Keep the gauge of how late the event loop runs (decision 16)."""
    gauge = Gauge("tidegate_event_loop_lag_seconds", "How late a timer fired", registry=app[REGISTRY])
    delays = Histogram(
        "tidegate_event_loop_delay_seconds", "How late timers fired", buckets=LAG_BUCKETS_S, registry=app[REGISTRY]
    )

    async def measure() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_EVERY_S)
            late_s = max(0.0, time.monotonic() - before - LAG_EVERY_S)
            gauge.set(late_s)
            delays.observe(late_s)

    task = asyncio.create_task(measure())
    yield
    task.cancel()


def registration(
    client: RpcClient, storage_url: str, service: str, url: Callable[[], str | None]
) -> Callable[[web.Application], AsyncIterator[None]]:
    """A cleanup context that keeps this instance's leased record in storage fresh, and takes it back at the end.

    Args:
        url: gives the advertised URL once the service listens, None before.
    """
    instance = f"{service}-{secrets.token_hex(4)}"

    async def keep(app: web.Application) -> AsyncIterator[None]:
        async def beat() -> None:
            failing = False
            while True:
                address = url()
                try:
                    if address is not None:
                        head = {"instance": instance, "service": service, "url": address, "lease_s": 3 * HEARTBEAT_S}
                        await client.call(storage_url, "storage.register", head, timeout_s=3)
                        failing = False
                except InfluxError as error:
                    if not failing:
                        log.warning("cannot register with storage", reason=str(error))
                    failing = True
                await asyncio.sleep(HEARTBEAT_S if address is not None and not failing else 0.1)

        task = asyncio.create_task(beat())
        yield
        task.cancel()
        with contextlib.suppress(InfluxError):
            head = {"instance": instance, "service": service, "url": url() or "", "lease_s": 0}
            await client.call(storage_url, "storage.register", head, timeout_s=1)

    return keep


MakeSite = Callable[[web.AppRunner, socket.socket], web.BaseSite]


class Server:
    """One listening app: start, then stop in order. Signals end ``run_until_stopped``."""

    def __init__(self, app: web.Application, host: str, port: int, advertise_host: str = "") -> None:
        # auto_decompress off: aiohttp's own gzip takes a cut body for a whole one.
        self._runner = web.AppRunner(
            app, auto_decompress=False, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )
        self._host, self._port, self._advertise_host = host, port, advertise_host
        self.url: str | None = None

    async def start(self, make_site: MakeSite | None = None) -> str:
        """Listen; returns the URL under which the service is reached. Raises CannotStart when the port is taken."""
        await self._runner.setup()
        if FRONT in self._runner.app:
            _put_before(self._runner, self._runner.app[FRONT])
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
            listener.listen(1024)
        except (OSError, OverflowError) as error:
            listener.close()
            # What the app has begun (threads, tasks) would keep the process alive.
            await self._runner.cleanup()
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            raise CannotStart(f"cannot listen on {self._host}:{self._port}: {why}") from None
        await (make_site or _make_site)(self._runner, listener).start()
        port = listener.getsockname()[1]
        everywhere = self._host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
        host = self._advertise_host or (own_address() if everywhere else self._host)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        return self.url

    async def stop(self) -> None:
        await self._runner.cleanup()


def _make_site(runner: web.AppRunner, listener: socket.socket) -> web.BaseSite:
    if RPC in runner.app:
        return CallSite(runner, listener, runner.app[RPC])
    return web.SockSite(runner, listener)


def _put_before(runner: web.AppRunner, front: Front) -> None:
    """Let *front* have its requests before the app resolves them: its routes and match infos cost 20 us a request."""
    manager = runner.server
    assert manager is not None
    loop = asyncio.get_running_loop()
    make_request, answer = manager.request_factory, manager.request_handler

    def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if message.path.startswith(front.prefix):
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=0)
        return make_request(message, payload, protocol, writer, task)

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        return answer(request) if isinstance(request, web.Request) else front.answer(request)

    manager.request_factory, manager.request_handler = make, handle


def own_address() -> str:
    """An address of this machine that its neighbours reach: in a container the one of its network."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


async def run_until_stopped(server: Server, name: str, make_site: MakeSite | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order: requests under way end, nothing is lost."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = await server.start(make_site)
    # What lives as long as the process is not looked at again: a full collection took 90 to 170 ms of the event loop.
    gc.collect()
    gc.freeze()
    log.info("listening", name=name, url=url)
    await stop.wait()
    log.info("stopping", name=name)
    await server.stop()


def run(main: Callable[[], Any], settings: type[BaseSettings] = BaseSettings) -> None:
    """Run an async main under uvloop; what it was given and can't use ends it with status 1 and a line that says so.

    The process leaves no core dump: keys and tokens are in its memory.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allocator.keep_freed_memory()
    try:
        uvloop.run(main())
    except ValidationError as error:
        sys.exit("\n".join(f"can't start: {line}" for line in faults(error, settings)))
    except CannotStart as error:
        sys.exit(f"can't start: {error}")
