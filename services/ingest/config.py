"""Settings of the ingest service."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pydantic import Field

from common.config import ServiceSettings


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Bounds on the body of one dialect's writes, and the settings that hold them."""

    wire_bytes: int
    wire_setting: str
    inflated_bytes: int
    inflated_setting: str


class IngestSettings(ServiceSettings):
    """What ingest is told."""

    ingest_port: int = Field(0, description="Port of ingest; 0 = any free one (the gateway learns it from storage).")
    ingest_threads: int = Field(0, description="Threads that inflate, parse and encode; 0 = one a core.")
    write_max_body_bytes: int = Field(25_000_000, description="Longest body of /write, as sent.")
    write_max_inflated_bytes: int = Field(100_000_000, description="Longest body of /write when inflated.")
    write_v2_max_body_bytes: int = Field(50_000_000, description="Longest body of /api/v2/write, as sent.")
    write_v2_max_inflated_bytes: int = Field(250_000_000, description="Longest body of /api/v2/write when inflated.")
    known_series_bytes: int = Field(64 << 20, description="Memory of ingest for ids of stored series, 16 bytes each.")
    append_retry_s: float = Field(5.0, description="How long a commit is tried again while storage does not take it.")
    append_timeout_s: float = Field(10.0, description="How long storage may take to answer one commit.")

    @property
    def threads(self) -> int:
        return self.ingest_threads or os.cpu_count() or 1

    def body_limit(self, dialect: str) -> BodyLimit:
        if dialect == "v1":
            return BodyLimit(
                self.write_max_body_bytes, "TIDEGATE_WRITE_MAX_BODY_BYTES",
                self.write_max_inflated_bytes, "TIDEGATE_WRITE_MAX_INFLATED_BYTES",
            )  # fmt: skip
        return BodyLimit(
            self.write_v2_max_body_bytes, "TIDEGATE_WRITE_V2_MAX_BODY_BYTES",
            self.write_v2_max_inflated_bytes, "TIDEGATE_WRITE_V2_MAX_INFLATED_BYTES",
        )  # fmt: skip
