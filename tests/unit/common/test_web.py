"""Stopping an app whose requests do not end by themselves."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from common.web import SHUTDOWN_TIMEOUT_S, Server

END_WITHIN_S = 15.0


def test_both_waits_of_a_stop_leave_time_for_the_cleanup() -> None:
    assert 2 * SHUTDOWN_TIMEOUT_S <= END_WITHIN_S - 5


async def test_a_request_that_never_ends_does_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.web.SHUTDOWN_TIMEOUT_S", 0.2)
    begun = asyncio.Event()
    ended: list[str] = []

    async def wait(_request: web.Request) -> web.Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return web.Response()

    app = web.Application()
    app.router.add_get("/", wait)
    server = Server(app, "127.0.0.1", 0)
    url = await server.start()
    async with aiohttp.ClientSession() as session, asyncio.timeout(END_WITHIN_S):
        asking = asyncio.create_task(session.get(url))
        await begun.wait()
        await server.stop()
        with pytest.raises(aiohttp.ClientError):
            await asking
    assert ended == ["cancelled"]
