"""build(settings) → the storage service as an aiohttp app."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from common import web as shared
from common.config import load_keys
from common.messages import STORAGE as AUDIENCE
from services.storage.config import StorageSettings
from services.storage.rpc import Methods
from services.storage.storage import Storage

STORAGE = web.AppKey("storage", Storage)


def build(settings: StorageSettings) -> web.Application:
    """The app; its start raises what ``Storage.open`` raises."""
    registry = shared.make_registry()
    storage = Storage(settings, registry)
    app = shared.internal_app(AUDIENCE, load_keys(settings), Methods(storage).handlers(), storage.readiness, registry)
    app[STORAGE] = storage

    async def keep_open(_app: web.Application) -> AsyncIterator[None]:
        await storage.open()
        yield
        await storage.close()

    async def end_feeds(_app: web.Application) -> None:
        # Feeds never end by themselves, and the app waits for calls under way.
        storage.feed.close()

    app.cleanup_ctx.append(keep_open)
    app.on_shutdown.append(end_feeds)
    return app
