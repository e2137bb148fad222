"""The supervisor: starts what the Procfile lists, restarts what dies, stops in order.

``python -m services [name=count …]``; ``INGEST=3`` in the environment says the same as ``ingest=3``. It holds the data
folder while it runs, so that a second one says who holds it and exits with 1. Knows process names and exit codes, and
nothing of what the services do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from common.config import CannotStart, ServiceSettings, faults
from common.folder_lock import FolderHeld
from common.log import configure, get_logger
from services.banner import tell_when_ready
from services.hold import hold
from services.procfile import Line, counts_of, parse_procfile

log = get_logger("supervisor")

# A service is stopped when all before it have ended: none loses a service that it still needs.
STOP_ORDER = (("gateway",), ("ingest", "query"), ("auth",), ("storage",))
STOP_WITHIN_S = 14.0
# One that dies again and again is started at most once in so long a time, counted from start to start: one that has
# worked for longer than that is back at once.
FIRST_PAUSE_S, LONGEST_APART_S = 0.1, 2.0
# After so long a life the next death is a new matter.
HEALTHY_AFTER_S = 10.0
# One that ends by itself with status 1 this soon at its first start has been given something that it can't work with.
# On a busy machine it takes seconds until it knows.
HOPELESS_WITHIN_S = 15.0
_PR_SET_PDEATHSIG = 1


class SupervisorSettings(ServiceSettings):
    """What the supervisor is told beside the counts."""

    port: int = Field(8086, ge=0, le=65535, description="Port of the gateway, for the banner.")


@dataclass(slots=True)
class Process:
    """One line of the Procfile, one of its replicas."""

    line: Line
    number: int
    child: asyncio.subprocess.Process | None = None
    stopping: bool = field(default=False)

    @property
    def label(self) -> str:
        return f"{self.line.name}.{self.number}"


def next_pause(apart_s: float, lived_s: float) -> tuple[float, float]:
    """How long to wait before one that has died is started again.

    Args:
        apart_s: seconds from start to start at its last death, FIRST_PAUSE_S if there was none.
        lived_s: seconds from its start to its death.

    Returns:
        *apart_s* of its next death, and the seconds to wait now.
    """
    apart_s = FIRST_PAUSE_S if lived_s > HEALTHY_AFTER_S else min(apart_s * 2, LONGEST_APART_S)
    return apart_s, round(max(FIRST_PAUSE_S, apart_s - lived_s), 2)


class Hopeless(Exception):
    """A service can't start at all; the message names it."""


class Supervisor:
    """Keeps the processes of *lines* alive.

    Args:
        lines: what to run, in order of starting.
        counts: replicas by name; 1 where nothing is said.
    """

    def __init__(self, lines: Sequence[Line], counts: Mapping[str, int], environment: Mapping[str, str]) -> None:
        self._processes = [Process(line, number + 1) for line in lines for number in range(counts.get(line.name, 1))]
        # The interpreter that runs us comes first, so that "python" in the Procfile is this one.
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
        self._environment = {**environment, "PATH": path}

    async def run(self, stop: asyncio.Event) -> None:
        """Run until *stop* is set, then stop all in order. Raises Hopeless when a service can't start at all."""
        keepers = [asyncio.create_task(self._keep(process)) for process in self._processes]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*keepers, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            await self._stop_all()
            for keeper in keepers:
                keeper.cancel()
        for task in done:
            if task is not stopped:
                task.result()

    async def _keep(self, process: Process) -> None:
        apart_s = FIRST_PAUSE_S
        first = True
        while not process.stopping:
            started = time.monotonic()
            process.child = await self._start(process)
            status = await process.child.wait()
            if process.stopping:
                return
            lived_s = time.monotonic() - started
            if first and status == 1 and lived_s < HOPELESS_WITHIN_S:
                raise Hopeless(process.label)
            first = False
            apart_s, pause_s = next_pause(apart_s, lived_s)
            log.warning("a service ended, starting it again", process=process.label, status=status, pause_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _start(self, process: Process) -> asyncio.subprocess.Process:
        # A group of its own: Ctrl-C reaches the supervisor alone, which then stops in order.
        return await asyncio.create_subprocess_shell(
            process.line.command,
            env={**self._environment, "TIDEGATE_INSTANCE": process.label},
            process_group=0,
            preexec_fn=_die_with_parent,
        )

    async def _stop_all(self) -> None:
        deadline = time.monotonic() + STOP_WITHIN_S
        for process in self._processes:
            process.stopping = True
        known = {name for group in STOP_ORDER for name in group}
        others = tuple({process.line.name for process in self._processes} - known)
        for group in (others, *STOP_ORDER):
            await self._stop(group, deadline)

    async def _stop(self, names: Sequence[str], deadline: float) -> None:
        children = [
            process.child
            for process in self._processes
            if process.line.name in names and process.child is not None and process.child.returncode is None
        ]
        for child in children:
            child.terminate()
        if not children:
            return
        # Each later group keeps at least half a second of the time.
        left_s = max(0.5, deadline - time.monotonic() - 0.5 * (len(STOP_ORDER) - 1))
        _, late = await asyncio.wait([asyncio.create_task(child.wait()) for child in children], timeout=left_s)
        if late:
            log.error("killing what did not stop in time", services=list(names), count=len(late))
            for child in children:
                if child.returncode is None:
                    os.killpg(child.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    """In the child: get SIGTERM if the supervisor dies, so that no service is left alone (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def supervise(arguments: Sequence[str], port: int) -> int:
    """Run everything; the exit status."""
    lines = parse_procfile(find_procfile().read_text())
    counts = counts_of(lines, arguments, os.environ)
    supervisor = Supervisor(lines, counts, os.environ)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    told = asyncio.create_task(tell_when_ready(port))
    try:
        await supervisor.run(stop)
    except Hopeless as error:
        print(f"tidegate: {error} can't start: see its last lines above", file=sys.stderr)
        return 1
    finally:
        told.cancel()
    return 0


def find_procfile() -> Path:
    """The Procfile of the working directory, else the one beside the packages."""
    here = Path("Procfile")
    return here if here.exists() else Path(__file__).parent.parent / "Procfile"


def main() -> int:
    try:
        settings = SupervisorSettings()
        configure("supervisor", "supervisor", settings.log_level, settings.log_format)
        with hold(settings.data):
            return asyncio.run(supervise(sys.argv[1:], settings.port))
    except ValidationError as error:
        for line in faults(error, SupervisorSettings):
            print(f"tidegate: can't start: {line}", file=sys.stderr)
        return 1
    except FolderHeld as error:
        print(f"tidegate: {error}: stop that one first", file=sys.stderr)
        return 1
    except CannotStart as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
