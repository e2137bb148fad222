"""Figures of the query service for /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count one query and the time until the block ends."""
        started = time.monotonic()
        outcome = "ok"
        try:
            yield
        except InfluxError as error:
            outcome = error.code
            raise
        except GeneratorExit:
            outcome = "abandoned"
            raise
        except Exception:
            outcome = "internal error"
            raise
        except BaseException:
            outcome = "abandoned"
            raise
        finally:
            self._queries.labels(outcome).inc()
            self._duration.observe(time.monotonic() - started)
