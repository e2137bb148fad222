"""The offline command on a real data folder: after it, the new token and the new password work, the old do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import ORG, PASSWORD, ROOT, USER, Stack
from tests.system.test_documented_requests import legacy


def recover(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.recover", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **stack.settings()},
    )  # fmt: skip


def test_a_lost_token_and_lost_passwords_are_replaced(own_stack: Stack) -> None:
    stack = own_stack
    name = legacy(stack, "first")
    held = recover(stack, "list")
    assert held.returncode == 1
    assert f"is held by process {stack.pids('storage')[0]}: stop it first" in held.stderr
    stack.stop()

    listed = recover(stack, "list")
    assert listed.returncode == 0, listed.stderr
    users = [line.split("\t") for line in listed.stdout.splitlines()]
    shown = [(kind, who, status, part) for kind, _, who, status, part in users]
    assert ("1.x", name, "active", f"in {ORG}") in shown
    (owner,) = [(who, part) for kind, who, _, part in shown if kind == "user"]
    assert owner[0] == USER
    assert set(owner[1].split(", ")) == {f"owner of {ORG}", "owner of the instance"}

    token, password, v1 = (recover(stack, *what) for what in (("token",), ("password", USER), ("password", name)))
    values = [done.stdout.removesuffix("\n") for done in (token, password, v1)]
    for done, value in zip((token, password, v1), values, strict=True):
        assert done.returncode == 0, done.stderr
        assert value
        assert "\n" not in value
        assert value not in done.stderr

    stack.start()
    assert stack.request("GET", "/api/v2/buckets", values[0]).ok
    assert stack.request("POST", "/api/v2/users", values[0], data='{"name": "by-recovery"}').status_code == 201
    signin = "/api/v2/signin"
    assert stack.request("POST", signin, None, auth=(USER, PASSWORD)).status_code == 401
    assert stack.request("POST", signin, None, auth=(USER, values[1])).status_code == 204
    v1_query = {"q": "SHOW DATABASES", "u": name}
    assert stack.request("GET", "/query", None, params={**v1_query, "p": "legacy-password"}).status_code == 401
    assert stack.request("GET", "/query", None, params={**v1_query, "p": values[2]}).ok
    texts = [path.read_bytes() for path in (stack.folder / "data").rglob("*") if path.is_file()]
    assert not any(value.encode() in text for value in values for text in [*texts, stack.log_path.read_bytes()])


def test_what_cannot_be_recovered_is_said(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack")
    missing = recover(stack, "list")
    assert missing.returncode == 1
    assert "is no data folder of Tidegate" in missing.stderr
    assert not (tmp_path / "stack").exists()
    stack.start()
    stack.stop()
    for what in ("token", "password"):
        unknown = recover(stack, what, "nobody")
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert "there is no user nobody" in unknown.stderr
