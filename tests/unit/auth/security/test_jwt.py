"""1.x shared-secret tokens (S11, S12)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InfluxError, Unauthorized
from services.auth.app import read_jwt_secret
from services.auth.config import AuthSettings
from services.auth.security import jwt
from tests.jwt_cases import JwtCase, jwt_cases
from tests.unit.auth.world import JWT_SECRET, TOKEN, USER, World

NOW = 4_000_000_000
GOOD = {"username": USER, "exp": NOW + 600}


def signed(claims: Any = None, key: bytes = JWT_SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return pyjwt.encode(GOOD if claims is None else claims, key, algorithm, headers=header)


@pytest.mark.parametrize("algorithm", jwt.ALGORITHMS)
def test_each_hmac_is_taken(algorithm: str) -> None:
    assert jwt.read(signed(algorithm=algorithm), JWT_SECRET, NOW) == jwt.Claims(USER, (NOW + 600) * 1000)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("a.b", "token contains an invalid number of segments"),
        (signed()[:-3], "signature is invalid"),
        (signed({"username": USER, "exp": NOW}), "Token is expired"),
    ],
)
def test_what_is_refused_and_why(token: str, text: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        jwt.read(token, JWT_SECRET, NOW)
    assert str(caught.value) == text


@pytest.mark.parametrize("case", jwt_cases(), ids=lambda case: case.name)
async def test_it_is_as_the_table_says(case: JwtCase) -> None:
    world = World()
    await world.set_up()
    token = case.token(USER, JWT_SECRET.decode(), world.now_ns() / 1e9)
    if case.status == 200:
        assert (await world.identity(token, "bearer", dialect="v1")).kind == "jwt"
        return
    with pytest.raises(Unauthorized) as caught:
        await world.identity(token, "bearer", dialect="v1")
    assert case.text in (None, str(caught.value))


@pytest.mark.parametrize("exp", [NOW + 600.5, 1e300, 10**30])
def test_an_odd_number_is_a_number(exp: float) -> None:
    assert jwt.read(signed({"username": USER, "exp": exp}), JWT_SECRET, NOW).expires_ms > NOW * 1000


@given(st.text(max_size=40).map(lambda text: f"{text}.{text}.{text}") | st.text(max_size=40))
def test_any_text_is_refused_not_a_fault(token: str) -> None:
    with pytest.raises(InfluxError):
        jwt.read(token, JWT_SECRET, NOW)


@pytest.mark.parametrize(
    ("secret", "usable", "said"),
    [
        ("", False, None),
        (" " * 40, False, "1.x tokens are off: their shared key is too short"),
        ("x" * 15, False, "1.x tokens are off: their shared key is too short"),
        ("Ä" * 8, True, "the shared key of 1.x tokens is short"),
        ("x" * 16, True, "the shared key of 1.x tokens is short"),
        ("my super secret pass phrase", True, "the shared key of 1.x tokens is short"),
        ("x" * 31, True, "the shared key of 1.x tokens is short"),
        ("x" * 32, True, None),
    ],
)
def test_a_short_secret_is_none_or_warned_of(secret: str, usable: bool, said: str | None) -> None:
    settings = AuthSettings(data=Path("/nonexistent"), jwt_secret=secret)
    with structlog.testing.capture_logs() as told:
        given = read_jwt_secret(settings)
    assert given == (secret.encode() if usable else None)
    assert [line["event"] for line in told] == ([said] if said else [])
    assert not secret.strip() or secret not in repr(told)


async def test_it_names_a_legacy_authorization_first_then_a_user() -> None:
    world = World()
    made = await world.set_up()
    identity = await world.identity(signed(), "bearer", dialect="v1")
    assert (identity.kind, identity.user_id, identity.org_id) == ("jwt", made.user.id, made.org.id)
    assert identity.expires_ms == (NOW + 600) * 1000
    body = {"orgID": made.org.id, "token": USER, "permissions": [{"action": "read", "resource": {"type": "buckets"}}]}
    headers = {"authorization": f"Token {TOKEN}"}
    answer = await world.send("POST", "/legacy/authorizations", headers, json.dumps(body).encode())
    assert answer.status == 201
    identity = await world.identity(signed(), "bearer", dialect="v1")
    assert identity.credential_id == json.loads(answer.body)["id"]
    assert not identity.may("write", "buckets")


async def test_it_ends_with_its_time_and_with_its_user_and_is_none_on_v2_paths() -> None:
    world = World()
    await world.set_up()
    await world.identity(signed(), "bearer", dialect="v1")
    with pytest.raises(Unauthorized, match="unauthorized access"):
        await world.identity(signed(), "bearer")
    with pytest.raises(Unauthorized, match="user not found"):
        await world.identity(signed({"username": "nobody", "exp": NOW + 600}), "bearer", dialect="v1")
    world.shift_ns = (NOW + 601) * 10**9 - time.time_ns()
    with pytest.raises(Unauthorized, match="Token is expired"):
        await world.identity(signed(), "bearer", dialect="v1")
