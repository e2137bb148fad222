"""Figures of the query service for /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common.errors import InfluxError


class Metrics:
    """Counts queries and how long they take; *gauges* are read when asked for."""

    def __init__(self, registry: CollectorRegistry, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._queries = Counter("tidegate_query_requests", "Queries by outcome", ["outcome"], registry=registry)
        self._duration = Histogram(
            "tidegate_query_duration_seconds",
            "From the first step of a query to its last byte",
            registry=registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
        )
        for name, (help, read) in gauges.items():
            Gauge(name, help, registry=registry).set_function(read)

    def measured(self) -> Measurement:
        """A with block: one query, and the time until its end, are counted."""
        return Measurement(self._count)

    def _count(self, outcome: str, seconds: float) -> None:
        self._queries.labels(outcome).inc()
        self._duration.observe(seconds)


class Measurement:
    """Tells *count* how its with block ended, and after how many seconds."""

    __slots__ = ("_count", "_started_s")

    def __init__(self, count: Callable[[str, float], None]) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._started_s = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            outcome = "ok"
        elif isinstance(error, InfluxError):
            outcome = error.code
        else:
            # Whoever is cancelled, or closed as a generator, was left by its reader.
            outcome = "internal error" if isinstance(error, Exception) else "abandoned"
        self._count(outcome, time.monotonic() - self._started_s)
