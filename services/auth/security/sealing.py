"""Secrets that have to be read again, encrypted as storage keeps them: AES-256-GCM under a key outside the database.

    sealed = "v1." key id (8 hex digits) "." base64url(nonce (12 bytes) ciphertext tag)

The organization and the name of a secret are authenticated with it: a value moved to another place in the database does
not open. Tokens and passwords are hashes instead (``hashing.py``). Source: docs/decisions/0032.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.config import CannotStart, load_or_make_key
from services.auth.config import AuthSettings

MIN_KEY_BYTES = 32
VERSION = "v1"
NONCE_BYTES, CIPHER_KEY_BYTES, ID_BYTES = 12, 32, 4
INFO = b"tidegate: secrets of organizations"


class CannotOpen(Exception):
    """Sealed under a key that is not there, or damaged, or moved from another place."""


class Sealer:
    """Seals under the first of *keys*, opens under any.

    Args:
        keys: 32 bytes or more each, of any form: what encrypts is derived from them.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < MIN_KEY_BYTES for key in keys):
            raise CannotStart(f"TIDEGATE_SECRETS_KEY must hold keys of at least {MIN_KEY_BYTES} bytes")
        derived = [HKDF(SHA256(), CIPHER_KEY_BYTES + ID_BYTES, None, INFO).derive(key) for key in keys]
        self._ciphers = {key[CIPHER_KEY_BYTES:].hex(): AESGCM(key[:CIPHER_KEY_BYTES]) for key in derived}
        self._current = derived[0][CIPHER_KEY_BYTES:].hex()

    def seal(self, value: str, place: str) -> str:
        """*value* encrypted; it opens at the same *place* only. Never twice the same."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, _encode(value), _encode(place))
        return f"{VERSION}.{self._current}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, place: str) -> str:
        """What was sealed. Raises CannotOpen."""
        version, _, rest = sealed.partition(".")
        key_id, _, text = rest.partition(".")
        cipher = self._ciphers.get(key_id)
        if version != VERSION or cipher is None:
            raise CannotOpen("sealed under a key that is not among TIDEGATE_SECRETS_KEY")
        try:
            raw = _decode_base64(text)
            opened = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _encode(place))
        except (InvalidTag, binascii.Error, ValueError):
            raise CannotOpen("damaged, or moved from another place") from None
        return opened.decode("utf-8", "surrogateescape")

    def is_current(self, sealed: str) -> bool:
        """Whether it is sealed under the first key."""
        return sealed.startswith(f"{VERSION}.{self._current}.")


def _decode_base64(text: str) -> bytes:
    """The bytes of *text*, if it is what ``seal`` writes of them. Raises ValueError.

    The library drops characters that are not of its alphabet, and bits of the last one that belong to no byte.
    """
    raw = base64.urlsafe_b64decode(text)
    if base64.urlsafe_b64encode(raw).decode() != text:
        raise ValueError("not the base64 of these bytes")
    return raw


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def load_sealer(settings: AuthSettings) -> Sealer:
    """The sealer under the keys given by setting, or kept (at first start: made) in the folder of the keys."""
    if settings.secrets_key:
        return Sealer([key.strip().encode() for key in settings.secrets_key.split(",") if key.strip()])
    return Sealer([load_or_make_key(settings.keys_folder / "secrets.key")])
