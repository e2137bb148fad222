"""What the audit log may say: names, never what a user took for one."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest

from services.auth.audit import Audit
from services.auth.id_maker import make_secret
from services.auth.request import Request
from services.auth.verify import Credential


@pytest.mark.parametrize(
    "secret",
    [make_secret(), make_secret().rstrip("="), jwt.encode({"username": "u", "exp": 1}, "k" * 32, algorithm="HS256")],
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


def test_what_a_log_would_print_of_a_call_holds_no_secret() -> None:
    shown = repr(Credential("v1", "basic", "telegraf", "hidden")) + repr(
        Request("POST", "/", secret="hidden", body=b"hidden")
    )
    assert "telegraf" in shown
    assert "hidden" not in shown
