"""The load generator, in a process of its own: sends bodies over N connections and times the answers.

Raw sockets and epoll, bodies rendered beforehand, so that it takes little of the machine that it measures on.
Reads a plan (JSON) on standard input, prints the figures (JSON) on standard output.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send. Bodies lie in *file*, one after the other, of the lengths *sizes*.

    ``for_s``: stop after this time, 0 = send each body once. ``authorizations``: the Authorization header of each body,
    in turn; empty = *headers* hold it, or none is needed.
    """

    host: str
    port: int
    target: str
    headers: dict[str, str]
    file: str
    sizes: list[int]
    connections: int
    for_s: float = 0
    authorizations: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it: bodies answered 204, seconds, and latencies in ms."""

    bodies: int
    seconds: float
    median_ms: float
    p99_ms: float
    refused: int
    first_refusal: str


def run(plan: Plan) -> Figures:
    """Carry out *plan* in a child process."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"], input=json.dumps(asdict(plan)), capture_output=True, text=True
    )
    if child.returncode:
        raise RuntimeError(f"the load generator failed: {child.stderr[-2000:]}")
    return Figures(**json.loads(child.stdout))


class _Connection:
    """One keep-alive connection with one request under way."""

    def __init__(self, plan: Plan) -> None:
        self.socket = socket.create_connection((plan.host, plan.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent: list[memoryview] = []
        self.answer = b""
        self.sent_at = 0.0

    def start(self, pieces: list[memoryview]) -> None:
        self.unsent, self.answer, self.sent_at = pieces, b"", time.perf_counter()

    def push(self) -> bool:
        """Send what the socket takes; True when all is sent."""
        while self.unsent:
            try:
                sent = self.socket.sendmsg(self.unsent)
            except BlockingIOError:
                return False
            while self.unsent and sent >= len(self.unsent[0]):
                sent -= len(self.unsent.pop(0))
            if self.unsent:
                self.unsent[0] = self.unsent[0][sent:]
        return True

    def pull(self) -> bool:
        """Read what is there; True when the answer is whole and all of the request is sent.

        An answer may come before its request is out: a refusal does. What follows would be taken for its rest.
        """
        piece = self.socket.recv(65536)
        if not piece:
            left = sum(map(len, self.unsent))
            raise ConnectionError(f"the server closed a connection after {self.answer[:1000]!r}, {left} bytes unsent")
        self.answer += piece
        return not self.unsent and self.is_answered()

    def is_answered(self) -> bool:
        """Whether the answer is whole."""
        head, separator, body = self.answer.partition(b"\r\n\r\n")
        if not separator:
            return False
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return len(body) >= int(value)
        return True

    def is_over(self) -> bool:
        """Whether the server ends the connection behind this answer."""
        head = self.answer.partition(b"\r\n\r\n")[0].lower()
        return b"\r\nconnection: close" in head


def send_all(plan: Plan) -> Figures:
    """Send the bodies in order, each on the connection that is free first."""
    content = memoryview(Path(plan.file).read_bytes())
    requests: list[list[memoryview]] = []
    at = 0
    for number, size in enumerate(plan.sizes):
        fields = {"Host": f"{plan.host}:{plan.port}", **plan.headers, "Content-Length": str(size)}
        if plan.authorizations:
            fields["Authorization"] = plan.authorizations[number % len(plan.authorizations)]
        head = f"POST {plan.target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        requests.append([memoryview(head.encode()), content[at : at + size]])
        at += size
    poll = select.epoll()
    by_fd: dict[int, _Connection] = {}

    def connect() -> _Connection:
        connection = _Connection(plan)
        by_fd[connection.socket.fileno()] = connection
        poll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    for _ in range(plan.connections):
        connect()
    times: list[float] = []
    refusals: list[str] = []
    following = iter(requests)
    started = time.perf_counter()
    deadline = started + plan.for_s if plan.for_s else float("inf")
    busy = 0

    def begin(connection: _Connection) -> int:
        pieces = next(following, None)
        if pieces is None or time.perf_counter() > deadline:
            return 0
        connection.start(list(pieces))
        if not connection.push():
            poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return 1

    for connection in list(by_fd.values()):
        busy += begin(connection)
    while busy:
        for fd, events in poll.poll(60):
            connection = by_fd[fd]
            whole = False
            if events & select.EPOLLOUT and connection.push():
                poll.modify(fd, select.EPOLLIN)
                whole = connection.is_answered()
            if events & ~select.EPOLLOUT:
                whole = connection.pull()
            if whole:
                times.append(time.perf_counter() - connection.sent_at)
                if not connection.answer.startswith(b"HTTP/1.1 204"):
                    refusals.append(connection.answer.decode(errors="replace"))
                if connection.is_over():
                    poll.unregister(fd)
                    del by_fd[fd]
                    connection.socket.close()
                    connection = connect()
                busy += begin(connection) - 1
    seconds = time.perf_counter() - started
    times.sort()
    return Figures(
        bodies=len(times) - len(refusals),
        seconds=seconds,
        median_ms=times[len(times) // 2] * 1000 if times else 0,
        p99_ms=times[len(times) * 99 // 100] * 1000 if times else 0,
        refused=len(refusals),
        first_refusal=refusals[0][:1000] if refusals else "",
    )


if __name__ == "__main__":
    json.dump(asdict(send_all(Plan(**json.load(sys.stdin)))), sys.stdout)
