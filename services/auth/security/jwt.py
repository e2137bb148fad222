"""The 1.x shared-secret token: a JWT that names a user · pure.

Only HMAC with SHA-256, 384 or 512: what the header asks for never chooses anything else. Source: InfluxDB 1.12,
"Shared-secret JWT"; order of checks and texts are its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jwt as pyjwt

from common.errors import Unauthorized

ALGORITHMS = ("HS256", "HS384", "HS512")
# Known to the library of 1.x, but of another family.
OTHER_ALGORITHMS = frozenset(
    ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA", "none")
)
MIN_SECRET_BYTES, GOOD_SECRET_BYTES = 16, 32
# The year 9999: past it a time is as good as that.
MAX_TIME_S = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. ``expires_ms`` is Unix time."""

    username: str
    expires_ms: int


def usable_secret(secret: str) -> bytes | None:
    """The bytes of a configured secret; None for one so short (or empty) that the feature stays off."""
    encoded = secret.strip().encode("utf-8", "surrogateescape")
    return encoded if len(encoded) >= MIN_SECRET_BYTES else None


def looks_like(value: str) -> bool:
    """Whether a Bearer value is tried as a JWT: it has two dots, which no generated API token has."""
    return value.count(".") == 2


def read(token: str, secret: bytes, now_s: float) -> Claims:
    """The claims of a token signed with *secret*. Raises Unauthorized with 1.x's text."""
    claims = _verified(token, secret)
    expires_s = _number(claims.get("exp"))
    if expires_s is not None and 0 < expires_s <= now_s:
        raise Unauthorized("Token is expired")
    if (_number(claims.get("iat")) or 0) > now_s:
        raise Unauthorized("Token used before issued")
    if (_number(claims.get("nbf")) or 0) > now_s:
        raise Unauthorized("Token is not valid yet")
    if expires_s is None or expires_s <= 0:
        raise Unauthorized("token expiration required")
    username = claims.get("username")
    if not isinstance(username, str):
        raise Unauthorized("username in token must be a string")
    if not username:
        raise Unauthorized("token must contain a username")
    return Claims(username, int(min(expires_s, MAX_TIME_S) * 1000))


def _verified(token: str, secret: bytes) -> dict[str, Any]:
    """The payload, once algorithm and signature are right."""
    if not looks_like(token):
        raise Unauthorized("token contains an invalid number of segments")
    try:
        algorithm = pyjwt.get_unverified_header(token).get("alg")
        if algorithm not in ALGORITHMS:
            known = isinstance(algorithm, str) and algorithm in OTHER_ALGORITHMS
            raise Unauthorized(
                f"unexpected signing method: {algorithm}" if known else "signing method (alg) is unavailable."
            )
        payload: dict[str, Any] = pyjwt.decode(
            token,
            secret,
            algorithms=list(ALGORITHMS),
            # Times and names are checked here, in 1.x's order and against a given clock.
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except pyjwt.InvalidSignatureError:
        raise Unauthorized("signature is invalid") from None
    except pyjwt.PyJWTError as error:
        raise Unauthorized(str(error)) from None
    except (ValueError, RecursionError):
        raise Unauthorized("token is malformed") from None
    return payload


def _number(value: Any) -> float | None:
    """A numeric claim; None if it is none (Python reads NaN, Infinity and 1e999, which are no JSON numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return float(max(-MAX_TIME_S, min(value, MAX_TIME_S)))
    return value if math.isfinite(value) else None
