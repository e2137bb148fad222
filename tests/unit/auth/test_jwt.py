"""1.x shared-secret tokens (S11, S12)."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InfluxError, Unauthorized
from services.auth import jwt
from tests.unit.auth.world import JWT_SECRET, TOKEN, USER, World

NOW = 4_000_000_000
GOOD = {"username": USER, "exp": NOW + 600}


def signed(claims: Any = None, key: bytes = JWT_SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return pyjwt.encode(GOOD if claims is None else claims, key, algorithm, headers=header)


def crafted(header: Any, claims: Any = GOOD, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("algorithm", jwt.ALGORITHMS)
def test_each_hmac_is_taken(algorithm: str) -> None:
    assert jwt.read(signed(algorithm=algorithm), JWT_SECRET, NOW) == jwt.Claims(USER, (NOW + 600) * 1000)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("a.b", "token contains an invalid number of segments"),
        (crafted({"alg": "none"}), "unexpected signing method: none"),
        (crafted({"alg": "None"}), "signing method (alg) is unavailable."),
        (crafted({"alg": "nOnE"}), "signing method (alg) is unavailable."),
        (crafted({"alg": ["HS256"]}), "signing method (alg) is unavailable."),
        (crafted({}), "signing method (alg) is unavailable."),
        (crafted({"alg": "RS256"}), "unexpected signing method: RS256"),
        (signed(key=b"another key of more than thirty-two bytes"), "signature is invalid"),
        (signed(key=b"x" * 64, kid="/dev/null"), "signature is invalid"),
        (signed()[:-3], "signature is invalid"),
        (signed({"username": USER, "exp": NOW - 1}), "Token is expired"),
        (signed({"username": USER, "exp": NOW}), "Token is expired"),
        (signed({**GOOD, "iat": NOW + 60}), "Token used before issued"),
        (signed({**GOOD, "nbf": NOW + 60}), "Token is not valid yet"),
        (signed({"username": USER}), "token expiration required"),
        (signed({"username": USER, "exp": 0}), "token expiration required"),
        (crafted({"alg": "HS256"}, {"username": USER, "exp": str(NOW + 600)}), "signature is invalid"),
        (signed({"exp": NOW + 600}), "username in token must be a string"),
        (signed({"username": 7, "exp": NOW + 600}), "username in token must be a string"),
        (signed({"username": "", "exp": NOW + 600}), "token must contain a username"),
    ],
)
def test_what_is_refused_and_why(token: str, text: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        jwt.read(token, JWT_SECRET, NOW)
    assert str(caught.value) == text


@pytest.mark.parametrize("exp", [NOW + 600.5, 1e300, 10**30])
def test_an_odd_number_is_a_number(exp: float) -> None:
    assert jwt.read(signed({"username": USER, "exp": exp}), JWT_SECRET, NOW).expires_ms > NOW * 1000


@given(st.text(max_size=40).map(lambda text: f"{text}.{text}.{text}") | st.text(max_size=40))
def test_any_text_is_refused_not_a_fault(token: str) -> None:
    with pytest.raises(InfluxError):
        jwt.read(token, JWT_SECRET, NOW)


def test_a_short_secret_is_none() -> None:
    assert jwt.usable_secret("") is None
    assert jwt.usable_secret(" " * 40) is None
    assert jwt.usable_secret("x" * 15) is None
    assert jwt.usable_secret("my super secret pass phrase") == b"my super secret pass phrase"


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
