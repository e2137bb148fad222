"""What ingest counts of its work."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common.budget import Budget
from services.ingest.known_series import KnownSeries

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The figures of one ingest, as /metrics shows them."""

    def __init__(self, registry: CollectorRegistry, budget: Budget, series: KnownSeries) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tidegate_ingest_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"tidegate_ingest_{name}", text, registry=registry, buckets=_SECONDS)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"tidegate_ingest_{name}", text, registry=registry)

        self.writes = counter("writes", "Writes by result: ok, or the code of the error", "result")
        self.points = counter("points", "Points stored, dropped, or lines that do not parse", "result")
        self.bytes = counter("body_bytes", "Bytes of bodies, inflated")
        self.rounds = counter("append_rounds", "Commits sent to storage, by its answer", "answer")
        self.parse_seconds = histogram("parse_seconds", "Parsing and grouping the bodies of one call")
        self.build_seconds = histogram("build_seconds", "Building and encoding one commit")
        self.append_seconds = histogram("append_seconds", "Time until storage has answered one commit")
        gauge("budget_bytes", "Memory that bodies may take").set(budget.limit_bytes)
        gauge("budget_used_bytes", "Memory that bodies take").set_function(lambda: budget.used_bytes)
        gauge("known_series", "Series known to be stored").set_function(lambda: len(series))
