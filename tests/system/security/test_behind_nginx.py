"""S16 and S26 through a real nginx with the configuration of deploy/: what passes it, and what both of them log."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import requests

from tests.proxy import proxy_before
from tests.stack import Stack, free_port
from tests.system.security.figures import show

# Each pair of a Connection header and what it stands beside: a proxy that believed them would drop the credential, or
# pass on what is meant for itself.
DROPPED = ("Authorization", "Cookie, Authorization", "X-Forwarded-For", "Keep-Alive, Authorization", "upgrade", "close")
BESIDE = (
    "TE: trailers", "Trailer: Authorization", "Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive",
    "Keep-Alive: timeout=5", "Upgrade: websocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "X-Internal-Identity: operator", "X-Tidegate-Call: 1 gateway 9 aa bb",
)  # fmt: skip
# Of one hop: none of them may reach the gateway.
OF_ONE_HOP = (
    b"te",
    b"trailer",
    b"proxy-authorization",
    b"proxy-connection",
    b"keep-alive",
    b"upgrade",
    b"http2-settings",
)
CASES = [(dropped, beside) for dropped in DROPPED for beside in BESIDE]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, str, Path]]:
    """A stack that logs each request, the URL of the nginx before it, and nginx's folder."""
    folder = tmp_path_factory.mktemp("proxied")
    stack = Stack(folder / "stack", {"TIDEGATE_ACCESS_LOG": "all"}).start()
    with proxy_before(f"127.0.0.1:{stack.port}", folder / "nginx") as url:
        yield stack, url, folder / "nginx"
    stack.stop()


def _send(url: str, head: str) -> bytes:
    """One request, byte for byte; the beginning of its answer."""
    address = urlsplit(url)
    assert address.port is not None
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head.encode())
        return connection.recv(65536)


def _head(path: str, token: str, dropped: str, beside: str) -> str:
    lines = (f"GET {path} HTTP/1.1", "Host: h", f"Connection: {dropped}", f"Authorization: Token {token}", beside)
    return "\r\n".join((*lines, "", ""))


def test_s16_a_credential_passes_nginx_whatever_stands_beside_it(proxied: tuple[Stack, str, Path]) -> None:
    stack, url, _ = proxied
    bad = []
    for dropped, beside in CASES:
        for token, expected in ((stack.token, b"200"), ("wrong", b"401")):
            answer = _send(url, _head("/api/v2/me", token, dropped, beside))
            if answer.split(b" ", 2)[1:2] != [expected]:
                bad.append((dropped, beside, answer[:80]))
    print(bad)
    show("S16", f"nginx:{len(bad)}/{2 * len(CASES)}", 0, not bad)


@contextmanager
def _recorder() -> Iterator[tuple[str, list[bytes]]]:
    """A server that keeps the head of each request and answers 204: its address and the heads."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    head = b""
                    while b"\r\n\r\n" not in head and (received := connection.recv(65536)):
                        head += received
                    heads.append(head)
                    connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heads
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_s16_what_is_of_one_hop_does_not_reach_the_gateway(tmp_path: Path) -> None:
    passed: list[bytes] = []
    with _recorder() as (upstream, heads), proxy_before(upstream, tmp_path / "nginx") as url:
        heads.clear()
        for dropped, beside in CASES:
            assert _send(url, _head("/api/v2/me", "kept", dropped, beside)).startswith(b"HTTP/1.1 204")
        assert len(heads) == len(CASES)
        for head in heads:
            lines = head.split(b"\r\n")
            assert b"Authorization: Token kept" in lines
            passed += [line for line in lines[1:] if line.partition(b":")[0].lower() in OF_ONE_HOP]
    print(set(passed))
    show("S16", f"passed on:{len(passed)}/{len(CASES)}", 0, not passed)


def test_s26_no_credential_of_a_query_string_is_logged(proxied: tuple[Stack, str, Path], tmp_path: Path) -> None:
    """Requests that succeed, that are refused, that are no HTTP, and that find no gateway."""
    stack, url, folder = proxied
    secret = "s-" + secrets.token_hex(16)
    given = {"u": secret + "-u", "p": secret + "-p", "access_token": secret + "-a", "token": secret + "-t"}
    query = "&".join(f"{name}={value}" for name, value in given.items())
    paths = ("/query", "/query/", "/write", "/api/v2/me", "/api/v2/write", "/ping", "/nothing", "/v1")
    tried = 0
    for path in paths:
        for method in ("GET", "POST", "OPTIONS", "TRACE"):
            requests.request(method, f"{url}{path}?db=first&{query}", data=b"m v=1", timeout=20)
            tried += 1
    requests.get(f"{url}/query?q={quote('SHOW DATABASES')}&u=x&p={stack.token}", timeout=20).raise_for_status()
    for line in (f"GET /query?{query} HTTP/9.9", f"GET /query?{query}\x01 HTTP/1.1", f"BAD /query?{query}"):
        _send(url, f"{line}\r\nHost: h\r\n\r\n")
        tried += 1
    nowhere = tmp_path / "nowhere"
    with proxy_before(f"127.0.0.1:{free_port()}", nowhere) as other:
        assert requests.get(f"{other}/query?{query}", timeout=20).status_code == 502
        tried += 1
    # A gateway that could not be reached is told all the same.
    assert '"GET /query" 502' in (nowhere / "access.log").read_text()
    logs = {path: path.read_text(errors="replace") for place in (folder, nowhere) for path in place.glob("*.log")}
    logs[stack.log_path] = stack.log_path.read_text()
    shown = [path.name for path, text in logs.items() if secret in text or stack.token in text]
    print(shown)
    assert all(len(text) > 0 for path, text in logs.items() if path.name != "error.log")
    show("S26", f"{len(shown)}/{len(logs)}logs,{tried}requests", 0, not shown and len(logs) == 5)
