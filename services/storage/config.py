"""Settings of storage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from common.config import ServiceSettings

# Of SQLite's page sizes those that were measured (decision 0004).
PAGE_BYTES = (4096, 8192, 16384, 32768, 65536)


def _check_page_bytes(value: int) -> int:
    if value not in PAGE_BYTES:
        raise ValueError(f"is none of {', '.join(map(str, PAGE_BYTES))}")
    return value


class StorageSettings(ServiceSettings):
    """What storage is told."""

    storage_port: int = Field(8091, ge=0, le=65535, description="Port on which storage listens; 0 = any free one.")
    durability: Literal["durable", "process"] = Field(
        "durable",
        description="durable: an acknowledged write survives a power cut; process: only the death of a process.",
    )
    max_series_per_bucket: int = Field(
        1_000_000, ge=0, description="Series that a bucket may hold; points of further ones are refused. 0 = no limit."
    )
    storage_page_bytes: Annotated[int, AfterValidator(_check_page_bytes)] = Field(
        16384, description="Page size of a new database file."
    )
    storage_wal_bytes: int = Field(
        32 << 20, ge=1 << 20, description="Size of the write-ahead log at which it is written back between two commits."
    )
    storage_reserve_bytes: int = Field(
        64 << 20, ge=0, description="Free disk space under which writes are refused, at most 1/16 of the file system."
    )
    storage_readers: int = Field(3, ge=1, le=64, description="Connections that read.")
    storage_level0_blocks: int = Field(
        20_000, ge=100, description="Blocks that wait for compaction: appends slow down past it, 503 at three times it."
    )
    storage_level0_bytes: int = Field(
        1 << 30,
        ge=1 << 20,
        description="Bytes that wait for compaction: appends slow down past it, 503 at three times.",
    )
    storage_keep_replaced_s: int = Field(
        60, ge=1, description="Seconds for which segments that compaction replaced stay readable."
    )
