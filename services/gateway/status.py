"""How the parts of the whole are: asked over HTTP, at the same time, for a bounded time.

Asks every live instance for ``/ready`` or ``/metrics``; these two paths of the internal services need no signature.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from common.messages import AUTH, INGEST, QUERY, STORAGE
from services.gateway.exposition import merge_pages
from services.gateway.replicas import Replicas

TIMEOUT_S = 2.0
# An answer this young is given again: a monitor that asks often costs nothing.
KEEP_S = 0.25
MAX_STATE_BYTES = 64 << 10
MAX_PAGE_BYTES = 8 << 20
MAX_REASON = 200
PARTS = (AUTH, INGEST, QUERY, STORAGE)


@dataclass(frozen=True, slots=True)
class State:
    """How one instance says it is; ``reason`` is empty when it is ready."""

    service: str
    instance: str
    ready: bool
    reason: str


class Probes:
    """Asks the instances.

    Args:
        fixed: ``(service, url)`` of those that the feed does not list.
    """

    def __init__(
        self, replicas: Replicas, fixed: Sequence[tuple[str, str]], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._replicas = replicas
        self._fixed = fixed
        self._clock_s = clock_s
        self._session: aiohttp.ClientSession | None = None
        self._states: list[State] = []
        self._asked_s = float("-inf")
        self._asking: asyncio.Task[list[State]] | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=aiohttp.TCPConnector(limit=32, ttl_dns_cache=5)
        )

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        if self._session is not None:
            await self._session.close()

    async def states(self) -> list[State]:
        """The state of every part; a service without an instance has one entry that says so."""
        if self._clock_s() - self._asked_s < KEEP_S:
            return self._states
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._asking)

    async def metrics(self, own: str) -> str:
        """The gateway's page *own* and those of all instances as one."""
        targets = self._targets()
        pages = await asyncio.gather(*(self._get(url, "/metrics", MAX_PAGE_BYTES) for _, _, url in targets))
        merged = [("gateway", "gateway", own)]
        for (service, instance, _), (status, body) in zip(targets, pages, strict=True):
            up = status == 200
            page = body.decode("utf-8", "replace") if up else ""
            help_ = "# HELP tidegate_up Whether the instance gave its metrics\n# TYPE tidegate_up gauge\n"
            merged.append((service, instance, f"{help_}tidegate_up {int(up)}\n{page}"))
        return await asyncio.to_thread(merge_pages, merged)

    async def answers(self, url: str) -> bool:
        """Whether the instance at *url* answers at all."""
        status, _ = await self._get(url, "/health", MAX_STATE_BYTES)
        return status != 0

    def _targets(self) -> list[tuple[str, str, str]]:
        live = [(one.service, one.instance, one.url) for one in self._replicas.everyone()]
        listed = {service for service, _, _ in live}
        return live + [(service, service, url) for service, url in self._fixed if service not in listed]

    async def _ask_all(self) -> list[State]:
        targets = self._targets()
        states = list(await asyncio.gather(*(self._ask(*target) for target in targets)))
        present = {state.service for state in states}
        states += [State(part, "", False, "no instance is running") for part in PARTS if part not in present]
        states.sort(key=lambda state: (PARTS.index(state.service) if state.service in PARTS else 9, state.instance))
        self._states, self._asked_s = states, self._clock_s()
        return states

    async def _ask(self, service: str, instance: str, url: str) -> State:
        status, body = await self._get(url, "/ready", MAX_STATE_BYTES)
        if status == 200:
            return State(service, instance, True, "")
        return State(service, instance, False, _reason(status, body))

    async def _get(self, url: str, path: str, max_bytes: int) -> tuple[int, bytes]:
        """Status and body; status 0 with the reason as body when there is no answer."""
        if self._session is None:
            raise RuntimeError("the probes are not open")
        try:
            async with self._session.get(url + path) as response:
                body = await response.content.read(max_bytes)
                while len(body) < max_bytes and (more := await response.content.read(max_bytes - len(body))):
                    body += more
                return response.status, body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, f"no answer: {type(error).__name__}".encode()


def _reason(status: int, body: bytes) -> str:
    """Why an instance is not ready, in a few words."""
    if status == 0:
        return body.decode()
    try:
        state: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"answered {status}"
    if not isinstance(state, dict):
        return f"answered {status}"
    words = [f"{name}: {value}" for name, value in state.items() if isinstance(value, str) and value != "ready"]
    return "; ".join(words)[:MAX_REASON] or f"answered {status}"
