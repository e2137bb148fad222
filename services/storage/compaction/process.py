"""The child process that merges, seen from storage: started, asked and ended here. Its own side is ``compactor.py``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import BinaryIO, cast

from common.errors import InfluxError
from common.log import get_logger
from common.rpc import wire
from services.storage.compaction.compactor import read_block, read_message, write_block, write_message
from services.storage.compaction.sources import Source
from services.storage.reading.segments import NewSegment

log = get_logger("storage.compaction")

PRIVATE = ("TIDEGATE_", "DOCKER_", "INFLUXDB_")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")


class CompactorFailed(Exception):
    """The child process died."""


class CompactorProcess:
    """The child, started when it is needed. Its calls block: they are made in a thread, one at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, merges: Sequence[Sequence[Source]], max_rows: int) -> list[list[NewSegment] | str]:
        """Let the child merge.

        Args:
            merges: the sources of each, in the order in which they win.
            max_rows: most rows of a result.

        Returns:
            The results of each merge, or why it failed.
        Raises:
            CompactorFailed: it has died.
        """
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        try:
            return _ask(cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout), merges, max_rows)
        except (OSError, EOFError, ValueError, InfluxError) as error:
            self.end()
            raise CompactorFailed(f"the compactor process ended with {process.returncode}") from error

    def _start(self) -> subprocess.Popen[bytes]:
        # No keys and passwords for it.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
        # A session of its own: a Ctrl-C at the terminal is for storage, which ends it in its turn.
        return subprocess.Popen(
            [sys.executable, "-m", "services.storage.compaction.compactor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**kept, **dict.fromkeys(THREADS, "1")},
            start_new_session=True,
        )

    @property
    def pid(self) -> int | None:
        """Of the running child."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def kill(self) -> None:
        """Make a call that is under way fail at once. It has nothing to lose."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill it and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        log.debug("the compactor's pipe was broken")
            self._process = None


def _ask(
    stdin: BinaryIO, stdout: BinaryIO, merges: Sequence[Sequence[Source]], max_rows: int
) -> list[list[NewSegment] | str]:
    write_message(stdin, wire.encode_head([[max_rows, len(sources)] for sources in merges]))
    for sources in merges:
        for meta, chunks in sources:
            write_block(stdin, meta, chunks)
    stdin.flush()
    return [
        outcome if isinstance(outcome, str) else [NewSegment(*read_block(stdout)) for _ in range(outcome)]
        for outcome in read_message(stdout)
    ]
