"""``/ping``, ``/health``, ``/ready``, ``/metrics`` and what is not served.

Source: spec of the small endpoints; spec of errors, section 3.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from common.errors import Forbidden
from common.web import STARTED_NS
from services.gateway.exchange import INFLUX_VERSION, STANDARD, Exchange
from services.gateway.gateway import Gateway, Handle
from services.gateway.status import State

JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
PING_ALLOW = "GET, HEAD, OPTIONS"
NOT_FOUND = b"404 page not found\n"


async def ping(_gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    method = exchange.request.method
    if method == "OPTIONS":
        return exchange.answer(200, None, {"Allow": PING_ALLOW})
    if method not in ("GET", "HEAD"):
        return exchange.answer(405, b"Method Not Allowed\n", {**TEXT, "Allow": PING_ALLOW})
    return exchange.answer(204)


async def health(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    """The gateway answers, so this is 200; the text says which part is not well, if one is."""
    bad = [state for state in await gateway.probes.states() if not state.ready]
    checks = [{"name": _name(state), "status": "fail", "message": state.reason} for state in bad]
    state = {
        "name": "influxdb",
        "message": "; ".join(f"{check['name']}: {check['message']}" for check in checks)
        or "ready for queries and writes",
        "status": "fail" if bad else "pass",
        "checks": checks,
        "version": INFLUX_VERSION,
        "commit": f"tidegate-{STANDARD['X-Tidegate-Version']}",
    }
    return exchange.answer(200, orjson.dumps(state) + b"\n", JSON)


async def ready(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    """200 once every service has an instance that is ready; else 503 with the reasons."""
    services: dict[str, dict[str, str]] = {"gateway": {"gateway": "ready"}}
    well = {"gateway"}
    states = await gateway.probes.states()
    for state in states:
        services.setdefault(state.service, {})[state.instance or state.service] = state.reason or "ready"
        if state.ready:
            well.add(state.service)
    whole = well.issuperset(services)
    body = {
        "status": "ready" if whole else "not ready",
        "started": datetime.fromtimestamp(STARTED_NS / 1e9, UTC).isoformat().replace("+00:00", "Z"),
        "up": format_up(time.time_ns() - STARTED_NS),
        "services": services,
    }
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2)
    # Go's indentation there is four blanks, orjson's two.
    lines = [b" " * (len(line) - len(line.lstrip())) + line for line in text.splitlines()]
    more = JSON if whole else {**JSON, "Retry-After": "1"}
    return exchange.answer(200 if whole else 503, b"\n".join(lines), more)


def metrics_of(registry: CollectorRegistry) -> Handle:
    """The handler of ``/metrics``: of the whole."""

    async def metrics(gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
        if not gateway.config.metrics:
            raise Forbidden("metrics disabled")
        page = await gateway.probes.metrics(generate_latest(registry).decode())
        return exchange.answer(200, page.encode(), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    return metrics


async def missing(_gateway: Gateway, exchange: Exchange) -> web.StreamResponse:
    return exchange.answer(404, NOT_FOUND, {**TEXT, "X-Content-Type-Options": "nosniff"})


def format_up(up_ns: int) -> str:
    """A duration as Go prints it, e.g. ``1h2m3.5s``."""
    if up_ns < 1_000_000_000:
        return f"{max(0, up_ns) / 1e6:.6f}".rstrip("0").rstrip(".") + "ms"
    seconds, fraction = divmod(up_ns, 1_000_000_000)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    text = f"{seconds}.{fraction:09d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _name(state: State) -> str:
    return state.instance or state.service
