"""What the audit log may say: names, never what a user took for one."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest

from services.auth.access.verify import Credential
from services.auth.rest.request import Request
from services.auth.security.audit import Audit
from services.auth.security.hashing import make_secret
from services.auth.security.repeats import MAX_PLACES, TOLD_EACH, WINDOW_S, Repeats


@pytest.mark.parametrize(
    "secret",
    [make_secret(), make_secret().rstrip("="), jwt.encode({"username": "u", "exp": 1}, "k" * 32, algorithm="HS256")],
    ids=["token", "token without its padding", "JWT"],
)
async def test_a_secret_given_as_a_name_is_not_written(tmp_path: Path, secret: str) -> None:
    audit = Audit(str(tmp_path / "audit.log"))
    for name in (secret, f"name:{secret}", "x" * 200 + f" {secret}"):
        audit.record("credential.refused", "unauthorized", user=name)
    audit._write()
    text = (tmp_path / "audit.log").read_text()
    assert [json.loads(line)["user"][-3:] for line in text.splitlines()] == ["***"] * 3
    assert secret[:40] not in text


async def test_a_long_name_is_told_and_cut(tmp_path: Path) -> None:
    audit = Audit(str(tmp_path / "audit.log"))
    audit.record(
        "credential.refused", "unauthorized", user="a name " * 100, path="/api/v2/authorizations/0a1b2c3d4e5f6071"
    )
    audit._write()
    line = json.loads((tmp_path / "audit.log").read_text())
    assert line["user"] == ("a name " * 100)[:256]
    assert line["path"] == "/api/v2/authorizations/0a1b2c3d4e5f6071"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("result", ["unauthorized", "invalid", "not found"])
async def test_a_flood_of_failures_pushes_nothing_out_and_is_counted(tmp_path: Path, result: str) -> None:
    clock, path = Clock(), tmp_path / "audit.log"
    audit = Audit(str(path), clock_s=clock)
    for number in range(5000):
        audit.record("credential.refused", result, remote="10.0.0.1", user=f"u{number}")
    audit.record("credential.refused", "unauthorized", remote="10.0.0.2")
    audit.record("user.create", "ok", remote="10.0.0.1")
    audit._write()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == TOLD_EACH + 2
    assert lines[-1]["event"] == "user.create"
    clock.now_s = WINDOW_S
    audit._write()
    (last,) = [json.loads(line) for line in path.read_text().splitlines()][len(lines) :]
    del last["time"]
    assert last == {
        "event": "credential.refused", "result": "repeated", "remote": "10.0.0.1", "events": 5000 - TOLD_EACH,
    }  # fmt: skip
    audit.record("credential.refused", "unauthorized", remote="10.0.0.1")
    audit._write()
    assert len(path.read_text().splitlines()) == len(lines) + 2


def test_refusals_from_very_many_places_are_bounded_too() -> None:
    repeats = Repeats(Clock())
    told = sum(repeats.is_told("credential.refused", f"2001:db8::{n:x}") for n in range(MAX_PLACES + 1000))
    assert told == MAX_PLACES + TOLD_EACH


def test_what_a_log_would_print_of_a_call_holds_no_secret() -> None:
    shown = repr(Credential("v1", "basic", "telegraf", "hidden")) + repr(
        Request("POST", "/", secret="hidden", body=b"hidden")
    )
    assert "telegraf" in shown
    assert "hidden" not in shown
