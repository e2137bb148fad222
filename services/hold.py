"""Holding the data folder, so that two of a kind never work on one. Storage holds its own lock beside this one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.config import CannotStart


class Held(Exception):
    """Another process holds the folder; the message says which."""


@contextmanager
def hold(folder: Path, name: str = "supervisor.lock") -> Iterator[None]:
    """Hold *folder* (made if need be) for the length of a with block. Raises Held when another process does,
    CannotStart when the folder can't be used.

    The lock is the kernel's (flock): it ends with its process, however that ends. The file names the holder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(
            f"cannot use the data folder {folder.absolute()}: {error.strerror}; TIDEGATE_DATA names another one"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise Held(f"the data folder {folder.resolve()} is held by process {holder}: stop that one first") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
