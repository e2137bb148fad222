"""The texts of a write that went wrong, put together as InfluxDB does · pure.

Clients match on these words; the spec of /write, sections 4 and 5, holds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

# A text is remembered by storage with its write (64 KiB), and those of one call travel in one head: both have a bound.
# This much holds some hundred bad lines.
MAX_TEXT_BYTES = 60_000
MAX_BATCH_BYTES = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def join_parts(parts: Iterable[str], count: int, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The parts of a text, one a line, as many as fit; then the number of those left out of *count*."""
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part.encode("utf-8", "surrogateescape")) + 1
        if size > max_bytes:
            if not kept:
                # A character takes up to four bytes.
                kept.append(f"{part[: max_bytes // 8]} … {part[-max_bytes // 16 :]}")
            break
        kept.append(part)
    left_out = count - len(kept)
    if left_out > 0:
        kept.append(f"and {left_out} more")
    return "\n".join(kept)


def partial_write(reason: str, dropped: int, bucket_id: str | None = None) -> str:
    """A partial write by its *reason*; with *bucket_id* it ends with the place, as some of InfluxDB's do."""
    where = f" for database: {bucket_id} for retention policy: autogen" if bucket_id is not None else ""
    return f"partial write: {reason} dropped={dropped}{where}"


def store_failure(text: str) -> str:
    return f"failure writing points to database: {text}"


def too_many_series(limit: int) -> str:
    return f"max-series-per-database limit exceeded: ({limit})"


def beyond_retention(
    count: int, retention_ns: int, bound_ns: int, oldest: tuple[str, int], newest: tuple[str, int]
) -> str:
    """*count* points before *bound_ns*; *oldest* and *newest* are the measurement and the time of two of them."""
    bound = f"dropped because it violates a Retention Policy Lower Bound at {format_time(bound_ns)}"
    return (
        f"dropped {count} points outside retention policy of duration {format_duration(retention_ns)} - "
        f"oldest point {oldest[0]} at {format_time(oldest[1])} {bound}, "
        f"newest point {newest[0]} at {format_time(newest[1])} {bound}"
    )


def format_time(time_ns: int) -> str:
    """RFC 3339 in UTC with as many decimals as it takes."""
    seconds, ns = divmod(time_ns, 1_000_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    decimals = f".{ns:09d}".rstrip("0") if ns else ""
    return f"{text.rjust(19, '0')}{decimals}Z"


def format_duration(duration_ns: int) -> str:
    """A length of time of whole seconds or finer as Go prints it, e.g. ``168h0m0s``."""
    seconds, ns = divmod(duration_ns, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    decimals = f".{ns:09d}".rstrip("0") if ns else ""
    text = f"{seconds}{decimals}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
