"""Logs: structlog, one JSON line an event (or console with TIDEGATE_LOG_FORMAT=console), secrets masked in one step."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_WORDS = ("token", "password", "secret", "authorization", "cookie", "signature", "access_token")
_SECRET_KEYS = frozenset((*_SECRET_WORDS, "p", "u"))


def redact(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask every value that stands under a name that may hold a secret."""
    for key in event:
        if key in _SECRET_KEYS or any(word in key for word in _SECRET_WORDS):
            event[key] = "***"
    return event


def configure(service: str, instance: str, level: str = "info", format: str = "json") -> None:
    """Set up logs of this process; called once from ``__main__``. Lines go to standard error."""
    names = {"service": service, "instance": instance, "pid": os.getpid()}

    def name_process(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        # Not a context variable: a thread of a pool has none.
        return {**names, **event}

    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            name_process,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # A line and its end in one write: lines of processes that share a terminal stay whole.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    # A malformed request makes aiohttp log a whole traceback: a lever to flood the log with. Its errors are counted
    # by our own middleware instead.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def get_logger(name: str) -> Any:
    """A logger whose lines carry ``part=name``."""
    return structlog.get_logger(part=name)
