"""Tokens of tests/cases/credentials/jwt.yaml, signed by hand: no library would make most of them."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass
from typing import Any

import yaml

from tests.rest_cases import CASES

HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
DEEP = "[" * 20_000


@dataclass(frozen=True, slots=True)
class JwtCase:
    """One row of the table: how the token is made, and what comes of it (*text* None = any)."""

    name: str
    status: int
    text: str | None
    spec: dict[str, Any]

    def token(self, username: str, secret: str, now_s: float) -> str:
        """The token for a user that is known, at a server with this secret."""
        if "token" in self.spec:
            whole: str = self.spec["token"]
            return whole
        header = _merged({"typ": "JWT", "alg": "HS256"}, self.spec.get("header", {}), now_s)
        claims = _merged({"username": username, "exp": {"now": 600}}, self.spec.get("claims", {}), now_s)
        payload = self.spec.get("payload", json.dumps(claims))
        payload = DEEP if payload == "deep" else payload.replace("<name>", username)
        key = self.spec.get("key", secret)
        return sign(json.dumps(header), payload, key, self.spec.get("algorithm") or header["alg"])


def jwt_cases() -> list[JwtCase]:
    rows = yaml.safe_load((CASES / "credentials" / "jwt.yaml").read_text())
    return [JwtCase(str(row["name"]), row["status"], row.get("text"), row) for row in rows]


def sign(header: str, payload: str, key: str, algorithm: str) -> str:
    """A token of these two texts; *algorithm* ``none`` leaves it unsigned."""
    text = f"{_part(header.encode())}.{_part(payload.encode())}"
    digest = hmac.digest(key.encode(), text.encode(), HASHES[algorithm]) if algorithm != "none" else b""
    return f"{text}.{_part(digest)}"


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _merged(good: dict[str, Any], changes: dict[str, Any], now_s: float) -> dict[str, Any]:
    merged = {name: _timed(value, now_s) for name, value in (good | changes).items()}
    return {name: value for name, value in merged.items() if value is not None}


def _timed(value: Any, now_s: float) -> Any:
    """``{now: n}`` as the time *n* seconds from now; whole seconds stay whole."""
    if not isinstance(value, dict) or "now" not in value:
        return value
    return (int(now_s) if isinstance(value["now"], int) else now_s) + value["now"]
