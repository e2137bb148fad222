"""The form and the signature of an internal call, as bytes · pure.

A call or answer is a sequence of msgpack objects: the *head* (any object), then *parts* (bin objects), then one
closing ext object. Names that are not UTF-8 travel as str with surrogate escapes.

    call    = head part* (seal | end)      ; length of head in the header X-Tidegate-Head
    answer  = head part* end
    part    = bin8 | bin16 | bin32
    seal    = ext8 len=16 type=1 Poly1305(HMAC-SHA256(key, "parts" nonce), part payloads, each behind its length)
    end     = ext8 len=0  type=2

The header ``X-Tidegate-Call: <form> <caller> <expires_ms> <nonce> <mac>`` holds an HMAC-SHA256 over form, method,
audience, caller, expiry, nonce and a SHA-256. Of a call of form 1 that is of its head: a receiver reads nothing else
before it has checked the MAC, and acts on no part before it has checked the seal at the end. Of a call of form 2, which
is short, it is of the whole body, which needs no seal then: two MACs fewer. Source: docs/rpc.md.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
from cryptography.hazmat.primitives.poly1305 import Poly1305

from common.errors import Invalid, Unauthorized, Unavailable

CALL_HEADER = "X-Tidegate-Call"
HEAD_HEADER = "X-Tidegate-Head"
CONTENT_TYPE = "application/msgpack"
LIFETIME_MS = 30_000
# A clock may be this far ahead of ours before its calls are refused.
MAX_SKEW_MS = 5_000
MAX_HEAD_BYTES = 4 << 20
NONCE_BYTES = 16
SEAL_BYTES = 16
SEAL_CODE, END_CODE = 1, 2
SEALED, WHOLE = "1", "2"
# Of the body of a call of form 2.
MAX_WHOLE_BYTES = 64 << 10
SEAL_PREFIX = bytes((0xC7, SEAL_BYTES, SEAL_CODE))
END = bytes((0xC7, 0, END_CODE))
# Any error of a called method; its code is in the head. 401 and 400 speak of the call itself.
STATUS_OF_ERROR = 460
_LENGTH = struct.Struct(">I")

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Keys:
    """The shared key that signs, and all those whose signatures are taken (two during a rotation)."""

    signing: bytes
    accepted: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CallClaim:
    """What the header of a call says; nothing in it is true before ``verify_call``."""

    form: str
    caller: str
    expires_ms: int
    nonce: bytes
    mac: bytes


def encode_head(head: Any) -> bytes:
    """*head* as msgpack; str may hold surrogate escapes."""
    packed: bytes = msgpack.packb(head, use_bin_type=True, unicode_errors="surrogateescape")
    return packed


def decode_head(head: Buffer) -> Any:
    """One msgpack object that fills *head* exactly. Raises Invalid on anything else."""
    size = len(head)
    try:
        return msgpack.unpackb(
            head, raw=False, strict_map_key=True, unicode_errors="surrogateescape", ext_hook=_refuse_ext,
            max_str_len=size, max_bin_len=size, max_array_len=size, max_map_len=size,
        )  # fmt: skip
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise Invalid(f"cannot decode the head of a call: {type(error).__name__}") from None


def _refuse_ext(code: int, payload: bytes) -> Any:
    raise ValueError(f"ext type {code} in a head")


def part_prefix(size: int) -> bytes:
    """The msgpack header of a bin object of *size* bytes."""
    if size < 1 << 8:
        return bytes((0xC4, size))
    if size < 1 << 16:
        return b"\xc5" + size.to_bytes(2, "big")
    return b"\xc6" + size.to_bytes(4, "big")


class Seal:
    """Running authenticator of the parts of one call, in order: Poly1305 under a key that only this call has.

    A tenth of what a SHA-256 costs over large parts: docs/decisions/0059-large-bodies.md.
    """

    __slots__ = ("_mac",)

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._mac = Poly1305(hmac.digest(key, b"parts" + nonce, "sha256"))

    def begin(self, size: int) -> None:
        """A part of *size* bytes follows."""
        self._mac.update(_LENGTH.pack(size))

    def update(self, piece: Buffer) -> None:
        """The next bytes of the part."""
        self._mac.update(piece)

    def add(self, part: Buffer) -> None:
        """A whole part."""
        self._mac.update(_LENGTH.pack(len(part)))
        self._mac.update(part)

    def finish(self) -> bytes:
        """The seal of all that was added; nothing can be added any more."""
        return self._mac.finalize()


def sign_call(
    keys: Keys,
    method: str,
    audience: str,
    caller: str,
    expires_ms: int,
    nonce: bytes,
    signed: Buffer,
    form: str = SEALED,
) -> str:
    """The value of the ``X-Tidegate-Call`` header for one call; *signed*: its head, or its body by its *form*."""
    mac = _mac(keys.signing, form, method, audience, caller, expires_ms, nonce, signed)
    return f"{form} {caller} {expires_ms} {nonce.hex()} {mac.hex()}"


def parse_claim(header: str) -> CallClaim:
    """Read the header of a call. Raises Unauthorized when it has another form."""
    try:
        form, caller, expires, nonce, mac = header.split(" ")
        claim = CallClaim(form, caller, int(expires), bytes.fromhex(nonce), bytes.fromhex(mac))
    except ValueError:
        raise Unauthorized("the call is not signed") from None
    if form not in (SEALED, WHOLE) or len(claim.nonce) != NONCE_BYTES:
        raise Unauthorized("the call is not signed")
    return claim


def verify_call(keys: Keys, claim: CallClaim, method: str, audience: str, signed: Buffer, now_ms: int) -> bytes:
    """Check MAC and expiry of a call.

    Args:
        signed: its head, or its body by the form of *claim*.

    Returns:
        The key that signed it, to check the seal with.
    Raises:
        Unauthorized: another key, method, audience, head or body, or out of its time.
    """
    if not now_ms < claim.expires_ms <= now_ms + LIFETIME_MS + MAX_SKEW_MS:
        raise Unauthorized("the call has expired")
    for key in keys.accepted:
        expected = _mac(key, claim.form, method, audience, claim.caller, claim.expires_ms, claim.nonce, signed)
        if hmac.compare_digest(expected, claim.mac):
            return key
    raise Unauthorized("the signature of the call is wrong")


def _mac(
    key: bytes, form: str, method: str, audience: str, caller: str, expires_ms: int, nonce: bytes, signed: Buffer
) -> bytes:
    text = f"tidegate-call\n{form}\n{method}\n{audience}\n{caller}\n{expires_ms}\n".encode()
    return hmac.digest(key, text + nonce + hashlib.sha256(signed).digest(), "sha256")


def encode_call(keys: Keys, nonce: bytes, head: bytes, parts: Sequence[Buffer]) -> list[Buffer]:
    """The pieces of a call whose parts are all at hand, seal included."""
    seal = Seal(keys.signing, nonce)
    pieces: list[Buffer] = [head]
    for part in parts:
        seal.add(part)
        pieces += (part_prefix(len(part)), part)
    pieces.append(SEAL_PREFIX + seal.finish())
    return pieces


def encode_whole(head: bytes, parts: Sequence[Buffer]) -> bytes:
    """The body of a call or an answer that is closed by the end of all."""
    pieces: list[Buffer] = [head]
    for part in parts:
        pieces += (part_prefix(len(part)), part)
    pieces.append(END)
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Closing:
    """What closes a call or an answer: the code of an ext object and its bytes."""

    code: int
    payload: bytes


def split_parts(body: bytes, at: int) -> tuple[list[bytes], Closing]:
    """The parts of a body that is all there, its head ending at *at*, and what closes them.

    Raises:
        Invalid: it is no sequence of parts.
        EOFError: it is cut.
    """
    parts: list[bytes] = []
    while True:
        kind = body[at : at + 1]
        if kind == b"\xc7":
            stop = at + 3 + body[at + 1] if at + 3 <= len(body) else len(body) + 1
            if stop > len(body):
                raise EOFError("a body is cut")
            if stop < len(body):
                raise Invalid("bytes after the end of a call")
            return parts, Closing(body[at + 2], body[at + 3 : stop])
        width = _WIDTHS.get(kind)
        if width is None:
            raise Invalid("a part of a call is not a bin object") if kind else EOFError("a body is cut")
        start = at + 1 + width
        at = start + int.from_bytes(body[at + 1 : start], "big")
        if start > len(body) or at > len(body):
            raise EOFError("a body is cut")
        parts.append(body[start:at])


# Bytes of the length of a bin object, by its first byte.
_WIDTHS = {b"\xc4": 1, b"\xc5": 2, b"\xc6": 4}


def framed_bytes(size: int, part_bytes: int) -> int:
    """How long ``frame`` makes *size* bytes, without the head."""
    whole, rest = divmod(size, part_bytes)
    prefixes = whole * len(part_prefix(part_bytes)) + (len(part_prefix(rest)) if rest else 0)
    return prefixes + size + len(SEAL_PREFIX) + SEAL_BYTES


async def frame(
    key: bytes, nonce: bytes, head: bytes, pieces: AsyncIterable[Buffer], size: int, part_bytes: int
) -> AsyncGenerator[Buffer, None]:
    """A call whose parts are *size* bytes in *pieces*, cut into parts of *part_bytes*, the last one shorter.

    Raises Invalid when they are more or fewer bytes.
    """
    seal = Seal(key, nonce)
    yield head
    left, room = size, 0
    async for piece in pieces:
        rest = memoryview(piece)
        if len(rest) > left:
            raise Invalid(f"a body is longer than its {size} bytes")
        while rest:
            if not room:
                room = min(part_bytes, left)
                seal.begin(room)
                yield part_prefix(room)
            fitting = rest[:room]
            seal.update(fitting)
            yield fitting
            room -= len(fitting)
            left -= len(fitting)
            rest = rest[len(fitting) :]
    if left:
        raise Invalid(f"a body is {left} bytes shorter than its {size}")
    yield SEAL_PREFIX + seal.finish()


class ReplayGuard:
    """Nonces seen within the life of a call, bounded.

    Two sets are swapped every ``LIFETIME_MS + MAX_SKEW_MS``, so a nonce is remembered for at least that long and
    forgotten after twice as long.
    """

    def __init__(self, clock_ms: Callable[[], int], max_nonces: int = 1_000_000) -> None:
        self._clock_ms = clock_ms
        self._max = max_nonces
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._swap_at_ms = clock_ms() + LIFETIME_MS + MAX_SKEW_MS

    def admit(self, nonce: bytes) -> None:
        """Remember *nonce*. Raises Unauthorized if it was seen before, Unavailable at the bound."""
        now_ms = self._clock_ms()
        if now_ms >= self._swap_at_ms:
            self._old, self._young = self._young, set()
            self._swap_at_ms = now_ms + LIFETIME_MS + MAX_SKEW_MS
        if nonce in self._young or nonce in self._old:
            raise Unauthorized("the call was seen before")
        if len(self._young) >= self._max:
            raise Unavailable("too many internal calls within the life of their signatures")
        self._young.add(nonce)
