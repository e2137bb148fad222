"""What an SQLite error means for the service: full, read-only, broken, or fatal."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from enum import Enum
from pathlib import Path


class Failure(Enum):
    """Kinds of trouble below the catalog."""

    FULL = "full"  # nothing was written; passes when there is space again
    READ_ONLY = "read-only"  # nothing was written; passes when the file system is writable again
    DAMAGED = "damaged"  # what was read is not what was written
    FATAL = "fatal"  # what is on disk is not known: only a new start, which recovers from the log, can tell
    OTHER = "other"


# The -shm file can't grow: SQLite reports a full disk as an I/O error here.
_FULL_IOERRS = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP})
_READ_IOERRS = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ})


def failure_of(error: sqlite3.Error) -> Failure:
    """The kind of *error*."""
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code in _FULL_IOERRS:
        return Failure.FULL
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return Failure.READ_ONLY
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code in _READ_IOERRS:
        return Failure.DAMAGED
    if primary == sqlite3.SQLITE_IOERR:
        return Failure.FATAL
    return Failure.OTHER


def is_refused_write(error: sqlite3.Error) -> bool:
    """Whether a write to a file was refused (never a sync): on a file system that is read-only now nothing was
    written then, and it is no worse than a full one."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_WRITE


def is_failed_sync(error: sqlite3.Error) -> bool:
    """Whether what had been written may not be on disk."""
    return getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


def is_read_only(file: Path) -> bool:
    """Whether the kernel has made the file system of *file* read-only, as it does after errors of its own.

    Its flag alone does not tell: since Linux 6.15 ext4 refuses all writes after an error without setting it.
    """
    if os.statvfs(file).f_flag & os.ST_RDONLY:
        return True
    try:
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        return error.errno == errno.EROFS
    return False
