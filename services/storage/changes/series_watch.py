"""Says once when a bucket comes near the number of series that it may hold, before points are refused."""

from __future__ import annotations

from common.log import get_logger
from services.storage.state.state import State

log = get_logger("storage.series")
# Part of the limit at which it is said, and that under which it may be said again.
WARN_AT = 0.8
FORGET_AT = 0.75


class SeriesWatch:
    """Buckets near their limit.

    Args:
        limit: series that a bucket may hold; 0 = no limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.near: set[str] = set()

    def look(self, state: State) -> None:
        """Compare all buckets with the limit; a line in the log for each that has come near it."""
        if not self.limit:
            return
        self.near &= state.contents.keys()
        for bucket_id, contents in state.contents.items():
            count = contents.series_count
            if count >= WARN_AT * self.limit and bucket_id not in self.near:
                self.near.add(bucket_id)
                log.warning(
                    "a bucket comes near the series that it may hold; points of further ones will be refused",
                    bucket=bucket_id,
                    series=count,
                    limit=self.limit,
                    setting="TIDEGATE_MAX_SERIES_PER_BUCKET",
                    largest=max(contents.measurements.values(), key=lambda each: each.series.count).name,
                )
            elif count < FORGET_AT * self.limit:
                self.near.discard(bucket_id)
