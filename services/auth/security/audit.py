"""The audit log: one JSON line for each security event: when, what, who, from where, with what result; no secret.

Of many failures of one kind from one address the first of each minute have lines, and one line says how many more there
were.

``record`` never waits; a task writes what has gathered, off the loop. The file is bounded: at its size it is put aside
as ``.1``, and of older ones four stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from common.log import get_logger
from services.auth.security.repeats import Repeats

log = get_logger("audit")
STDERR, OFF = "stderr", "off"
MAX_PENDING = 10_000
MAX_TEXT = 256
OLD_FILES = 4
# A token or cookie that its user took for a user name, or a 1.x token: 86 characters of base64, or two dots.
SECRET = re.compile(r"[A-Za-z0-9_-]{80,}={0,2}|[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{40,}")
WRITE_EVERY_S = 0.1
SUM_UP_EVERY_S = 10.0
# The result of what was done; that of anything else is the code of its error.
OK = "ok"


class Audit:
    """Takes events and writes them.

    Args:
        target: path of a file, ``stderr`` or ``off``.
        max_bytes: size at which the file is put aside.
        clock_s: monotonic seconds.
    """

    def __init__(
        self, target: str = OFF, max_bytes: int = 16 << 20, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._target = target
        self._max_bytes = max_bytes
        self._pending: list[bytes] = []
        self._lost = 0
        self._woken = asyncio.Event()
        self._repeats = Repeats(clock_s)

    def record(self, event: str, result: str, **facts: Any) -> None:
        """One event; facts that are None or empty are left out, long texts are cut."""
        if self._target == OFF:
            return
        if result != OK and not self._repeats.is_told(event, str(facts.get("remote", ""))):
            return
        if len(self._pending) >= MAX_PENDING:
            self._lost += 1
            return
        self._pending.append(_line(event, result, facts))
        self._woken.set()

    async def run(self) -> None:
        """Write what comes, until cancelled; then the rest."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SUM_UP_EVERY_S):
                        await self._woken.wait()
                self._woken.clear()
                await asyncio.to_thread(self._write)
                await asyncio.sleep(WRITE_EVERY_S)
        finally:
            self._write()

    def _write(self) -> None:
        lines, self._pending = self._pending, []
        for event, remote, count in self._repeats.take_ended():
            lines.append(_line(event, "repeated", {"remote": remote, "events": count}))
        lost, self._lost = self._lost, 0
        if lost:
            lines.append(_line("audit.lost", "error", {"events": lost}))
        if not lines:
            return
        try:
            if self._target == STDERR:
                sys.stderr.buffer.write(b"".join(lines))
                sys.stderr.buffer.flush()
            else:
                self._append(Path(self._target), b"".join(lines))
        except OSError as error:
            self._lost += len(lines)
            log.error("cannot write the audit log", path=self._target, reason=str(error))

    def _append(self, path: Path, text: bytes) -> None:
        """In one write, so that lines of other processes stay whole."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, text)
            is_full = os.fstat(descriptor).st_size >= self._max_bytes
        finally:
            os.close(descriptor)
        if is_full:
            _put_aside(path)


def _put_aside(path: Path) -> None:
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, OLD_FILES + 1))]
    for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
        if newer.exists():
            newer.replace(older)


def _line(event: str, result: str, facts: dict[str, Any]) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {name: _short(value) for name, value in facts.items() if value not in (None, "")}
    # Lone surrogates, which names may hold, are no UTF-8.
    return orjson.dumps({"time": now, "event": event, "result": result, **told}) + b"\n"


def _short(value: Any) -> Any:
    if isinstance(value, str):
        value = SECRET.sub("***", value[: 2 * MAX_TEXT])
        return value[:MAX_TEXT].encode("utf-8", "replace").decode()
    return value
