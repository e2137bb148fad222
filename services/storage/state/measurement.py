"""A measurement as storage holds it: field types, series, segments, tombstones, and what of it is lost · pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common import board
from common.model import MAX_TIME_NS, MIN_TIME_NS, FieldType
from common.tombstones import Tombstone, covers_all, encode_choice
from services.storage.state.blocks import Segment
from services.storage.state.generations import generation_of
from services.storage.state.removals import Removals
from services.storage.state.series import SeriesSet

# shard start → field → type
FieldTypes = dict[int, dict[str, FieldType]]
# Least number of a tombstone over lost series: no segment is newer, and none has it worked in.
LOST = 1 << 62


@dataclass(slots=True)
class Measurement:
    """A measurement of a bucket.

    Attributes:
        id: never used again: one that is dropped and made again has another.
        version: number of the last change of its segments, series or tombstones.
        tombstones: by number; at most one is settled.
        epoch: how often its dictionary has been written anew.
        removals: which segments went out since it was made, loaded or written anew.
        lost_series: ranges of sequence numbers of series whose tag keys or ids are damaged: they are not served.
        word: where its slot on the board is.
    """

    id: int
    bucket_id: str
    name: str
    version: int
    fields: FieldTypes = field(default_factory=dict)
    series: SeriesSet = field(default_factory=SeriesSet)
    segments: dict[int, Segment] = field(default_factory=dict)
    tombstones: tuple[Tombstone, ...] = ()
    lost_series: tuple[tuple[int, int], ...] = ()
    epoch: int = 0
    removals: Removals = field(init=False)
    word: int = field(init=False)

    def __post_init__(self) -> None:
        self.word = board.word_of(self.bucket_id, self.name)
        self.removals = Removals(self.version)

    @property
    def generation(self) -> int:
        """Which numbering of its series is in force."""
        return generation_of(self.id, self.epoch)

    @property
    def settled(self) -> Tombstone | None:
        """The tombstone that hides nothing and says which series may be left without rows."""
        return next((stone for stone in self.tombstones if stone.is_settled), None)

    @property
    def is_in_doubt(self) -> bool:
        """Whether deletes have been on all of its series, so that it may hold no row any more."""
        stones = self.hiding
        return bool(stones) and covers_all((stone.series for stone in stones), self.series.count)

    @property
    def hiding(self) -> tuple[Tombstone, ...]:
        """Its tombstones, and one over all series that are lost: their rows are kept, and hidden."""
        if not self.lost_series:
            return self.tombstones
        mask = np.zeros(self.series.count, np.bool_)
        for first, stop in self.lost_series:
            mask[first:stop] = True
        # With each new series another one: it may be a lost one that comes back, and hides less.
        number = LOST + self.series.count
        return (*self.tombstones, Tombstone(number, MIN_TIME_NS, MAX_TIME_NS + 1, encode_choice(mask)))
