"""Settings of the gateway."""

from __future__ import annotations

from pydantic import Field

from common.config import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway is told."""

    host: str = Field("0.0.0.0", description="Address on which the public HTTP API listens.")  # noqa: S104
    port: int = Field(8086, ge=0, le=65535, description="Port of the public HTTP API; 0 = any free one.")
    max_connections: int = Field(
        20_000,
        description="Open client connections; one more is answered 503. Fewer where the system bounds open files.",
    )
    max_header_bytes: int = Field(65_536, description="Longest request line and longest header of a request.")
    header_timeout_s: float = Field(10.0, description="Time within which the head of a request must be there.")
    body_timeout_s: float = Field(20.0, description="Time within which a body must go on by at least 1 KiB.")
    idle_timeout_s: float = Field(180.0, description="Time after which an idle connection is closed.")
    send_timeout_s: float = Field(60.0, description="Time within which a client must take a piece of an answer.")
    max_v1_body_bytes: int = Field(25_000_000, description="Longest body of /write, as sent.")
    max_v2_body_bytes: int = Field(50_000_000, description="Longest body of /api/v2/write, as sent.")
    query_max_body_bytes: int = Field(10 << 20, description="Longest body of /query, as sent and inflated.")
    rest_max_body_bytes: int = Field(
        4 << 20,
        ge=1024,
        le=16 << 20,
        description="Longest body of the resource API and of /api/v2/delete; past it 413.",
    )
    write_timeout_s: float = Field(
        10.0,
        description="How long a write may wait for an ingest that takes it, retries included; "
        "also how long one answer of ingest to small writes may take.",
    )
    stream_timeout_s: float = Field(
        60.0, description="How long an ingest may take to go on with, and then to answer, a large write."
    )
    query_timeout_s: float = Field(
        330.0, description="How long a query may send nothing; queries have limits of their own below it."
    )
    max_queries: int = Field(
        512, description="Queries under way at one time in this gateway; one more is answered 503."
    )
    write_queue: int = Field(20_000, description="Small writes that may wait at one time; one more is answered 503.")
    write_calls: int = Field(3, ge=1, le=16, description="Calls with small writes under way to each ingest.")
    write_streams: int = Field(16, ge=1, description="Large writes under way to each ingest; others wait their turn.")
    identity_cache: int = Field(20_000, description="Verified credentials that are remembered.")
    access_log: str = Field(
        "off",
        pattern="^(off|errors|all)$",
        description="off, errors (status 500 and up) or all: one log line a request, secrets masked.",
    )
    metrics: bool = Field(True, description="Whether /metrics is served.")
    trusted_proxies: str = Field(
        "", description="Addresses or networks, comma-separated, whose X-Forwarded-For is believed."
    )
