"""Asks over HTTP in a process of its own: GET after GET on N connections, and how long each took.

Raw sockets and epoll; answers are read to their end, by length or in chunks, and thrown away. Reads a plan (JSON) on
standard input, prints the figures (JSON) on standard output.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle


@dataclass(frozen=True, slots=True)
class Plan:
    """Ask *targets* in turn on *connections* for *for_s* seconds, each of them once at least."""

    host: str
    port: int
    targets: list[str]
    headers: dict[str, str]
    connections: int
    for_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Answers a second, and latencies in ms."""

    answers: int
    answers_per_s: float
    mean_ms: float
    p99_ms: float
    answer_bytes: int  # of all answers, head and framing included
    refused: int
    first_refusal: str


def run(plan: Plan) -> Figures:
    """Carry out *plan* in a child process."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.bench.ask"], input=json.dumps(asdict(plan)), capture_output=True, text=True
    )
    if child.returncode:
        raise RuntimeError(f"the asking process failed: {child.stderr[-2000:]}")
    return Figures(**json.loads(child.stdout))


class _Connection:
    """One keep-alive connection with one request under way."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self.answer = bytearray()
        self._body_at = 0  # 0: the head is not whole yet
        self._next_at = 0  # where the body or its next chunk ends
        self._chunked = False

    def ask(self, request: bytes) -> None:
        self.answer, self._body_at, self._next_at = bytearray(), 0, 0
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def pull(self) -> bool:
        """Read what is there; True when the answer is whole."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise ConnectionError(f"the server closed a connection after {bytes(self.answer[:300])!r}")
        self.answer += piece
        if not self._body_at and not self._head():
            return False
        return self._last_chunk() if self._chunked else len(self.answer) >= self._next_at

    def _head(self) -> bool:
        end = self.answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._body_at = self._next_at = end + 4
        head = bytes(self.answer[:end]).lower()
        self._chunked = b"\r\ntransfer-encoding: chunked" in head
        if not self._chunked:
            self._next_at += int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        return True

    def _last_chunk(self) -> bool:
        while (end := self.answer.find(b"\r\n", self._next_at)) >= 0:
            size = int(self.answer[self._next_at : end], 16)
            after = end + 2 + size + 2
            if len(self.answer) < after:
                return False
            if size == 0:
                return True
            self._next_at = after
        return False


def ask_all(plan: Plan) -> Figures:
    """Ask, each connection its next question as soon as it has its answer."""
    fields = "".join(f"{k}: {v}\r\n" for k, v in {"Host": f"{plan.host}:{plan.port}", **plan.headers}.items())
    requests = cycle([f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode() for target in plan.targets])
    poll = select.epoll()
    by_fd = {}
    for _ in range(plan.connections):
        connection = _Connection(plan.host, plan.port)
        by_fd[connection.socket.fileno()] = connection
        poll.register(connection.socket.fileno(), select.EPOLLIN)
    started = time.perf_counter()
    times: list[float] = []
    refusals: list[str] = []
    size = asked = 0
    for connection in by_fd.values():
        connection.ask(next(requests))
        asked += 1
    while len(times) < asked:
        for fd, _ in poll.poll(120):
            connection = by_fd[fd]
            if not connection.pull():
                continue
            times.append(time.perf_counter() - connection.sent_at)
            size += len(connection.answer)
            if not connection.answer.startswith(b"HTTP/1.1 200"):
                refusals.append(connection.answer[:1000].decode(errors="replace"))
            if asked < len(plan.targets) or time.perf_counter() - started < plan.for_s:
                connection.ask(next(requests))
                asked += 1
    seconds = time.perf_counter() - started
    return Figures(
        answers=len(times),
        answers_per_s=len(times) / seconds,
        mean_ms=sum(times) / len(times) * 1000,
        p99_ms=sorted(times)[len(times) * 99 // 100] * 1000,
        answer_bytes=size,
        refused=len(refusals),
        first_refusal=refusals[0] if refusals else "",
    )


if __name__ == "__main__":
    json.dump(asdict(ask_all(Plan(**json.load(sys.stdin)))), sys.stdout)
