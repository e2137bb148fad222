"""Instances that stop with calls in hand: another one is asked, or it is 503; nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.services.gateway_parts import TOKEN, Parts, error_body, running

QUERY = "/query?db=d&q=SELECT+v+FROM+m"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.status.TIMEOUT_S", 0.2)
    monkeypatch.setattr("services.gateway.watch.PAUSE_S", 0.05)


@asynccontextmanager
async def stopped_instance() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address that takes connections, as the kernel does for a stopped process, and answers nothing; and an event
    of the first connection."""
    called = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        called.set()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", called
    finally:
        for writer in writers:
            writer.close()
        server.close()


async def list_instances(parts: Parts, *instances: list[str]) -> None:
    parts.auth.tell({"instances": list(instances)})
    names = sorted(instance[0] for instance in instances)
    async with asyncio.timeout(5):
        while sorted(one.instance for one in parts.gateway.replicas.everyone()) != names:
            await asyncio.sleep(0.005)


async def test_a_query_whose_instance_stops_is_asked_of_another_one(tmp_path: Path) -> None:
    async with running(tmp_path) as parts, stopped_instance() as (url, called), asyncio.timeout(20):
        await list_instances(parts, ["query-9", "query", url])
        asking = asyncio.create_task(parts.ask("GET", QUERY, headers=TOKEN))
        await called.wait()
        await list_instances(parts, ["query-0", "query", parts.query.service.url])
        status, _, body = await asking
        assert (status, json.loads(body)) == (200, {"results": []})


@pytest.mark.parametrize(("path", "body"), [
    ("/query?db=d&q=DROP+MEASUREMENT+m", b""), ("/write?db=d", b"m v=1\n" * 50_000),
    ("/api/v2/delete?org=o&bucket=b", b'{"start":"2020-01-01T00:00:00Z","stop":"2020-01-02T00:00:00Z"}'),
])  # fmt: skip
async def test_what_must_not_be_done_twice_is_503(tmp_path: Path, path: str, body: bytes) -> None:
    async with running(tmp_path) as parts, stopped_instance() as (url, called), asyncio.timeout(20):
        service = "ingest" if "write" in path else "query"
        await list_instances(parts, [f"{service}-9", service, url])
        asking = asyncio.create_task(parts.ask("POST", path, headers=TOKEN, data=body))
        await called.wait()
        await list_instances(parts)
        status, headers, answer = await asking
        assert status == 503, answer
        assert int(headers["Retry-After"]) > 0
        assert "does not answer any more" in error_body(answer)["message"]


async def test_an_answer_under_way_breaks_off_when_its_instance_stops(tmp_path: Path) -> None:
    async with running(tmp_path) as parts, asyncio.timeout(20):
        never = asyncio.Event()

        async def begun(_head: dict[str, Any]) -> AsyncIterator[bytes]:
            yield b"x" * 5_000
            await never.wait()

        parts.query.parts = begun
        headers = {**TOKEN, "Accept-Encoding": "identity"}
        async with parts.request("GET", QUERY, headers=headers) as answer:
            assert len(await answer.content.readany()) > 0
            parts.gateway.watch._answers = silent
            await list_instances(parts)
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()
        await parts.query.cancelled.wait()


async def silent(_url: str) -> bool:
    return False


async def test_an_instance_that_ends_in_order_may_finish(tmp_path: Path) -> None:
    async with running(tmp_path) as parts, asyncio.timeout(20):
        finish = asyncio.Event()

        async def slow(_head: dict[str, Any]) -> AsyncIterator[bytes]:
            await finish.wait()
            yield b"whole"

        parts.query.parts = slow
        asking = asyncio.create_task(parts.ask("GET", QUERY, headers=TOKEN))
        while not parts.query.heads:
            await asyncio.sleep(0.005)
        await list_instances(parts)
        await asyncio.sleep(0.3)
        finish.set()
        assert (await asking)[0::2] == (200, b"whole")
        assert not parts.gateway.watch._calls
