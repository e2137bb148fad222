"""The image's environment names and their ``_FILE`` twins; what makes auth refuse to start."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from services.auth import __main__ as main
from services.auth.config import AuthSettings
from services.auth.setup.first_start import read_wanted

NAMES = ("USERNAME", "PASSWORD", "ORG", "BUCKET", "RETENTION", "ADMIN_TOKEN")


def test_each_name_may_be_given_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_INFLUXDB_INIT_MODE", "setup")
    for name in NAMES:
        value = "72h30m" if name == "RETENTION" else f"the {name.lower()}"
        (tmp_path / name).write_text(value + "\n")
        monkeypatch.setenv(f"DOCKER_INFLUXDB_INIT_{name}_FILE", str(tmp_path / name))
    wanted = read_wanted(AuthSettings())
    assert wanted is not None
    assert (wanted.username, wanted.password, wanted.org) == ("the username", "the password", "the org")
    assert (wanted.bucket, wanted.retention_s, wanted.token) == ("the bucket", 261_000, "the admin_token")


def test_without_a_mode_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_INFLUXDB_INIT_USERNAME", "somebody")
    assert read_wanted(AuthSettings()) is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TIDEGATE_TOKEN_KEY", "a-secret-too-short", "TIDEGATE_TOKEN_KEY must hold at least 32 bytes"),
        ("TIDEGATE_BCRYPT_COST", "a-secret", "setting bcrypt_cost"),
        ("DOCKER_INFLUXDB_INIT_PASSWORD_FILE", "/nonexistent/file", "/nonexistent/file"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_the_start_with_one_line(
    name: str,
    value: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    monkeypatch.setenv(name, value)
    assert main.start() == 1
    structlog.reset_defaults()  # it logs to what is captured here only
    structlog.contextvars.clear_contextvars()
    printed = capsys.readouterr().err
    assert said in printed
    assert "a-secret" not in printed
