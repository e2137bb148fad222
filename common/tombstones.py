"""Tombstones: what a delete hides, and of which series · pure.

A tombstone hides the rows in ``[start_ns, stop_ns)`` of some series of one measurement in every segment that was made
before it; one whose range is empty hides nothing, and says which series may be left without rows. Series are named by
their sequence numbers in the dictionary, which never change while the measurement lives: a bit each, so a delete
of half of a million series is 125 KB, and a series that is born later is never hit.

    choice = %x00                  ; all
           / %x01 *number(4)       ; these sequence numbers, ascending
           / %x02 *octet           ; a bit a series, from the lowest bit of the first octet on
                                   ; numbers are little-endian
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import Invalid
from common.segment import Block

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]
_ALL, _LIST, _BITS = b"\x00", b"\x01", b"\x02"
MAX_CHOICE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One delete on one measurement.

    Attributes:
        number: number of the change that made it; it hides what was made before.
        series: the choice of series, encoded.
    """

    number: int
    start_ns: int
    stop_ns: int
    series: bytes

    @property
    def is_settled(self) -> bool:
        """Whether no row is hidden by it any more."""
        return self.start_ns >= self.stop_ns

    @property
    def is_whole(self) -> bool:
        """Whether it is of all series."""
        return self.series[:1] == _ALL

    def touches(self, first_ns: int, last_ns: int) -> bool:
        """Whether rows from *first_ns* to *last_ns* may lie in its range."""
        return not self.is_settled and self.start_ns <= last_ns and self.stop_ns > first_ns

    def covers(self, first_ns: int, last_ns: int) -> bool:
        """Whether all rows from *first_ns* to *last_ns* lie in its range."""
        return self.start_ns <= first_ns and self.stop_ns > last_ns

    def to_wire(self) -> list[Any]:
        return [self.number, self.start_ns, self.stop_ns, self.series]

    @classmethod
    def from_wire(cls, packed: Sequence[Any]) -> Tombstone:
        number, start_ns, stop_ns, series = packed
        return cls(number, start_ns, stop_ns, bytes(series))


def encode_all() -> bytes:
    """The choice of all series."""
    return _ALL


def encode_choice(mask: Mask) -> bytes:
    """The choice of the series where *mask* (one bool a sequence number) says so, in the shorter form."""
    return _shorter(np.packbits(mask, bitorder="little"))


def check_choice(choice: bytes) -> None:
    """Raises Invalid unless *choice* has one of the forms."""
    form, body = choice[:1], choice[1:]
    if len(choice) <= MAX_CHOICE_BYTES and (
        (form == _ALL and not body) or (form == _LIST and len(body) % 4 == 0) or form == _BITS
    ):
        return
    raise Invalid("a choice of series has no known form")


def is_chosen(choice: bytes, numbers: Numbers) -> Mask:
    """Which of the series with these sequence numbers are in *choice*; −1 is none."""
    form = choice[:1]
    if form == _ALL:
        return np.ones(len(numbers), np.bool_)
    if form == _LIST:
        return np.isin(numbers, np.frombuffer(choice, "<u4", offset=1).astype(np.int64))
    bits = np.frombuffer(choice, np.uint8, offset=1)
    at = numbers >> 3
    inside = (numbers >= 0) & (at < len(bits))
    found = np.zeros(len(numbers), np.bool_)
    found[inside] = (bits[at[inside]] >> (numbers[inside] & 7).astype(np.uint8)) & 1
    return found


def count_chosen(choice: bytes, count: int) -> int:
    """How many of *count* series are in *choice*, at most."""
    if choice[:1] == _ALL:
        return count
    if choice[:1] == _LIST:
        return len(choice) // 4
    return int(np.bitwise_count(np.frombuffer(choice, np.uint8, offset=1)).sum())


def choice_mask(choice: bytes, count: int) -> Mask:
    """The choice as one bool for each of *count* series."""
    return is_chosen(choice, np.arange(count))


def unite(choices: Iterable[bytes]) -> bytes:
    """The choice of all series that are in any of *choices*."""
    known = list(dict.fromkeys(choices))
    if len(known) == 1:
        return known[0]
    if _ALL in known:
        return _ALL
    return _shorter(_united_bits(known))


def covers_all(choices: Iterable[bytes], count: int) -> bool:
    """Whether each of *count* series is in one of *choices*; 0.1 ms for a million."""
    known = list(dict.fromkeys(choices))
    if _ALL in known:
        return True
    if sum(count_chosen(choice, count) for choice in known) < count:
        return False
    # Numbers from count on are in no choice.
    return int(np.bitwise_count(_united_bits(known)).sum()) == count


def _united_bits(choices: Sequence[bytes]) -> NDArray[np.uint8]:
    """The union of *choices*, none of which is all, a bit a series."""
    united = np.zeros(-(-max((_reach(choice) for choice in choices), default=0) // 8), np.uint8)
    for choice in choices:
        if choice[:1] == _BITS:
            bits = np.frombuffer(choice, np.uint8, offset=1)
            united[: len(bits)] |= bits
        else:
            numbers = np.frombuffer(choice, "<u4", offset=1)
            np.bitwise_or.at(united, numbers >> 3, np.left_shift(1, numbers & 7).astype(np.uint8))
    return united


def _shorter(bits: NDArray[np.uint8]) -> bytes:
    if 4 * int(np.bitwise_count(bits).sum()) < len(bits):
        return _LIST + np.flatnonzero(np.unpackbits(bits, bitorder="little")).astype("<u4").tobytes()
    return _BITS + bits.tobytes()


def _reach(choice: bytes) -> int:
    """One more than the greatest sequence number that may be in it."""
    if choice[:1] == _BITS:
        return 8 * (len(choice) - 1)
    chosen = np.frombuffer(choice, "<u4", offset=1)
    return int(chosen[-1]) + 1 if len(chosen) else 0


def pending(tombstones: Iterable[Tombstone], applied: int, first_ns: int, last_ns: int) -> list[Tombstone]:
    """Those that may hide rows of a segment.

    Args:
        applied: number up to which deletes are applied in the segment.
        first_ns, last_ns: times of its first and last row.
    """
    return [stone for stone in tombstones if stone.number > applied and stone.touches(first_ns, last_ns)]


def hidden_rows(block: Block, hidden: Sequence[tuple[int, int, Mask | None]]) -> Mask:
    """Which rows of *block* tombstones hide, one bool a row.

    Args:
        hidden: (start_ns, stop_ns, mask over the series of the block; None = all) of each tombstone.
    """
    gone = np.zeros(block.rows, np.bool_)
    for start_ns, stop_ns, mask in hidden:
        rows = np.ones(block.rows, np.bool_) if mask is None else np.repeat(mask, np.diff(block.offsets))
        gone |= rows & (block.times >= start_ns) & (block.times < stop_ns)
    return gone
