"""Holding a data folder, so that two of a kind never work on one: the supervisor, and storage, each by its own file.

The lock is the kernel's (flock): it ends with its process, however that ends. The file names the holder.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FolderHeld(Exception):
    """Another process holds the folder; ``str(error)`` names it."""


class FolderLock:
    """An exclusive lock on *folder*, which is made (mode 0700) if it is missing; *name* is the file in it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises FolderHeld when another process has the lock, OSError when the folder can't be used."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            folder = self._path.parent.resolve()
            raise FolderHeld(f"the data folder {folder} is held by process {holder}") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def give_back(self) -> None:
        """Let the folder go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
