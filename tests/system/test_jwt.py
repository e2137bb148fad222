"""1.x tokens (JWT) made by today's PyJWT, through the gateway (spec: 1.x authentication; cases S11 and S12)."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from tests.stack import USER, Stack
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

    @pytest.mark.parametrize(
        ("claims", "text"),
        [
            ({"exp": 1}, "Token is expired"),
            ({"exp": None}, "token expiration required"),
            ({"username": ""}, "token must contain a username"),
            ({"username": None}, "username in token must be a string"),
            ({"username": "nobody"}, "user not found"),
            ({"nbf": 1 << 33}, "Token is not valid yet"),
            ({"iat": 1 << 33}, "Token used before issued"),
        ],
    )
    def test_wrong_claims_are_named(self, sharing: Stack, name: str, claims: dict[str, Any], text: str) -> None:
        given = {key: value for key, value in ({"username": name, "exp": soon()} | claims).items() if value is not None}
        refused(ask(sharing, jwt.encode(given, PHRASE, algorithm="HS256")), text)

    def test_an_expiry_as_text_is_none(self, sharing: Stack, name: str) -> None:
        refused(
            ask(sharing, signed({"alg": "HS256"}, {"username": name, "exp": str(soon())})), "token expiration required"
        )

    @pytest.mark.parametrize("exp", [1e300, 1 << 80, -1, 0])
    def test_a_strange_number_is_an_answer_and_no_fault(self, sharing: Stack, name: str, exp: float) -> None:
        assert ask(sharing, signed({"alg": "HS256"}, {"username": name, "exp": exp})).status_code in (200, 401)

    @pytest.mark.parametrize("key", ["wrong secret, long enough to be one", ""])
    def test_a_wrong_secret_is_refused(self, sharing: Stack, name: str, key: str) -> None:
        claims = {"username": name, "exp": soon()}
        refused(ask(sharing, signed({"alg": "HS256"}, claims, key)), "signature is invalid")

    @pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "RS256", "ES256", "hs256", ""])
    def test_another_algorithm_is_refused(self, sharing: Stack, name: str, algorithm: str) -> None:
        token = signed({"alg": algorithm, "kid": "../../../../dev/null"}, {"username": name, "exp": soon()})
        refused(ask(sharing, token))
        refused(ask(sharing, token.rpartition(".")[0] + "."))

    def test_a_key_id_opens_no_file(self, sharing: Stack, name: str) -> None:
        claims = {"username": name, "exp": soon()}
        refused(ask(sharing, signed({"alg": "HS256", "kid": "/dev/null"}, claims, "")), "signature is invalid")


def signed(header: dict[str, Any], claims: dict[str, Any], key: str = PHRASE) -> str:
    """A token that PyJWT would not make: any header, HMAC-SHA-256 whatever it says."""

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    text = f"{part(json.dumps({'typ': 'JWT', **header}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{text}.{part(hmac.digest(key.encode(), text.encode(), 'sha256'))}"


def refused(answer: requests.Response, text: str | None = None) -> None:
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="InfluxDB"'
    if text is not None:
        assert answer.json()["error"] == text


@pytest.mark.parametrize("secret", ["", "   ", "fifteen-bytes-x"])
def test_with_a_secret_too_short_nothing_signed_is_taken(tmp_path: Path, secret: str) -> None:
    stack = Stack(tmp_path / "stack", {"INFLUXDB_HTTP_SHARED_SECRET": secret}).start()
    try:
        token = signed({"alg": "HS256"}, {"username": USER, "exp": soon()}, secret)
        refused(ask(stack, token))
        if secret.strip():
            assert "1.x tokens are off" in stack.log_path.read_text()
            assert secret not in stack.log_path.read_text()
    finally:
        stack.stop()
