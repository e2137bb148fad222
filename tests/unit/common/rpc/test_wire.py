"""The framing and the signature of internal calls (S13, S14, B20 on the level of bytes)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid, Unauthorized, Unavailable
from common.rpc import wire
from common.rpc.parts import Pieces, read_part

KEYS = wire.Keys(b"k" * 32, (b"k" * 32, b"old" * 11))
NONCE = b"n" * wire.NONCE_BYTES
NOW = 1_700_000_000_000
HEAD = wire.encode_head({"a": 1})


def signed(**changes: object) -> str:
    given = {"method": "storage.plan", "audience": "storage", "caller": "query", "expires_ms": NOW + 20_000,
             "nonce": NONCE, "signed": HEAD, "keys": KEYS}  # fmt: skip
    return wire.sign_call(**(given | changes))  # type: ignore[arg-type]


def verify(
    header: str, method: str = "storage.plan", audience: str = "storage", head: bytes = HEAD, now: int = NOW
) -> bytes:
    return wire.verify_call(KEYS, wire.parse_claim(header), method, audience, head, now)


def test_a_signed_call_verifies() -> None:
    assert verify(signed()) == KEYS.signing


def test_a_call_signed_with_the_other_accepted_key_verifies() -> None:
    other = wire.Keys(KEYS.accepted[1], KEYS.accepted)
    assert verify(signed(keys=other)) == KEYS.accepted[1]


@pytest.mark.parametrize(
    ("header", "arguments"),
    [
        (signed(), {"method": "storage.fetch"}),
        (signed(), {"audience": "auth"}),
        (signed(), {"head": wire.encode_head({"a": 2})}),
        (signed(), {"now": NOW + 20_000}),
        (signed(expires_ms=NOW + 60_000), {}),
        (signed(keys=wire.Keys(b"x" * 32, (b"x" * 32,))), {}),
        (signed().replace(" query ", " ingest "), {}),
        (signed()[:-2], {}),
        ("", {}),
        ("1 query 1 2", {}),
        ("2" + signed()[1:], {}),
    ],
)
def test_an_altered_expired_or_misaddressed_call_is_refused(header: str, arguments: dict[str, object]) -> None:
    with pytest.raises(Unauthorized):
        verify(header, **arguments)  # type: ignore[arg-type]


def test_a_nonce_counts_once_for_as_long_as_a_call_lives() -> None:
    clock = [0]
    guard = wire.ReplayGuard(lambda: clock[0])
    guard.admit(NONCE)
    for later in (1, wire.LIFETIME_MS - 1, wire.LIFETIME_MS + wire.MAX_SKEW_MS):
        clock[0] = later
        with pytest.raises(Unauthorized):
            guard.admit(NONCE)


def test_the_guard_refuses_rather_than_forgets_at_its_bound() -> None:
    guard = wire.ReplayGuard(lambda: 0, max_nonces=2)
    guard.admit(b"1")
    guard.admit(b"2")
    with pytest.raises(Unavailable):
        guard.admit(b"3")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_invalid(junk: bytes) -> None:
    try:
        value = wire.decode_head(junk)
    except Invalid:
        return
    assert wire.decode_head(wire.encode_head(value)) == value or value != value


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        msgpack.packb({1: 2}),
        msgpack.packb(msgpack.ExtType(5, b"x" * 10)),
        msgpack.packb(1) + b"\x00",
        b"",
    ],
    ids=["deep", "array", "map", "bin", "int key", "ext", "trailing", "empty"],
)
def test_a_msgpack_bomb_is_invalid(bomb: bytes) -> None:
    with pytest.raises(Invalid):
        wire.decode_head(bomb)


def test_names_that_are_not_utf8_survive() -> None:
    name = b"caf\xe9\xff".decode("utf-8", "surrogateescape")
    assert wire.decode_head(wire.encode_head([name])) == [name]


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_the_seal_depends_on_each_part_and_where_it_ends(parts: list[bytes]) -> None:
    whole = wire.encode_call(KEYS, NONCE, HEAD, parts)[-1]
    if any(parts):
        joined = wire.encode_call(KEYS, NONCE, HEAD, [b"".join(parts)])[-1]
        assert (joined == whole) == (len(parts) == 1)
    changed = [*parts, b""]
    assert wire.encode_call(KEYS, NONCE, HEAD, changed)[-1] != whole


def test_a_call_does_not_change_its_form() -> None:
    whole = signed(form=wire.WHOLE)
    assert verify(whole) == KEYS.signing
    for altered in ("1" + whole[1:], "3" + whole[1:]):
        with pytest.raises(Unauthorized):
            verify(altered)


@given(
    st.lists(st.binary(max_size=300), max_size=4),
    st.lists(st.tuples(st.integers(0, 1300), st.one_of(st.none(), st.binary(max_size=3))), max_size=2),
)
async def test_parts_at_hand_are_those_that_come(parts: list[bytes], changes: list[tuple[int, bytes | None]]) -> None:
    body = b"".join(map(bytes, wire.encode_call(KEYS, NONCE, HEAD, parts)))
    for at, put in changes:  # cut there, or put something in place of a byte
        body = body[:at] if put is None else body[:at] + put + body[at + 1 :]

    async def come() -> list[object]:
        pieces, found = Pieces.of(body), []
        await pieces.take(len(HEAD))
        while True:
            part = await read_part(pieces, 1 << 30)
            found.append(part)
            if isinstance(part, wire.Closing):
                return found if await pieces.at_end() else ["Invalid"]

    try:
        if len(body) < len(HEAD):
            return
        split, closing = wire.split_parts(body, len(HEAD))
        got: list[object] = [*split, closing]
    except EOFError:
        got = ["EOFError"]
    except Invalid:
        got = ["Invalid"]
    try:
        wanted = await come()
    except EOFError:
        wanted = ["EOFError"]
    except Invalid:
        wanted = ["Invalid"]
    assert got == wanted


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 50))
async def test_a_frame_is_the_call_of_its_bytes_cut_anew(pieces: list[bytes], part_bytes: int) -> None:
    body = b"".join(pieces)

    async def come() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    framed = b"".join([bytes(b) async for b in wire.frame(KEYS.signing, NONCE, HEAD, come(), len(body), part_bytes)])
    parts = [body[at : at + part_bytes] for at in range(0, len(body), part_bytes)]
    assert framed == b"".join(wire.encode_call(KEYS, NONCE, HEAD, parts))
    assert len(framed) == len(HEAD) + wire.framed_bytes(len(body), part_bytes)
