"""The query service's side of the board (``common/board.py``): whether what was read of storage is still the newest."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import board
from common.log import get_logger
from common.shared_memory import is_own, map_words

log = get_logger("query.board")
# So long after a question that storage answered the board is believed: storage may have gone elsewhere.
LEASE_S = 0.5

# The epoch, and what the slot said.
Stamp = tuple[int, int]


class Board:
    """What storage counts up, where that is on the same machine; else nothing ever holds.

    Args:
        folder: as storage's; empty = there is no board.
    """

    def __init__(self, folder: str = "", clock_s: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock_s = clock_s
        self._words: memoryview[int] | None = None
        self._descriptor = -1
        self._epoch = 0
        self._until_s = 0.0
        self._missed: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is one that storage has told of."""
        return self._words is not None

    def now_s(self) -> float:
        """For ``learn``: before storage is asked."""
        return self._clock_s()

    def stamp(self, word: int) -> Stamp | None:
        """What the slot at *word* says: before storage is asked about what has its slot there."""
        return None if self._words is None else (self._epoch, self._words[word])

    def learn(self, told: Any, asked_s: float) -> None:
        """What an answer of storage says of its board ([name, epoch], or None), and when storage was asked."""
        match told:
            case [str(name), int(epoch)] if self._folder and epoch and "/" not in name:
                if epoch != self._epoch and told != self._missed:
                    self._open(name, epoch)
                    self._missed = None if epoch == self._epoch else told
                if epoch == self._epoch:
                    self._until_s = max(self._until_s, asked_s + LEASE_S)
            case _:
                self.close()

    def holds(self, word: int, stamp: Stamp | None) -> bool:
        """Whether nothing changed since *stamp*, as far as is known here; else storage is to be asked."""
        words = self._words
        if stamp is None or words is None or self._clock_s() >= self._until_s:
            return False
        return (
            words[word] == stamp[1]
            and words[board.EPOCH] == stamp[0] == self._epoch
            # One that was deleted may have a successor of which nothing is known here.
            and os.fstat(self._descriptor).st_nlink > 0
        )

    def close(self) -> None:
        """Let it go; nothing holds any more."""
        self._words, self._epoch, self._until_s = None, 0, 0.0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self, name: str, epoch: int) -> None:
        """Take the board *name* in use if it is the one of *epoch*."""
        self.close()
        with contextlib.suppress(OSError):
            self._descriptor = os.open(Path(self._folder) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            status = os.fstat(self._descriptor)
            if is_own(status) and status.st_size == board.SIZE_BYTES:
                words = map_words(self._descriptor, board.SIZE_BYTES, mmap.ACCESS_READ)
                if words[0] == board.MAGIC and words[board.EPOCH] == epoch:
                    self._words, self._epoch = words, epoch
                    return
        self.close()
        log.info("storage's shared memory is not in reach: it is asked each time")
