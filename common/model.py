"""The field's words as types: field types, time ranges, shards, ids · pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MIN_TIME_NS = -9223372036854775806
MAX_TIME_NS = 9223372036854775806


class FieldType(IntEnum):
    """Types of field values, in the order of precedence that a query over differing shards follows."""

    FLOAT = 0
    INTEGER = 1
    UNSIGNED = 2
    STRING = 3
    BOOLEAN = 4

    @property
    def word(self) -> str:
        """The name as InfluxDB prints it, e.g. ``float``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Half open: ``start_ns <= t < stop_ns``."""

    start_ns: int
    stop_ns: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """What writing and reading need to know of a bucket.

    ``retention_ns`` 0 means for ever. ``shard_ns`` is the length of a shard, aligned to the epoch.
    """

    id: str
    org_id: str
    name: str
    retention_ns: int
    shard_ns: int


def shard_start(time_ns: int, shard_ns: int) -> int:
    """Start of the shard that holds *time_ns*; aligned to 1970-01-01T00:00:00Z, the first one cut at 64 bits."""
    return max(time_ns - time_ns % shard_ns, -(2**63))


# The id on the wire and in JSON: 16 lower-case hex digits, never all zero.
def format_id(number: int) -> str:
    """64-bit id as 16 hex digits."""
    return f"{number:016x}"
