"""S13, S14: the services' own ports, in a running stack: what nobody signed, and what was signed for something else."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import pytest
import requests

from common.messages import CALLERS
from common.rpc import wire
from tests.stack import Stack
from tests.system.security.figures import show

SERVICES = ("auth", "ingest", "query", "storage")
HEAD = wire.encode_head({})
FORGED: tuple[Mapping[str, str], ...] = (
    {},
    {"X-Internal-Identity": "operator"},
    {"X-Tidegate-Identity": "operator", "X-Forwarded-For": "127.0.0.1"},
    {wire.CALL_HEADER: "1 gateway 99999999999999 aa bb"},
    {wire.CALL_HEADER: ""},
    {"Authorization": "Token test-operator-token-of-the-stack"},
)


@pytest.fixture(scope="module")
def ports(stack: Stack) -> dict[str, int]:
    """The port of an instance of each service."""
    found = {}
    for service in SERVICES:
        listening = [
            connection.laddr
            for connection in psutil.Process(stack.pids(service)[0]).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert [address.ip for address in listening] == ["127.0.0.1"], service
        found[service] = listening[0].port
    return found


def call(port: int, method: str, headers: Mapping[str, str], body: bytes = HEAD) -> int:
    sent = {"Content-Type": wire.CONTENT_TYPE, wire.HEAD_HEADER: str(len(HEAD)), **headers}
    return requests.post(f"http://127.0.0.1:{port}/rpc/{method}", data=body, headers=sent, timeout=20).status_code


def test_s13_what_nobody_signed_is_refused_by_each_service(ports: dict[str, int]) -> None:
    let_in = tried = 0
    for method in CALLERS:
        for headers in FORGED:
            let_in += call(ports[method.partition(".")[0]], method, headers) != 401
            tried += 1
    show("S13 services", f"{let_in}/{tried}", 0, let_in == 0)


@dataclass(frozen=True)
class Signed:
    """A call to *service* as its rightful caller signs it, with *changes* to what the signature is about."""

    keys: wire.Keys
    method: str
    audience: str
    expires_in_ms: int = 20_000

    def headers_and_body(self) -> tuple[dict[str, str], bytes]:
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        expires_ms = time.time_ns() // 1_000_000 + self.expires_in_ms
        caller = min(CALLERS[self.method])
        header = wire.sign_call(self.keys, self.method, self.audience, caller, expires_ms, nonce, HEAD)
        return {wire.CALL_HEADER: header}, b"".join(wire.encode_call(self.keys, nonce, HEAD, []))


def test_s14_a_signature_is_for_one_call_at_one_place_once(stack: Stack, ports: dict[str, int]) -> None:
    key = (stack.folder / "data" / "internal.key").read_bytes().strip()
    keys = wire.Keys(key, (key,))
    accepted = tried = 0
    for service in SERVICES:
        own = [method for method in CALLERS if method.startswith(f"{service}.") and not method.endswith(".feed")]
        method, other_method = own[0], own[-1]
        elsewhere = "storage" if service != "storage" else "auth"
        headers, body = Signed(keys, method, service).headers_and_body()
        # Sent 30 s later its 20 s have passed.
        late, late_body = Signed(keys, method, service, expires_in_ms=-10_000).headers_and_body()
        foreign, foreign_body = Signed(keys, method, elsewhere).headers_and_body()
        stranger = wire.Keys(b"x" * 32, (b"x" * 32,))
        unknown, unknown_body = Signed(stranger, method, service).headers_and_body()
        changed_head = wire.encode_head({"a": 1})[: len(HEAD)].ljust(len(HEAD), b"\xc0")
        refused = {
            "replayed after 30 s": call(ports[service], method, late, late_body),
            "another path": call(ports[service], other_method, headers, body) if other_method != method else 401,
            "another body": call(ports[service], method, headers, changed_head + body[len(HEAD) :]),
            "another audience": call(ports[service], method, foreign, foreign_body),
            "truncated": call(ports[service], method, {wire.CALL_HEADER: headers[wire.CALL_HEADER][:-2]}, body),
            "another key": call(ports[service], method, unknown, unknown_body),
        }
        # Good all the time, though its head says nothing that can be done; sent again it is a replay.
        assert call(ports[service], method, headers, body) not in (401, 404), service
        refused["a nonce used again"] = call(ports[service], method, headers, body)
        wrong = {name: status for name, status in refused.items() if status != 401}
        print(service, wrong)
        accepted += len(wrong)
        tried += len(refused)
    show("S14", f"{accepted}/{tried}", 0, accepted == 0)
