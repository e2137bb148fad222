"""The preloaded shim from Python: built with gcc, told through a shared block of numbers which call is to fail."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

from tests.conftest import need

WRITE, SYNC, TRUNCATE = range(3)
KINDS = {"write": WRITE, "fsync": SYNC, "ftruncate": TRUNCATE}
# The numbers of shim.c's struct, by position.
_COUNTS, _FIRST, _LAST, _ERROR, _HITS, _READ_ONLY = 0, 3, 6, 9, 10, 11
_NUMBERS = 12
ALWAYS = 1 << 60


class Shim:
    """One control block in *folder*; ``environment`` is what a process needs to have it."""

    def __init__(self, folder: Path) -> None:
        self._library = folder / "shim.so"
        source = Path(__file__).with_name("shim.c")
        compiler = need("gcc", "gcc")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True)
        self._path = folder / "shim.control"
        self._path.write_bytes(bytes(8 * _NUMBERS))
        with self._path.open("r+b") as file:
            self._block = mmap.mmap(file.fileno(), 8 * _NUMBERS)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "FAULT_CONTROL": str(self._path)}

    def count(self, kind: int) -> int:
        """Calls of this kind so far."""
        return self._get(_COUNTS + kind)

    @property
    def hits(self) -> int:
        """Calls that failed since the last ``reset``."""
        return self._get(_HITS)

    def fail(self, kind: int, nth: int, error: int, times: int = 1) -> None:
        """From now on the *nth* call of *kind*, and those after it up to *times*, fail with errno *error*; with 0
        the process is killed at that call."""
        first = self.count(kind) + nth
        self._set(_ERROR, error)
        self._set(_LAST + kind, first + times - 1)
        self._set(_FIRST + kind, first)

    def pretend_read_only(self) -> None:
        """File systems are said to be read-only."""
        self._set(_READ_ONLY, 1)

    def heal(self) -> None:
        """Nothing fails any more."""
        for kind in KINDS.values():
            self._set(_FIRST + kind, 0)
        self._set(_READ_ONLY, 0)
        self._set(_HITS, 0)

    def reset(self) -> None:
        """As new: for the next process."""
        self._block[:] = bytes(8 * _NUMBERS)

    def _get(self, position: int) -> int:
        return int(struct.unpack_from("=q", self._block, 8 * position)[0])

    def _set(self, position: int, value: int) -> None:
        struct.pack_into("=q", self._block, 8 * position, value)
