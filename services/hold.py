"""Holding the data folder while the supervisor runs. Storage holds its own lock beside this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.config import CannotStart
from common.folder_lock import FolderLock


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold *folder* for the length of a with block.

    Raises FolderHeld when another supervisor does, CannotStart when the folder can't be used.
    """
    lock = FolderLock(folder, "supervisor.lock")
    try:
        lock.take()
    except OSError as error:
        raise CannotStart(
            f"cannot use the data folder {folder.absolute()}: {error.strerror}; TIDEGATE_DATA names another one"
        ) from None
    try:
        yield
    finally:
        lock.give_back()
