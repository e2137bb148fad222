"""The auth service: build(settings) → aiohttp app; what starts first stops last."""

from __future__ import annotations

import asyncio
import contextlib
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from jwt import InsecureKeyLengthWarning

from common.config import load_keys
from common.feed import FeedFollower
from common.log import get_logger
from common.rpc.client import RpcClient
from common.web import internal_app, make_registry, registration
from services.auth.access import sessions
from services.auth.access.caches import Caches
from services.auth.access.resolve import Resolver
from services.auth.access.verify import Verifier
from services.auth.config import AuthSettings
from services.auth.context import Context
from services.auth.hub import Hub
from services.auth.records.id_maker import IdMaker
from services.auth.records.store import Records
from services.auth.records.uses import Uses, keep_writing, write_last
from services.auth.resources import org_removal, org_secrets
from services.auth.rpc import handlers
from services.auth.security import jwt
from services.auth.security.attempts import Attempts
from services.auth.security.audit import Audit
from services.auth.security.hashing import load_hasher
from services.auth.security.passwords import Passwords
from services.auth.security.sealing import load_sealer
from services.auth.setup.first_start import FirstStart

log = get_logger("auth")


def build(settings: AuthSettings, url: Callable[[], str | None]) -> web.Application:
    """The app.

    Args:
        url: gives the advertised URL once the service listens, None before.
    """
    keys = load_keys(settings)
    registry = make_registry()
    client = RpcClient(keys, "auth")
    caches = Caches(settings.auth_cache_entries, registry)
    hub = Hub(caches)
    passwords = Passwords(settings.bcrypt_cost, settings.max_password_checks, settings.password_cache_s, registry)
    context = Context(
        Records(client, settings.storage_url, caches.drop),
        load_hasher(settings),
        passwords,
        IdMaker(lambda: time.time_ns() // 1_000_000),
        time.time_ns,
        settings,
        load_sealer(settings),
        Attempts(settings.max_wrong_passwords, settings.max_password_checks),
        Audit(settings.audit_log or str(settings.data / "audit.log"), settings.audit_max_bytes),
        Uses(),
    )
    follower = FeedFollower(client, settings.storage_url, "storage.feed", hub.start, hub.event, hub.down)
    first_start = FirstStart(context)

    def readiness() -> dict[str, Any]:
        storage = "ready" if hub.up else "the change feed of storage is down"
        state: dict[str, Any] = {"status": "ready" if hub.up else "not ready", "storage": storage}
        if first_start.problem is not None:
            state |= {"status": "not ready", "setup": first_start.problem}
        return state

    verifier = Verifier(context, caches, registry, read_jwt_secret(settings))
    app = internal_app("auth", keys, handlers(context, verifier, Resolver(context, caches), hub), readiness, registry)
    app.cleanup_ctx.append(_opened(client, passwords))
    app.cleanup_ctx.append(registration(client, settings.storage_url, "auth", url))
    background = (
        context.audit.run,
        follower.run,
        first_start.run,
        lambda: sessions.sweep(context),
        lambda: org_removal.keep_sweeping(context),
        lambda: org_secrets.keep_sealing(context),
    )
    for make in background:
        app.cleanup_ctx.append(_running(make))
    # Gateways tell their last before auth stops; it is written before storage does.
    uses = (lambda: keep_writing(context.uses, context.records), lambda: write_last(context.uses, context.records))
    app.cleanup_ctx.append(_running(*uses))
    app.on_shutdown.append(_ending(hub))
    return app


def read_jwt_secret(settings: AuthSettings) -> bytes | None:
    """The shared secret of 1.x tokens, if it is one; a weak one is told."""
    given = settings.jwt_secret or settings.influxdb_jwt_secret
    usable = jwt.usable_secret(given)
    if given and usable is None:
        log.warning("1.x tokens are off: their shared key is too short", least_bytes=jwt.MIN_SECRET_BYTES)
    elif usable is not None and len(usable) < jwt.GOOD_SECRET_BYTES:
        log.warning("the shared key of 1.x tokens is short", better_bytes=jwt.GOOD_SECRET_BYTES)
    # The library would say so too, between the log's lines of JSON, for each hash that wants a longer one.
    warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)
    return usable


def _opened(client: RpcClient, passwords: Passwords) -> Callable[[web.Application], AsyncIterator[None]]:
    async def keep(app: web.Application) -> AsyncIterator[None]:
        await client.open()
        yield
        passwords.close()
        await client.close()

    return keep


def _running(
    make: Callable[[], Any], last: Callable[[], Any] | None = None
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Keeps a task running as long as the app runs; *last* is awaited after its end."""

    async def keep(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(make())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if last is not None:
            await last()

    return keep


def _ending(hub: Hub) -> Callable[[web.Application], Any]:
    async def end(app: web.Application) -> None:
        hub.close()

    return end
