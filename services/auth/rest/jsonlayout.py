"""JSON answers as InfluxDB lays them out, and its times and durations · pure.

Three layouts: indented by tabs without a last newline; compact with one; compact without. Source: errors, "Body".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

INDENTED, COMPACT = "indented", "compact"
# These stand in strings only, so they can be replaced in the finished text.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
SECOND_NS = 1_000_000_000


def encode(value: Any, layout: str = INDENTED) -> bytes:
    """*value* as JSON, keys in their own order; COMPACT ends with a newline."""
    if layout == INDENTED:
        text = json.dumps(value, ensure_ascii=False, indent="\t")
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def format_time(time_ns: int) -> str:
    """RFC 3339 in UTC with up to 9 digits after the point, zeros at its end cut."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{text}{fraction}Z"
