"""Settings of the query service."""

from __future__ import annotations

import os

from pydantic import Field

from common.config import ServiceSettings


class QuerySettings(ServiceSettings):
    """What query is told."""

    query_port: int = Field(0, description="Port of query; 0 = any free one (the gateway learns it from storage).")
    query_timeout_s: float = Field(300.0, gt=0, description="Longest time that one query may take.")
    query_concurrency: int = Field(0, ge=0, description="Queries that run at a time; 0 = four a core, at least 8.")
    query_queue: int = Field(1_000, ge=0, description="Queries that may wait for their turn; more are told 503.")
    query_wait_s: float = Field(10.0, gt=0, description="Longest wait for a turn; then 503.")
    query_max_points: int = Field(0, ge=0, description="Most points a SELECT may read (max-select-point); 0 = any.")
    query_max_series: int = Field(0, ge=0, description="Most series of one SELECT (max-select-series); 0 = any.")
    query_max_buckets: int = Field(
        0, ge=0, description="Most windows of GROUP BY time() in one SELECT (max-select-buckets); 0 = any."
    )
    query_max_rows: int = Field(
        0, ge=0, description="Most rows of an answer that is not chunked; past it: partial; 0 = any."
    )
    query_token_s: float = Field(
        0.0, ge=0, description="Seconds for which the queries of one token may run in a minute; then 429; 0 = any."
    )
    query_slow_s: float = Field(0.0, ge=0, description="Queries that take longer are logged, no secrets; 0 = none.")
    query_max_chars: int = Field(1 << 20, gt=0, description="Longest text of the parameters q and params.")

    v1_admin: bool = Field(
        True,
        description="Whether statements of 1.x administration (CREATE DATABASE, CREATE USER, GRANT, ...) work; "
        "off = InfluxDB 2's refusals.",
    )

    @property
    def concurrency(self) -> int:
        return self.query_concurrency or max(8, 4 * (os.cpu_count() or 1))
