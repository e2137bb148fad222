"""The servers that are compared: each is started on free ports with a folder of its own and talked to over HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.bench import workload
from tests.bench.logins import FORMS, JWT_SECRET, TOKEN, Login
from tests.stack import ROOT, Stack, free_port

READY_WITHIN_S = 60.0


class Server(ABC):
    """One server under test. ``start`` and ``stop`` go round one turn."""

    name: str
    credentials: frozenset[str] = frozenset((TOKEN,))
    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: psutil.Process | None = None

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def halt(self) -> None:
        """Stop it and leave its data, so that ``start`` finds them again."""

    def stop(self) -> None:
        """Stop it for good."""
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def make_database(self, name: str) -> None: ...

    @abstractmethod
    def count(self, database: str, measurement: str = "cpu") -> int:
        """Points of *measurement* that are stored in *database*, by the first of the fields that all loads have."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def target(self, database: str) -> str:
        return f"/write?db={database}"

    def processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)] if self.process is not None else []

    def login(self, credential: str, database: str, count: int) -> Login:
        """How writers of *database* say who they are, with *count* different credentials where each is new.

        Raises KeyError for a form that is not one of ``credentials``.
        """
        return {TOKEN: Login()}[credential]

    def cpu_by_process(self) -> dict[str, float]:
        """CPU seconds so far of its processes by name, those that have ended included."""
        spent: dict[str, float] = {}
        for process in self.processes():
            try:
                times, words = process.cpu_times(), process.cmdline()
            except psutil.NoSuchProcess:
                continue
            name = next((word.partition(".")[2] for word in words if word.startswith("services.")), self.name)
            ended_s = times.children_user + times.children_system
            spent[name] = spent.get(name, 0) + times.user + times.system + ended_s
        return spent

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(self.cpu_by_process().values())

    def memory_bytes(self) -> int:
        """Memory of all its processes, shared pages counted once."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total

    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _run(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self._child = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
            )
        self.process = psutil.Process(self._child.pid)

    def _end(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self.process = None

    def _wait_for(self, path: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._child.returncode}; see {self.folder}.log")
            try:
                if requests.get(self.url + path, timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} was not ready in {READY_WITHIN_S} s")


class Tidegate(Server):
    """The five services under the supervisor, durable commits (the default)."""

    name = "tidegate"
    credentials = frozenset(FORMS)

    _stack: Stack | None = None

    def start(self) -> None:
        self._stack = self._stack or Stack(self.folder, {"TIDEGATE_JWT_SECRET": JWT_SECRET})
        self._stack.start()
        self.port = self._stack.port
        self.headers = {"Authorization": f"Token {self._stack.token}"}
        assert self._stack.process is not None
        self.process = psutil.Process(self._stack.process.pid)

    def halt(self) -> None:
        assert self._stack is not None
        self._stack.stop()
        self.process = None

    def make_database(self, name: str) -> None:
        assert self._stack is not None
        self._stack.make_bucket(name)

    def login(self, credential: str, database: str, count: int) -> Login:
        assert self._stack is not None
        return FORMS[credential](self._stack, database, count)

    def count(self, database: str, measurement: str = "cpu") -> int:
        assert self._stack is not None
        rows = self._stack.rows(f"SELECT count({workload.FIELDS[0]}) FROM {measurement}", database)
        return int(rows[0][1]) if rows else 0


_INFLUX_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc_port}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  max-series-per-database = 0
  max-values-per-tag = 0
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[logging]
  level = "warn"
[monitor]
  store-enabled = false
"""


class Influx(Server):
    """InfluxDB 1.6.7 as Debian packs it, with its own defaults but for the limits that would drop points."""

    name = "influxdb-1.6.7"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "influxdb.conf"
        config.write_text(_INFLUX_CONFIG.format(folder=self.folder, port=self.port, rpc_port=free_port()))
        self._run(["influxd", "-config", str(config)])
        self._wait_for("/ping")

    def halt(self) -> None:
        self._end()

    def make_database(self, name: str) -> None:
        requests.post(self.url + "/query", params={"q": f'CREATE DATABASE "{name}"'}, timeout=30).raise_for_status()

    def count(self, database: str, measurement: str = "cpu") -> int:
        params = {"db": database, "q": f"SELECT count({workload.FIELDS[0]}) FROM {measurement}"}
        answer: Any = requests.get(self.url + "/query", params=params, timeout=120).json()["results"][0]
        return int(answer["series"][0]["values"][0][1]) if "series" in answer else 0


class Victoria(Server):
    """VictoriaMetrics as Debian packs it. It acknowledges before anything is on disk."""

    name = "victoria-metrics"

    def start(self) -> None:
        self._run(
            [
                "victoria-metrics", f"-storageDataPath={self.folder}/data", f"-httpListenAddr=127.0.0.1:{self.port}",
                "-retentionPeriod=100y", "-search.maxUniqueTimeseries=100000000", "-loggerLevel=WARN",
                "-search.maxQueryDuration=120s",
            ]
        )  # fmt: skip
        self._wait_for("/health")

    def halt(self) -> None:
        self._end()

    def make_database(self, name: str) -> None:
        """Nothing to make: the name becomes a label."""

    def count(self, database: str, measurement: str = "cpu") -> int:
        """What it has taken is found only after a while: counted until that does not change any more."""
        before = -1
        for _ in range(10):
            requests.get(self.url + "/internal/force_flush", timeout=60).raise_for_status()
            found = self._count(database, measurement)
            if found == before:
                break
            before = found
            time.sleep(1)
        return before

    def _count(self, database: str, measurement: str) -> int:
        query = f'sum(count_over_time({measurement}_{workload.FIELDS[0]}{{db="{database}"}}[10y]))'
        at_s = workload.START_NS // 1_000_000_000 + 5 * 365 * 86_400
        params = {"query": query, "time": str(at_s), "nocache": "1"}
        answer: Any = requests.get(self.url + "/api/v1/query", params=params, timeout=120).json()
        result = answer["data"]["result"]
        return int(float(result[0]["value"][1])) if result else 0


class MemoryWatch:
    """Samples a server's memory while a with block runs; ``peak_bytes`` afterwards."""

    def __init__(self, server: Server, every_s: float = 0.25) -> None:
        self._server = server
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_bytes = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._server.memory_bytes())
            if self._done.wait(self._every_s):
                return


SERVERS: dict[str, tuple[type[Server], str, str]] = {
    # name on the command line: class, program, Debian package
    "tidegate": (Tidegate, "", ""),
    "influxdb": (Influx, "influxd", "influxdb"),
    "victoria": (Victoria, "victoria-metrics", "victoria-metrics"),
}
