"""Figures of the gateway itself. Labels are bounded: ids in paths become ``:id``, unknown words ``:other``.

Source: spec of the small endpoints, ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common.budget import Budget
from common.errors import Unavailable

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
# Words that stand for themselves in the label of a path.
WORDS = frozenset(
    (
        "api", "v2", "private", "legacy", "v1", "write", "query", "delete", "ping", "health", "ready", "metrics",
        "authorizations", "buckets", "orgs", "users", "me", "labels", "dbrps", "members", "owners", "secrets",
        "password", "setup", "signin", "signout", "variables", "telegrafs", "resources", "flags", "config",
        "swagger.json", "permissions", "plugins", "telegraf", "ast", "analyze", "suggestions", "logs",
    )
)  # fmt: skip
MAX_DEPTH = 7
# First letters of a User-Agent → label.
AGENTS = (
    "Telegraf", "Grafana", "influxdb-client-python", "influxdb-client-js", "influxdb-client-go", "influxdb-client-java",
    "influxdb-client-csharp", "influx", "InfluxDBShell", "InfluxDBClient", "python-requests", "curl", "Chronograf",
    "Mozilla", "Go-http-client", "Prometheus",
)  # fmt: skip
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Combinations of labels beyond this many are counted under one.
MAX_SERIES = 2000


def path_label(path: str) -> str:
    """*path* with what a client may choose taken out."""
    words = [word for word in path.split("/") if word]
    if not words or words[0] not in WORDS:
        return ":other"
    labels = [word if word in WORDS else ":id" for word in words[:MAX_DEPTH]]
    return "/" + "/".join(labels)


def agent_label(user_agent: str) -> str:
    """Which of the known clients that is."""
    return next((agent for agent in AGENTS if user_agent.startswith(agent)), "other" if user_agent else "unknown")


class Meter:
    """The counters; made once."""

    def __init__(self, registry: CollectorRegistry, budget: Budget) -> None:
        names = ("handler", "method", "path", "status", "user_agent", "response_code")
        self._requests = Counter("http_api_requests", "Requests", names, registry=registry)
        self._seconds = Histogram(
            "http_api_request_duration_seconds", "Time to answer a request", names, buckets=BUCKETS, registry=registry
        )
        self._children: dict[tuple[str, ...], tuple[Counter, Histogram]] = {}
        self._known: set[tuple[str, ...]] = set()
        self.connections = Gauge("tidegate_gateway_connections", "Open client connections", registry=registry)
        self.refused_connections = Counter(
            "tidegate_gateway_refused_connections", "Connections over the limit", registry=registry
        )
        self.cut_connections = Counter(
            "tidegate_gateway_cut_connections", "Connections ended at a deadline", ("phase",), registry=registry
        )
        self.bad_requests = Counter("tidegate_gateway_bad_requests", "Requests that are no HTTP", registry=registry)
        self.answer_bytes = Counter("tidegate_gateway_answer_bytes", "Bytes of query answers", registry=registry)
        self.batch_writes = Histogram(
            "tidegate_gateway_batch_writes",
            "Client writes in one call to ingest",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.queries = Gauge("tidegate_gateway_queries", "Queries under way", registry=registry)
        self._queries = 0
        used = Gauge("tidegate_memory_used_bytes", "Bytes taken from the budget", registry=registry)
        used.set_function(lambda: budget.used_bytes)
        limit = Gauge("tidegate_memory_limit_bytes", "The byte budget", registry=registry)
        limit.set(budget.limit_bytes)

    def request(self, method: str, path: str, status: int, user_agent: str, seconds: float) -> None:
        """Count one request."""
        method = method if method in METHODS else "OTHER"
        # Keyed by what comes in, so that a known combination costs two look-ups.
        key = (method, path, str(status), user_agent)
        children = self._children.get(key)
        if children is None:
            label = path_label(path)
            code = str(status)
            labels = ("platform", method, label, f"{code[0]}XX", agent_label(user_agent), code)
            if labels not in self._known:
                if len(self._known) >= MAX_SERIES:
                    labels = ("platform", "OTHER", ":other", f"{code[0]}XX", "other", code)
                self._known.add(labels)
            children = (self._requests.labels(*labels), self._seconds.labels(*labels))
            if len(self._children) < MAX_SERIES:
                self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    @contextmanager
    def query_slot(self, most: int) -> Iterator[None]:
        """Hold a place among the queries under way. Raises Unavailable when there is none."""
        if self._queries >= most:
            raise Unavailable(f"too many queries: TIDEGATE_MAX_QUERIES is {most}")
        self._queries += 1
        self.queries.set(self._queries)
        try:
            yield
        finally:
            self._queries -= 1
            self.queries.set(self._queries)
