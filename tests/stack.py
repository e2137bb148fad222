"""The whole of Tidegate as tests start it: the supervisor over the Procfile, on free ports and a fresh folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

ROOT = Path(__file__).parent.parent
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
ORG, USER, PASSWORD, BUCKET = "tide", "admin", "admin-password", "first"
ADMIN_TOKEN = "test-operator-token-of-the-stack"
_given: set[int] = set()  # ports that free_port has given out


def free_port() -> int:
    """A port that nobody listens on now. Not one of those that the kernel gives out, and no other worker's: until it
    is used, a service that asks for any port, or a stack that starts beside this one, might get it."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = 15_000 + secrets.randbelow(15_000 // workers) * workers + worker
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


@dataclass
class Stack:
    """A running stack. ``start`` and ``stop`` may be called again: the folder and the ports stay."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    setup: bool = True
    port: int = field(default_factory=free_port)
    storage_port: int = field(default_factory=free_port)
    auth_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    open_files: int = 0  # that each process may have; 0 = as the tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "stack.log"

    @property
    def token(self) -> str:
        return ADMIN_TOKEN

    def settings(self) -> dict[str, str]:
        """The environment that the supervisor is started with."""
        settings = {
            "TIDEGATE_PORT": str(self.port),
            "TIDEGATE_HOST": "127.0.0.1",
            "TIDEGATE_DATA": str(self.folder / "data"),
            "TIDEGATE_STORAGE_PORT": str(self.storage_port),
            "TIDEGATE_AUTH_PORT": str(self.auth_port),
            "TIDEGATE_STORAGE_URL": f"http://127.0.0.1:{self.storage_port}",
            "TIDEGATE_AUTH_URL": f"http://127.0.0.1:{self.auth_port}",
            # All tests come from one address; those of the limit set it.
            "TIDEGATE_MAX_WRONG_PASSWORDS": "0",
        }
        if self.setup:
            settings |= {
                "DOCKER_INFLUXDB_INIT_MODE": "setup",
                "DOCKER_INFLUXDB_INIT_USERNAME": USER,
                "DOCKER_INFLUXDB_INIT_PASSWORD": PASSWORD,
                "DOCKER_INFLUXDB_INIT_ORG": ORG,
                "DOCKER_INFLUXDB_INIT_BUCKET": BUCKET,
                "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN": ADMIN_TOKEN,
            }
        return settings | dict(self.environment)

    def start(self) -> Stack:
        """Start and wait until everything is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            bound = ["sh", "-c", f'ulimit -n {self.open_files}; exec "$@"', "sh"] if self.open_files else []
            self.process = subprocess.Popen(
                [*bound, sys.executable, "-m", "services"],
                cwd=ROOT,
                env={**os.environ, **self.settings()},
                stdout=log,
                stderr=log,
            )
        self.wait_ready()
        return self

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until /ready says 200 and, with set-up from the environment, set-up is done."""
        deadline = time.monotonic() + within_s
        state: Any = None
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"the stack ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                answer = requests.get(f"{self.url}/ready", timeout=5)
                state = answer.text
                if answer.status_code == 200 and (not self.setup or not self.setup_allowed()):
                    return
            except requests.RequestException as error:
                state = type(error).__name__
            time.sleep(0.05)
        raise RuntimeError(f"the stack was not ready in {within_s} s ({state}):\n{self.log_tail()}")

    def setup_allowed(self) -> bool:
        answer = requests.get(f"{self.url}/api/v2/setup", timeout=5)
        return answer.status_code != 200 or bool(answer.json()["allowed"])

    def log_tail(self, size: int = 6000) -> str:
        return self.log_path.read_text(errors="replace")[-size:]

    def stop(self) -> int:
        """SIGTERM, wait; returns the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            self.process.wait()
            raise
        self.process = None
        return status

    def pids(self, service: str) -> list[int]:
        """Process ids of the replicas of *service*, oldest first."""
        if self.process is None:
            return []
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # also one that has just ended
                if f"services.{service}" in child.cmdline():
                    found.append(child.pid)
        return found

    def kill(self, pid: int) -> None:
        """kill -9 of one service process of this stack."""
        os.kill(pid, signal.SIGKILL)

    # ------------------------------------------------------------ talking to it

    def request(self, method: str, path: str, token: str | None = ADMIN_TOKEN, **kwargs: Any) -> requests.Response:
        """One request to the gateway; with the operator token unless *token* says another one, or None."""
        headers = dict(kwargs.pop("headers", {}))
        if token is not None and "auth" not in kwargs:
            headers.setdefault("Authorization", f"Token {token}")
        return requests.request(
            method, f"{self.url}{path}", headers=headers, timeout=kwargs.pop("timeout", 60), **kwargs
        )

    def json(self, method: str, path: str, body: Any = None, token: str | None = ADMIN_TOKEN, **kwargs: Any) -> Any:
        """One request with a JSON body that has to succeed; the JSON of its answer."""
        data = None if body is None else json.dumps(body)
        answer = self.request(method, path, token, data=data, **kwargs)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def org_id(self, name: str = ORG) -> str:
        found: str = self.json("GET", "/api/v2/orgs", params={"org": name})["orgs"][0]["id"]
        return found

    def make_bucket(self, name: str, retention_s: int = 0) -> str:
        """A new bucket of the first organization; its id."""
        rules = [{"type": "expire", "everySeconds": retention_s}] if retention_s else []
        body = {"orgID": self.org_id(), "name": name, "retentionRules": rules}
        made: str = self.json("POST", "/api/v2/buckets", body)["id"]
        return made

    def write(self, lines: str | bytes, db: str, **params: str) -> requests.Response:
        """POST /write."""
        data = lines.encode() if isinstance(lines, str) else lines
        return self.request("POST", "/write", params={"db": db, **params}, data=data)

    def query(self, q: str, db: str | None = None, **params: Any) -> Any:
        """GET /query that has to be 200; the JSON."""
        given = {"q": q, **params} | ({"db": db} if db else {})
        answer = self.request("GET", "/query", params=given)
        assert answer.status_code == 200, f"{q}: {answer.status_code} {answer.text}"
        return answer.json()

    def rows(self, q: str, db: str, **params: Any) -> list[list[Any]]:
        """The rows of the first series of the first statement."""
        result = self.query(q, db, **params)["results"][0]
        assert "error" not in result, f"{q}: {result['error']}"
        series = result.get("series", [])
        return list(series[0].get("values", [])) if series else []
