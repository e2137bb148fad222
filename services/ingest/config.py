"""Settings of the ingest service."""

from __future__ import annotations

import os

from pydantic import Field

from common.config import ServiceSettings


class IngestSettings(ServiceSettings):
    """What ingest is told."""

    ingest_port: int = Field(0, description="Port of ingest; 0 = any free one (the gateway learns it from storage).")
    ingest_threads: int = Field(0, description="Threads that inflate, parse and encode; 0 = one a core.")
    max_v1_body_bytes: int = Field(25_000_000, description="Longest body of /write on the wire.")
    max_v1_inflated_bytes: int = Field(100_000_000, description="Longest body of /write when inflated.")
    max_v2_body_bytes: int = Field(50_000_000, description="Longest body of /api/v2/write on the wire.")
    max_v2_inflated_bytes: int = Field(250_000_000, description="Longest body of /api/v2/write when inflated.")
    known_series_bytes: int = Field(
        64 << 20, description="Memory for the ids of series known to be stored, 16 bytes each."
    )
    append_retry_s: float = Field(5.0, description="How long a commit is tried again while storage can't be reached.")

    @property
    def threads(self) -> int:
        return self.ingest_threads or os.cpu_count() or 1
