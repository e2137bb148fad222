"""The compiled form of the kernels: built once, kept in numba's cache, put in place of the plain form when it is there.

The cache lies in a folder named by a digest of everything that the machine code depends on (our sources, numba, the
processor): numba itself watches only the file of the outermost function. ``NUMBA_CACHE_DIR`` moves it; where it cannot
be written (a read-only image) it is read from a private copy, as numba insists on a folder that it can write to.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from common.lineprotocol import gather, kernel, keys, memory, numbers, reasons, scan, siphash, words
from common.lineprotocol.kernels import PLAIN, Kernels, current, use

_SOURCES = (gather, kernel, keys, memory, numbers, reasons, scan, siphash, words)
_READY = "ready"
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
        folder = _cache_folder()
        if not (folder / _READY).exists():
            _compile_in_child(folder)
        use(_load(folder))


def compile_into(folder: Path) -> None:
    """Fill the cache in *folder*; of several processes that try one does it and the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _READY).exists():
            _load(folder)
            (folder / _READY).touch()


def compile_all() -> None:
    """Fill the cache, if it is not filled yet; at install."""
    compile_into(_cache_folder())


def _load(folder: Path) -> Kernels:
    # Imported here: numba takes half a second to load, and nothing is needed of it before.
    import numba

    from common.lineprotocol.machine import OPTIONS, SIGNATURES

    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)
    try:
        functions: dict[str, Any] = {
            name: numba.njit(signature, cache=True, **OPTIONS)(getattr(PLAIN, name))
            for name, signature in SIGNATURES.items()
        }
    finally:
        settings.CACHE_DIR = before
    return Kernels(compiled=True, **functions)


def _digest() -> str:
    """Names what the machine code depends on."""
    import llvmlite
    import llvmlite.binding
    import numba

    whole = hashlib.sha256()
    machine = Path(__file__).with_name("machine.py")
    for path in (machine, *(Path(str(module.__file__)) for module in _SOURCES)):
        whole.update(path.read_bytes())
    processor = f"{llvmlite.binding.get_host_cpu_name()} {llvmlite.binding.get_host_cpu_features().flatten()}"
    settings: Any = numba.config
    wanted = f"{settings.CPU_NAME} {settings.CPU_FEATURES}"
    for part in (sys.version, numba.__version__, llvmlite.__version__, processor, wanted):
        whole.update(part.encode() + b"\0")
    return whole.hexdigest()[:16]


def _cache_folder() -> Path:
    """The folder of the cache, which can be written to."""
    place = os.environ.get("NUMBA_CACHE_DIR") or str(Path(__file__).parent / "__pycache__")
    folder = Path(place) / f"lineprotocol-{_digest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        private = Path(tempfile.mkdtemp(prefix="tidegate-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        copy = private / folder.name
        if folder.exists():
            shutil.copytree(folder, copy)
        else:
            copy.mkdir()
        return copy
    return folder


def _compile_in_child(folder: Path) -> None:
    root = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "common.lineprotocol.compile", str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"cannot compile the line protocol parser: {done.stderr.decode(errors='replace')[-2000:]}")
