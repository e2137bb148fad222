"""Storage's side of the board (``common/board.py``): keeps it and counts up what has changed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import secrets
import sys
import time
from pathlib import Path

from common import board
from common.log import get_logger
from common.shared_memory import is_own, map_words

log = get_logger("storage.board")
PREFIX = "tidegate-board-"
EPOCH_BITS = 63
# Another storage that starts looks at it for a moment, and may have taken it away.
TRIES, PAUSE_S = 5, 0.01


class Board:
    """The board of one data folder, taken over from whoever kept it before: no reader trusts what that one wrote.

    Args:
        folder: in memory, shared with query services; empty = there is no board.
        data: the data folder, which this process holds alone.
    """

    def __init__(self, folder: str, data: Path) -> None:
        self._path = Path()
        self._words: memoryview[int] | None = None
        self._descriptor = -1
        self._epoch = 0
        if not folder:
            return
        _clear(Path(folder))
        self._path = Path(folder) / name_of(data)
        try:
            self._descriptor = _take_or_make(self._path)
            # Its memory is taken now: later, a write to a page that is not there would end the process.
            os.posix_fallocate(self._descriptor, 0, board.SIZE_BYTES)
            self._words = map_words(self._descriptor, board.SIZE_BYTES, mmap.ACCESS_WRITE)
        except OSError as error:
            log.info("no shared memory: query services ask storage each time", reason=str(error))
            self.close()
            return
        self._epoch = secrets.randbits(EPOCH_BITS) | 1
        self._words[0] = board.MAGIC
        self._words[board.EPOCH] = self._epoch

    @property
    def told(self) -> tuple[str, int] | None:
        """What query services are told of it: the name of its file, and its epoch."""
        return (self._path.name, self._epoch) if self._epoch else None

    def count_up(self, word: int) -> None:
        """What has its slot at *word* has changed; on the loop, after it is on disk, before it is acknowledged."""
        if self._words is not None:
            self._words[word] += 1

    def close(self) -> None:
        """Let it go: readers ask again."""
        self._words, self._epoch = None, 0
        if self._descriptor >= 0:
            _end(self._path, self._descriptor)
            self._descriptor = -1


def name_of(data: Path) -> str:
    """The name of the board of a data folder."""
    status = data.stat()
    return PREFIX + hashlib.sha256(f"{status.st_dev}:{status.st_ino}".encode()).hexdigest()[:16]


def _clear(folder: Path) -> None:
    """Take away boards that nobody keeps any more: their storages were killed."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{PREFIX}*"):
            # One that cannot be taken is kept, or somebody else's.
            with contextlib.suppress(OSError):
                descriptor = _take(path, 0)
                if _is_board(descriptor):
                    _end(path, descriptor)
                else:
                    os.close(descriptor)


def _is_board(descriptor: int) -> bool:
    """Whether a file is a board, and no other one of such a name."""
    start = os.pread(descriptor, 8, 0)
    return os.fstat(descriptor).st_size == board.SIZE_BYTES and start == board.MAGIC.to_bytes(8, sys.byteorder)


def _take_or_make(path: Path) -> int:
    for _ in range(TRIES - 1):
        with contextlib.suppress(OSError):
            return _take(path, os.O_CREAT)
        time.sleep(PAUSE_S)
    return _take(path, os.O_CREAT)


def _take(path: Path, flags: int) -> int:
    """A descriptor of the board at *path* that nobody else keeps while it is open.

    Raises OSError: somebody keeps it, or it is not this user's.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        if not status.st_nlink or not is_own(status):
            raise PermissionError(f"{path} is somebody else's")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _end(path: Path, descriptor: int) -> None:
    """Nobody keeps the board any more; it is deleted, and *descriptor*, which has it, closed."""
    with contextlib.suppress(OSError):
        # In place, for those who have it mapped.
        os.pwrite(descriptor, bytes(8), board.EPOCH * 8)
        path.unlink()
    os.close(descriptor)
