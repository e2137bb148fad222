"""Figures of storage for /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.storage.changes.series_watch import SeriesWatch
from services.storage.state.state import State

FSYNC_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
GROUP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters that the parts of storage tell, and gauges that are read from the state when somebody asks."""

    def __init__(self, registry: CollectorRegistry, engine: str) -> None:
        self.appends = Counter("tidegate_storage_appends", "Appends by outcome", ["outcome"], registry=registry)
        self.rows = Counter("tidegate_storage_rows", "Rows stored", registry=registry)
        self.bytes = Counter("tidegate_storage_append_bytes", "Bytes of blocks stored", registry=registry)
        self.commit_seconds = Histogram(
            "tidegate_storage_commit_seconds",
            "Time of a COMMIT, its sync to disk included",
            buckets=FSYNC_BUCKETS_S,
            registry=registry,
        )
        self.checkpoint_seconds = Histogram(
            "tidegate_storage_checkpoint_seconds",
            "Time in which the log was written back, commits waiting",
            buckets=FSYNC_BUCKETS_S,
            registry=registry,
        )
        self.group_jobs = Histogram(
            "tidegate_storage_group_jobs", "Changes in one transaction", buckets=GROUP_BUCKETS, registry=registry
        )
        Info("tidegate_storage_sqlite", "The SQLite library", registry=registry).info({"version": engine})

    def observe_group(self, jobs: int, _size: int) -> None:
        self.group_jobs.observe(jobs)


class StateCollector(Collector):
    """Gauges of the state."""

    def __init__(self, state: Callable[[], State], watch: SeriesWatch, others: Callable[[], dict[str, float]]) -> None:
        self._state = state
        self._watch = watch
        self._others = others

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        levels = GaugeMetricFamily("tidegate_storage_segments", "Segments that are planned with", labels=["level"])
        sizes = GaugeMetricFamily("tidegate_storage_segment_bytes", "Their bytes", labels=["level"])
        counts: dict[int, list[int]] = {}
        for segment in state.segments():
            count = counts.setdefault(segment.level, [0, 0])
            count[0] += 1
            count[1] += segment.size
        for level, (count_, size) in sorted(counts.items()):
            levels.add_metric([str(level)], count_)
            sizes.add_metric([str(level)], size)
        yield levels
        yield sizes
        series = GaugeMetricFamily("tidegate_storage_bucket_series", "Series by bucket", labels=["bucket"])
        near = GaugeMetricFamily(
            "tidegate_storage_bucket_series_near_limit", "1 = at 80 % of the series it may hold", labels=["bucket"]
        )
        self._watch.look(state)
        for bucket_id, contents in state.contents.items():
            series.add_metric([bucket_id], contents.series_count)
            near.add_metric([bucket_id], float(bucket_id in self._watch.near))
        yield series
        yield near
        gauges = {
            "max_series_per_bucket": self._watch.limit,
            "measurements": len(state.by_id),
            "commits": len(state.commits),
            "retired_segments": len(state.retired),
            "quarantined_segments": len(state.quarantined),
            "damages": len(state.damage),
            "dropped_measurements": len(state.dropped),
            "number": state.number,
            **self._others(),
        }
        for name, value in gauges.items():
            yield GaugeMetricFamily(f"tidegate_storage_{name}", name.replace("_", " ").capitalize(), value=value)
