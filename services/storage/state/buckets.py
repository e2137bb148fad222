"""What storage reads of a bucket's record, which is auth's otherwise · pure."""

from __future__ import annotations

from common.errors import Invalid
from common.rpc import wire


def retention_of(body: bytes) -> int:
    """Retention in ns of a bucket's record; 0 = for ever, also where the record is damaged: nothing is dropped then."""
    try:
        retention_ns = wire.decode_head(body)["retention_ns"]
    except (Invalid, KeyError, TypeError):
        return 0
    return retention_ns if isinstance(retention_ns, int) and retention_ns > 0 else 0
