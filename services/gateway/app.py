"""build(settings) → the gateway: its parts, the path of a request through them, starting and stopping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from common.budget import Budget
from common.config import load_keys
from common.errors import InfluxError
from common.feed import FeedFollower
from common.messages import AUTH, GATEWAY, STORAGE
from common.rpc.client import RpcClient
from common.web import FRONT, Front, make_registry, measure_loop_lag
from common.web import REGISTRY as REGISTRY_KEY
from services.gateway import small
from services.gateway.access_log import log_request
from services.gateway.batching import Batcher
from services.gateway.config import GatewaySettings
from services.gateway.deletes import delete
from services.gateway.exchange import Exchange, Proxies
from services.gateway.express import Express
from services.gateway.gateway import Gateway, Handle
from services.gateway.identity import Identities
from services.gateway.meter import Meter
from services.gateway.protocol import Guard, Limits
from services.gateway.queries import query
from services.gateway.query_string import parse_pairs, unescape_path
from services.gateway.question_heads import QuestionHeads
from services.gateway.raw_answers import STATUS_CLIENT_GONE, refusal_of
from services.gateway.relay import Broken
from services.gateway.replicas import Replicas
from services.gateway.rest import planned, preflight, rest
from services.gateway.routes import find_route
from services.gateway.short_questions import ShortQuestions
from services.gateway.status import Probes
from services.gateway.turns import Turns
from services.gateway.watch import Watch
from services.gateway.writes import sender, write

PARTS = web.AppKey("parts", Gateway)
GUARD = web.AppKey("guard", Guard)
MAX_CALLS = 2048


def build(settings: GatewaySettings) -> web.Application:
    """The gateway as an app; ``app[GUARD]`` goes to the site that it listens on."""
    registry = make_registry()
    budget = Budget(settings.budget_bytes)
    meter = Meter(registry, budget)
    client = RpcClient(load_keys(settings), GATEWAY, max_connections=MAX_CALLS)
    replicas = Replicas(time.monotonic)
    batcher = Batcher(
        sender(client, settings.write_timeout_s),
        replicas,
        calls=settings.write_calls,
        max_waiting=settings.write_queue,
        clock_s=time.monotonic,
    )
    probes = Probes(replicas, ((AUTH, settings.auth_url), (STORAGE, settings.storage_url)))
    batcher.sizes = meter.batch_writes.observe
    identities = Identities(client, settings.auth_url, settings.identity_cache)
    # Where requests are logged all of them are handled alike.
    express = Express(identities, batcher, budget, meter, settings.write_timeout_s)
    gateway = Gateway(
        config=settings,
        client=client,
        identities=identities,
        replicas=replicas,
        batcher=batcher,
        express=express if settings.access_log == "off" else None,
        question_heads=QuestionHeads(identities, settings.max_header_bytes) if settings.access_log == "off" else None,
        turns=Turns(replicas, settings.write_streams, time.monotonic),
        probes=probes,
        watch=Watch(replicas, probes.answers),
        budget=budget,
        meter=meter,
        proxies=Proxies(settings.trusted_proxies),
    )
    handlers: dict[str, Handle] = {
        "write": write,
        "query": query,
        "rest": rest,
        "planned": planned,
        "delete": delete,
        "ping": small.ping,
        "health": small.health,
        "ready": small.ready,
        "metrics": small.metrics_of(registry),
        "missing": small.missing,
    }
    # Bodies are bounded by their readers.
    app = web.Application(client_max_size=0)
    app[REGISTRY_KEY] = registry
    app[PARTS] = gateway
    guard = app[GUARD] = Guard(
        Limits(
            settings.max_connections,
            settings.max_header_bytes,
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.idle_timeout_s,
        ),
        meter,
        gateway.express,
        None if gateway.question_heads is None else ShortQuestions(gateway, gateway.question_heads),
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(gateway, handlers, request)
        if guard.draining:
            response.force_close()
        return response

    # Which path is which is the business of routes.py; ``100 Continue`` is sent when the body is wanted (bodies.py),
    # not before the credential is known.
    app[FRONT] = Front("", handle)
    app.cleanup_ctx.extend((measure_loop_lag, guard.watch, _calls, _feed, _uses, _batches))
    return app


async def answer(gateway: Gateway, handlers: dict[str, Handle], request: web.BaseRequest) -> web.StreamResponse:
    """The path of every request: route, handler, errors in the dress of the path, figures."""
    started_s = time.perf_counter()
    raw_path, _, raw_query = request.raw_path.partition("?")
    if not raw_path.startswith("/"):  # absolute form, or the * of OPTIONS
        raw_path, raw_query = request.rel_url.raw_path, request.rel_url.raw_query_string
    refusal: InfluxError | None = None
    try:
        path, pairs = unescape_path(raw_path), parse_pairs(raw_query)
    except InfluxError as error:
        path, pairs, refusal = raw_path, [], error
    exchange = Exchange(request, find_route(path), path, pairs, gateway.proxies.remote_of(request))
    status = STATUS_CLIENT_GONE
    try:
        response = await _handle(gateway, handlers, exchange, refusal)
        status = response.status
        return response
    finally:
        seconds = time.perf_counter() - started_s
        gateway.meter.request(request.method, raw_path, status, request.headers.get("User-Agent", ""), seconds)
        log_request(gateway.config.access_log, exchange, status, seconds)


async def _handle(
    gateway: Gateway, handlers: dict[str, Handle], exchange: Exchange, refusal: InfluxError | None
) -> web.StreamResponse:
    try:
        if refusal is not None:
            raise refusal
        if exchange.route.dialect == "v2" and exchange.request.method == "OPTIONS":
            return preflight(exchange)
        return await handlers[exchange.route.action](gateway, exchange)
    except Broken:
        raise
    except Exception as error:
        return exchange.refuse(refusal_of(error, exchange.request_id, exchange.path))


async def _calls(app: web.Application) -> AsyncIterator[None]:
    gateway = app[PARTS]
    await gateway.client.open()
    await gateway.probes.open()
    yield
    await gateway.watch.close()
    await gateway.probes.close()
    await gateway.client.close()


async def _feed(app: web.Application) -> AsyncIterator[None]:
    """Follow auth's feed: which instances live, and what the memory of identities has to forget."""
    gateway = app[PARTS]
    cache, replicas = gateway.identities.cache, gateway.replicas

    def start(snapshot: dict[str, Any]) -> None:
        cache.drop_all(snapshot["number"])
        cache.set_fed(True)
        replicas.update(snapshot["instances"])

    def event(event: dict[str, Any]) -> None:
        if "tags" in event:
            cache.drop(event["tags"], event["number"])
        if "instances" in event:
            replicas.update(event["instances"])

    def down() -> None:
        cache.set_fed(False)

    follower = FeedFollower(gateway.client, gateway.config.auth_url, "auth.feed", start, event, down)
    task = asyncio.create_task(follower.run())
    yield
    task.cancel()


async def _uses(app: web.Application) -> AsyncIterator[None]:
    """Tell auth which tokens are used; the last of it at the end."""
    identities = app[PARTS].identities
    task = asyncio.create_task(identities.keep_telling())
    yield
    task.cancel()
    await identities.tell()


async def _batches(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[PARTS].batcher.close()
