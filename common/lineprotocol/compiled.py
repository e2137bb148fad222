"""The compiled form of the kernels: built once, kept in numba's cache, put in place of the plain form when it is there.

Where the cache lies, and what a read-only image does, is ``common/compile_cache.py``.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from common import compile_cache
from common.lineprotocol import gather, kernel, keys, memory, numbers, reasons, scan, siphash, words
from common.lineprotocol.kernels import PLAIN, Kernels, current, use

_SOURCES = (gather, kernel, keys, memory, numbers, reasons, scan, siphash, words)
# numba takes the folder of its cache from a global of its own.
_loading = threading.Lock()


def is_compiled() -> bool:
    """Whether the compiled form is in use."""
    return current().compiled


def prepare() -> None:
    """Put the compiled form in use; compile it first, in a process of its own, when it is not in the cache.

    Blocks for as long as that takes (under a second or two from the cache, up to a minute without): call it in a
    thread. Until it returns the plain form answers.

    Raises:
        RuntimeError: the compiler failed; the plain form goes on.
    """
    with _loading:
        if is_compiled():
            return
        folder = cache_folder()
        if not compile_cache.is_filled(folder):
            compile_cache.fill_in_child(folder, "common.lineprotocol.compile")
        with compile_cache.used_by_numba(folder):
            use(_load())


def compile_into(folder: Path) -> None:
    """Fill the cache in *folder*; of several processes that try one does it and the others wait."""
    compile_cache.fill(folder, _load)


def compile_all() -> None:
    """Fill the cache, if it is not filled yet; at install."""
    compile_into(cache_folder())


def cache_folder() -> Path:
    """The folder of the cache, which can be written to."""
    machine = Path(__file__).with_name("machine.py")
    return compile_cache.cache_folder("lineprotocol", [machine, *(Path(str(module.__file__)) for module in _SOURCES)])


def _load() -> Kernels:
    # Imported here: numba takes half a second to load, and nothing is needed of it before.
    import numba

    from common.lineprotocol.machine import OPTIONS, SIGNATURES

    functions: dict[str, Any] = {
        name: numba.njit(signature, cache=True, **OPTIONS)(getattr(PLAIN, name))
        for name, signature in SIGNATURES.items()
    }
    return Kernels(compiled=True, **functions)
