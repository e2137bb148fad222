"""S01, S13, S16, S25–S27, S33, S34: what is written, shown and passed on.

R29: tests/system/test_identity_kills.py; S11, S12: tests/unit/auth/security/test_jwt.py and tests/cases;
S13, S14 at the services: tests/unit/common/test_rpc.py.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest

from tests.jwt_cases import sign
from tests.stack import PASSWORD, ROOT, USER, Stack
from tests.system.security.figures import fresh, make_token, permission, show, sign_in

SHARED = "the-shared-phrase-of-1x-tokens-" + secrets.token_hex(8)
SERVICES = ("gateway", "auth", "ingest", "query", "storage")
ENVIRONMENT = {
    "TIDEGATE_ACCESS_LOG": "all",
    "TIDEGATE_MAX_WRONG_PASSWORDS": "10",
    "TIDEGATE_BCRYPT_COST": "4",
}


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that logs each request, and takes its secret from a file."""
    folder = tmp_path_factory.mktemp("talkative")
    secret = folder / "secret"
    secret.write_text(SHARED + "\n")
    stack = Stack(folder / "stack", {**ENVIRONMENT, "TIDEGATE_JWT_SECRET_FILE": str(secret)}).start()
    # Known at this address from now on: the wrong passwords of others don't count for it.
    sign_in(stack, USER, PASSWORD)
    yield stack
    stack.stop()


def _audited(stack: Stack) -> list[dict[str, Any]]:
    path = stack.folder / "data" / "audit.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _legacy(stack: Stack, password: str) -> tuple[str, str]:
    """Name and id of a new legacy authorization with a password."""
    name = fresh("legacy")
    permissions = [permission("write", "buckets", orgID=stack.org_id())]
    body = {"orgID": stack.org_id(), "token": name, "permissions": permissions}
    id = stack.json("POST", "/private/legacy/authorizations", body)["id"]
    stack.json("POST", f"/private/legacy/authorizations/{id}/password", {"password": password})
    return name, id


def test_s33_each_kind_of_security_event_is_one_line(talkative: Stack) -> None:
    stack, org_id = talkative, talkative.org_id()
    began = len(_audited(stack))
    password = "secret-" + secrets.token_hex(8)
    user = stack.json("POST", "/api/v2/users", {"name": fresh("audited")})
    path = f"/api/v2/users/{user['id']}"
    stack.json("POST", f"{path}/password", {"password": password})
    cookie = sign_in(stack, user["name"], password)
    stack.request("POST", "/api/v2/signout", None, headers={"Cookie": cookie})
    stack.request("POST", "/api/v2/signin", auth=(user["name"], password + "x"))
    stack.json("POST", f"/api/v2/orgs/{org_id}/members", {"id": user["id"]})
    stack.json("DELETE", f"/api/v2/orgs/{org_id}/members/{user['id']}")
    stack.json("POST", f"/api/v2/orgs/{org_id}/owners", {"id": user["id"]})
    stack.json("DELETE", f"/api/v2/orgs/{org_id}/owners/{user['id']}")
    stack.json("PATCH", path, {"status": "inactive"})
    stack.json("DELETE", path)
    token = make_token(stack, [permission("read", "buckets", orgID=org_id)])
    stack.request("POST", "/api/v2/buckets", token["token"], json={"orgID": org_id, "name": "x"})
    stack.json("PATCH", f"/api/v2/authorizations/{token['id']}", {"status": "inactive"})
    stack.json("DELETE", f"/api/v2/authorizations/{token['id']}")
    name, id = _legacy(stack, password)
    stack.json("PATCH", f"/private/legacy/authorizations/{id}", {"description": "d"})
    stack.json("DELETE", f"/private/legacy/authorizations/{id}")
    bucket = stack.make_bucket(fresh("audited"))
    stack.json("PATCH", f"/api/v2/buckets/{bucket}", {"description": "d"})
    stack.json("DELETE", f"/api/v2/buckets/{bucket}")
    org = stack.json("POST", "/api/v2/orgs", {"name": fresh("audited")})["id"]
    stack.json("PATCH", f"/api/v2/orgs/{org}", {"description": "d"})
    stack.json("PATCH", f"/api/v2/orgs/{org}/secrets", {"key": password})
    stack.json("POST", f"/api/v2/orgs/{org}/secrets/delete", {"secrets": ["key"]})
    stack.json("DELETE", f"/api/v2/orgs/{org}")
    stack.request("GET", "/api/v2/me", "wrong-" + password)
    for n in range(12):
        stack.request("POST", "/api/v2/signin", auth=(name, f"{password}{n}"))
    expected = {
        ("user.create", "ok"), ("user.password", "ok"), ("session.signin", "ok"), ("session.signout", "ok"),
        ("session.signin", "unauthorized"), ("session.signin", "too many requests"), ("member.add", "ok"),
        ("member.remove", "ok"), ("owner.add", "ok"), ("owner.remove", "ok"), ("user.update", "ok"),
        ("user.delete", "ok"), ("token.create", "ok"), ("bucket.create", "unauthorized"), ("token.update", "ok"),
        ("token.delete", "ok"), ("legacy.create", "ok"), ("legacy.password", "ok"), ("legacy.update", "ok"),
        ("legacy.delete", "ok"), ("bucket.create", "ok"), ("bucket.update", "ok"), ("bucket.delete", "ok"),
        ("org.create", "ok"), ("org.update", "ok"), ("org.delete", "ok"), ("secret.update", "ok"),
        ("secret.delete", "ok"), ("credential.refused", "unauthorized"),
    }  # fmt: skip
    deadline = time.monotonic() + 5
    while True:
        events = _audited(stack)[began:]
        seen = {(event["event"], event["result"]) for event in events}
        if expected <= seen or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    whole = all({"time", "event", "result", "remote"} <= event.keys() for event in events)
    text = (stack.folder / "data" / "audit.log").read_text()
    hidden = not any(secret in text for secret in (password, token["token"], stack.token, cookie.partition("=")[2]))
    print("missing:", expected - seen)
    kinds = len(expected & seen)
    show("S33", f"{kinds}/{len(expected)}", "20/20", kinds == len(expected) and kinds >= 20 and whole and hidden)


def test_s01_s26_no_secret_is_written_anywhere(talkative: Stack) -> None:
    stack = talkative
    password = "p-" + secrets.token_hex(12)
    name, _ = _legacy(stack, password)
    tokens = [make_token(stack, [permission("write", "buckets", orgID=stack.org_id())])["token"] for _ in range(20)]
    cookie = sign_in(stack, USER, PASSWORD).partition("=")[2]
    for value in (*tokens, "wrong-" + password):
        stack.request("POST", "/write", value, params={"db": "first"}, data=b"m v=1")
    asked = {"u": name, "p": password, "access_token": tokens[0], "token": tokens[1], "db": "first"}
    stack.request("GET", "/query", None, params={**asked, "q": f"CREATE USER x WITH PASSWORD '{password}'"})
    stack.request("GET", "/api/v2/me", None, headers={"Cookie": f"influxdb-oss-session={cookie}"})
    page = stack.request("GET", "/metrics", None).content
    time.sleep(0.5)
    needles = [text.encode() for text in (*tokens, password, cookie, PASSWORD, stack.token, SHARED)]
    searched = [("metrics", page), ("log", stack.log_path.read_bytes())]
    searched += [(str(p), p.read_bytes()) for p in (stack.folder / "data").rglob("*") if p.is_file()]
    hits = [place for place, content in searched for needle in needles if needle in content]
    hits += [f"core dump of {service}" for service in SERVICES if _core_limit(stack, service) != (0, 0)]
    print(hits)
    show("S01", f"{len(hits)}/{len(searched)}files", 0, not hits and len(searched) > 4)
    logged = stack.log_path.read_text()
    show("S26", logged.count(password) + logged.count(tokens[0]), 0, '"p": "***"' in logged or '"p":"***"' in logged)


def _core_limit(stack: Stack, service: str) -> tuple[int, int]:
    """How long a core dump of the service may be: the memory of a process holds secrets."""
    return psutil.Process(stack.pids(service)[0]).rlimit(psutil.RLIMIT_CORE)


def test_s25_no_secret_of_the_settings_is_shown(talkative: Stack) -> None:
    shown = 0
    for path in ("/api/v2/config", "/debug/vars", "/debug/pprof/cmdline", "/health", "/ready", "/metrics", "/api/v2"):
        text = talkative.request("GET", path).text
        shown += sum(secret in text for secret in (SHARED, PASSWORD, talkative.token))
    assert talkative.process is not None
    for process in psutil.Process(talkative.process.pid).children(recursive=True):
        shown += sum(secret in " ".join(process.cmdline()) for secret in (SHARED, PASSWORD, talkative.token))
        shown += SHARED in process.environ().values()
    # What stands in the file is in force.
    claims = json.dumps({"username": USER, "exp": int(time.time()) + 60})
    token = sign('{"alg": "HS256"}', claims, SHARED, "HS256")
    bearer = {"Authorization": f"Bearer {token}"}
    taken = talkative.request("GET", "/query", None, params={"q": "SHOW DATABASES"}, headers=bearer).status_code
    show("S25", f"{shown},{taken}", "0,200", (shown, taken) == (0, 200))


def test_s27_a_log_line_is_one_line_whatever_a_client_sends(talkative: Stack) -> None:
    mark = fresh("mark")
    for evil in ("%0d%0a", "%1b%5b31m", "%e2%80%a8", "%00"):
        talkative.request("GET", f"/api/v2/buckets/{evil}{mark}?name={evil}{mark}&{evil}={mark}")
        talkative.request("POST", "/api/v2/signin", auth=(f"{unquote(evil)}{mark}".encode(), b"x"))
    # A control character in a header is no HTTP.
    assert talkative.request("GET", "/ping", headers={"User-Agent": "agent\x1b[31m" + mark}).status_code == 400
    time.sleep(0.3)
    lines = [line for line in talkative.log_path.read_bytes().split(b"\n") if mark.encode() in line]
    lines += [line for line in (talkative.folder / "data/audit.log").read_bytes().split(b"\n") if mark.encode() in line]
    bad = sum(not isinstance(json.loads(line), dict) or bool(re.search(rb"[\x00-\x1f]", line)) for line in lines)
    show("S27", f"{bad}/{len(lines)}", 0, bad == 0 and len(lines) == 8)


def test_s34_errors_tell_nothing_of_the_inside(talkative: Stack) -> None:
    inside = r"Traceback|\.py\b|sqlite|SELECT .* FROM|site-packages|aiohttp|msgpack|line \d+, in"
    tell = re.compile(f"{inside}|{re.escape(str(ROOT))}", re.I)
    told = tried = 0
    for path in (
        "/write",
        "/query",
        "/api/v2/write",
        "/api/v2/buckets",
        "/api/v2/setup",
        "/api/v2/users/x",
        "/nothing",
    ):
        for method in ("GET", "POST", "PATCH", "TRACE"):
            for body in (b"", b"{", b'{"a":' * 3000, b"\xff\x00", b'{"name": 1, "orgID": [], "permissions": {}}'):
                answer = talkative.request(method, path, data=body, params={"db": "\ud800".encode("utf-8", "replace")})
                tried += 1
                told += bool(tell.search(answer.text)) or answer.status_code == 500
    show("S34", f"{told}/{tried}", 0, told == 0)


# ---------------------------------------------------------------- what the gateway passes on


def _raw(stack: Stack, head: str) -> int:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        return int(connection.recv(4096).split(b" ", 2)[1])


def test_s13_a_forged_identity_counts_for_nothing(stack: Stack) -> None:
    forged = 0
    for name in ("X-Internal-Identity", "X-Tidegate-Identity", "X-Tidegate-Call", "X-Tidegate-Head", "X-User-Id"):
        for path in ("/api/v2/me", "/query?q=SHOW+DATABASES", "/rpc/auth.rest", "/rpc/storage.read_records"):
            answer = stack.request("GET", path, None, headers={name: "1 gateway 99999999999999 aa bb"})
            forged += answer.status_code not in (401, 404)
    show("S13", forged, 0, forged == 0)


def test_s16_the_credential_cannot_be_dropped_by_hop_by_hop_headers(stack: Stack) -> None:
    bad = 0
    more = (
        "TE: trailers", "Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive", "Keep-Alive: 1",
        "Upgrade: websocket", "Upgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__", "Trailer: Authorization",
        "X-Internal-Identity: operator", "X-HTTP-Method-Override: DELETE",
    )  # fmt: skip
    tried = 0
    for drop in ("Authorization", "X-Tidegate-Call", "Keep-Alive, Authorization", "TE, Cookie", "Upgrade", "close"):
        for extra in more:
            for value, expected in ((stack.token, 200), ("wrong", 401)):
                head = f"GET /api/v2/me HTTP/1.1\nHost: x\nConnection: {drop}\nAuthorization: Token {value}\n"
                bad += _raw(stack, f"{head}{extra}\n\n") != expected
                tried += 1
    show("S16", f"{bad}/{tried}", 0, bad == 0)


def test_the_audit_log_is_bounded(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "bounded", {"TIDEGATE_AUDIT_MAX_BYTES": "4096"}).start()
    try:
        for n in range(120):
            stack.request("GET", "/api/v2/me", f"wrong-{n}")
            if n % 10 == 9:
                time.sleep(0.15)
        time.sleep(0.5)
        files = sorted((stack.folder / "data").glob("audit.log*"))
        assert 2 <= len(files) <= 5
        assert all(path.stat().st_size < 16_384 for path in files)
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    finally:
        stack.stop()
