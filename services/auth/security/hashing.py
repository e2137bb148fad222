"""Values of tokens and cookies, and their stored form: HMAC-SHA-512 under a key outside the database (decision 12).

An operator may choose a weak token; without the key, a stolen database can't be searched for it.
"""

from __future__ import annotations

import base64
import hmac
import secrets

from common.config import load_or_make_key
from services.auth.config import AuthSettings

MIN_KEY_BYTES = 32
TOKEN_BYTES = 64


class Hasher:
    """Keyed hashes of tokens and session cookies, each kind in a domain of its own."""

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"TIDEGATE_TOKEN_KEY must hold at least {MIN_KEY_BYTES} bytes")
        self._key = key

    def token(self, value: str) -> str:
        """The key under which an API token is looked up: 128 hex digits."""
        return self._digest(b"token", value).hex()

    def session(self, value: str) -> str:
        """The key under which a session cookie is looked up."""
        return self._digest(b"session", value).hex()

    def shown(self, value: str) -> str:
        """The stored form of a token, as the answer to the set-up shows it."""
        return "$tidegate-hmac-sha512$" + base64.urlsafe_b64encode(self._digest(b"token", value)).decode()

    def _digest(self, domain: bytes, value: str) -> bytes:
        return hmac.digest(self._key, domain + b"\0" + value.encode("utf-8", "surrogateescape"), "sha512")


def load_hasher(settings: AuthSettings) -> Hasher:
    """The hasher under the key given by setting, or kept (at first start: made) in the data folder."""
    if settings.token_key:
        return Hasher(settings.token_key.encode())
    return Hasher(load_or_make_key(settings.keys_folder / "token.key"))


def make_secret() -> str:
    """The value of an API token or of a session cookie: 64 random bytes, 88 characters."""
    return base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode()
