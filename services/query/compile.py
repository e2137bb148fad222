"""The engine's kernels, compiled: at install (``services.compile``), by a starting service, or by its child.

``python -m services.query.compile folder`` is that child.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from common import compile_cache
from services.query.engine import kernels

_NAME = "services.query.compile"


def _folder() -> Path:
    return compile_cache.cache_folder("engine", [Path(kernels.__file__)])


def compile_all() -> None:
    """Fill the cache, if it is not filled yet."""
    compile_cache.fill(_folder(), kernels.compile_all)


def prepare() -> None:
    """Put the compiled kernels in use; a process of its own compiles them first when they are not in the cache.

    Blocks for that long (half a second from the cache, some ten seconds without): call it in a thread. Until it
    returns the plain functions run.

    Raises:
        RuntimeError: the compiler failed; the plain functions go on.
    """
    folder = _folder()
    if not compile_cache.is_filled(folder):
        compile_cache.fill_in_child(folder, _NAME)
    with compile_cache.used_by_numba(folder):
        kernels.compile_all()


if __name__ == "__main__":
    # A service is already answering in plain Python: it goes first.
    os.nice(5)
    compile_cache.fill(Path(sys.argv[1]), kernels.compile_all)
