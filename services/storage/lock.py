"""One storage process per data folder: a lock on a file in it, which the kernel takes back when the process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

FILE_NAME = "storage.lock"


class FolderHeld(Exception):
    """Another process holds the data folder; ``str(error)`` names it."""


class FolderLock:
    """An exclusive lock on *folder*, which is made (mode 0700) if it is missing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises FolderHeld when another process has the lock, OSError when the folder can't be used."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise FolderHeld(f"the data folder {self._path.parent} is held by process {holder}") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def give_back(self) -> None:
        """Let the folder go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
