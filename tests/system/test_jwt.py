"""1.x tokens (JWT) made by today's PyJWT, through the gateway (spec: 1.x authentication; cases S11 and S12)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
import requests

from tests.jwt_cases import jwt_cases, sign
from tests.stack import USER, Stack
from tests.system.security.figures import show
from tests.system.test_documented_requests import legacy

# The published program's own phrase: 27 bytes.
PHRASE = "my super secret pass phrase"


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("sharing"), {"INFLUXDB_HTTP_SHARED_SECRET": PHRASE}).start()
    yield stack
    stack.stop()


def ask(stack: Stack, token: str, q: str = "SHOW DATABASES") -> requests.Response:
    return stack.request("GET", "/query", None, params={"q": q}, headers={"Authorization": f"Bearer {token}"})


def soon() -> int:
    return int(time.time()) + 600


@pytest.fixture(scope="module")
def name(sharing: Stack) -> str:
    """A 1.x user who may read and write one bucket."""
    return legacy(sharing, "first")


def test_the_log_stays_one_json_object_a_line(sharing: Stack, name: str) -> None:
    for algorithm in ("HS256", "HS384", "HS512"):
        token = sign(f'{{"alg": "{algorithm}"}}', json.dumps({"username": name, "exp": soon()}), PHRASE, algorithm)
        assert ask(sharing, token).status_code == 200
    assert "Warning" not in sharing.log_path.read_text()


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
class TestWithASecret:
    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    @pytest.mark.parametrize("shift", [0, 0.5])
    def test_it_is_taken(self, sharing: Stack, name: str, algorithm: str, shift: float) -> None:
        token = jwt.encode({"username": name, "exp": soon() + shift}, PHRASE, algorithm=algorithm)
        assert ask(sharing, token).json()["results"][0]["series"][0]["values"] == [["first"]]

    def test_a_user_of_the_v2_api_may_be_named(self, sharing: Stack) -> None:
        token = jwt.encode({"username": USER, "exp": soon()}, PHRASE, algorithm="HS256")
        assert ["first"] in ask(sharing, token).json()["results"][0]["series"][0]["values"]

    def test_a_dropped_user_is_refused(self, sharing: Stack) -> None:
        sharing.query("CREATE USER leaving WITH PASSWORD 'x'")
        token = jwt.encode({"username": "leaving", "exp": soon()}, PHRASE, algorithm="HS256")
        assert ask(sharing, token).status_code == 200
        sharing.query("DROP USER leaving")
        deadline = time.monotonic() + 5
        while (answer := ask(sharing, token)).status_code == 200:
            assert time.monotonic() < deadline
        assert answer.json()["error"] == "user not found"


def test_s11_each_token_of_the_table_is_taken_or_refused_as_it_says(sharing: Stack, name: str) -> None:
    faults = []
    cases = jwt_cases()
    for case in cases:
        answer = ask(sharing, case.token(name, PHRASE, time.time()))
        dressed = answer.status_code == 200 or answer.headers.get("WWW-Authenticate") == 'Basic realm="InfluxDB"'
        said = case.text is None or answer.json()["error"] == case.text
        if answer.status_code != case.status or not dressed or not said:
            faults.append(f"{case.name}: {answer.status_code} {answer.text[:200]}")
    print("\n".join(faults))
    refusals = sum(case.status == 401 for case in cases)
    show("S11", f"{len(faults)}/{len(cases)}({refusals}refusals)", 0, not faults)


def refused(answer: requests.Response, text: str | None = None) -> None:
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="InfluxDB"'
    if text is not None:
        assert answer.json()["error"] == text


def test_s12_a_short_secret_is_off_or_warned_of(sharing: Stack, tmp_path: Path) -> None:
    """The published phrase, whose 27 bytes work, and one that is too short. Other lengths: tests/unit/auth."""
    assert PHRASE not in sharing.log_path.read_text()
    short = "fifteen-bytes-x"
    stack = Stack(tmp_path / "short", {"INFLUXDB_HTTP_SHARED_SECRET": short}).start()
    try:
        claims = json.dumps({"username": USER, "exp": soon()})
        refused(ask(stack, sign('{"alg": "HS256"}', claims, short, "HS256")))
        taken = ask(sharing, sign('{"alg": "HS256"}', claims, PHRASE, "HS256")).status_code
        off, warned = (
            log_lines(stack, "1.x tokens are off"),
            log_lines(sharing, "the shared key of 1.x tokens is short"),
        )
        assert short not in stack.log_path.read_text()
    finally:
        stack.stop()
    show("S12", f"{len(off)}+{len(warned)},{taken}", "1+1,200", (len(off), len(warned), taken) == (1, 1, 200))


def log_lines(stack: Stack, words: str) -> list[str]:
    return [line for line in stack.log_path.read_text().splitlines() if words in line]
