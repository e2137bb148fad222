"""Answers as bytes, for the short ways; and what of a fault a client is told, for every way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from common.errors import InfluxError, InternalError
from common.log import get_logger
from services.gateway.dialects import INTERNAL_TEXT

log = get_logger("gateway")
# In the figures: the client went away before its answer.
STATUS_CLIENT_GONE = 499


def render_head(status: int, headers: Mapping[str, str]) -> bytes:
    """The head of an answer that keeps the connection; *headers* say how long the body is."""
    lines = [_status_line(status), *map(": ".join, headers.items()), _date_line(int(time.time()))]
    return "\r\n".join((*lines, "", "")).encode()


def refusal_of(error: BaseException, request_id: str, path: str) -> InfluxError:
    """What a client is told of *error*; faults of our own are logged, and told without their text."""
    if isinstance(error, InfluxError):
        if isinstance(error, InternalError):
            log.error("a request failed", request_id=request_id, path=path, reason=str(error))
        return error
    log.error("a request failed", request_id=request_id, path=path, exc_info=error)
    return InternalError(INTERNAL_TEXT)


@lru_cache(maxsize=100)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"


@lru_cache(maxsize=1)
def _date_line(now_s: int) -> str:
    return f"Date: {formatdate(now_s, usegmt=True)}"
