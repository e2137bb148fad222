"""One log line a request, where it is asked for. Of a query string only harmless values are written."""

from __future__ import annotations

from common.log import get_logger
from services.gateway.exchange import Exchange

log = get_logger("access")
# The text of a query may hold a password (CREATE USER … WITH PASSWORD …), so q is not among them.
SHOWN = frozenset(("db", "rp", "org", "orgID", "bucket", "precision", "epoch", "chunked", "consistency"))
MAX_VALUE = 64
MAX_PARAMETERS = 16


def log_request(level: str, exchange: Exchange, status: int, seconds: float) -> None:
    """Log one request; *level* is off, errors or all."""
    if level == "off" or (level == "errors" and status < 500):
        return
    log.info(
        "request",
        method=exchange.request.method,
        path=exchange.path[:200],
        query=masked(exchange.pairs),
        status=status,
        ms=round(seconds * 1000, 2),
        remote=exchange.remote,
        org=exchange.org_id,
        request_id=exchange.request_id,
        agent=exchange.request.headers.get("User-Agent", "")[:100],
    )


def masked(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The parameters as they may be logged."""
    shown = {}
    for name, value in pairs[:MAX_PARAMETERS]:
        shown[name[:MAX_VALUE]] = value[:MAX_VALUE] if name in SHOWN else "***"
    return shown
