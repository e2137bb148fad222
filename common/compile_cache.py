"""Where compiled hot loops are kept, and how they get there without holding up a service · files, processes.

The folder is named by a digest of what the machine code depends on (our sources, Python, numba, the processor).
``NUMBA_CACHE_DIR`` moves it; where it cannot be written (a read-only image) it is read from a private copy, because
numba insists on a folder that it can write to.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_READY = "ready"
_ROOT = Path(__file__).parent.parent


def cache_folder(name: str, sources: Sequence[Path]) -> Path:
    """The folder for the code made of *sources*, which exists and can be written to."""
    place = Path(os.environ.get("NUMBA_CACHE_DIR") or sources[0].parent / "__pycache__")
    folder = place / f"{name}-{_digest(sources)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        private = Path(tempfile.mkdtemp(prefix="tidegate-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        copy = private / folder.name
        if folder.exists():
            shutil.copytree(folder, copy)
            # The copies of folders that cannot be written to cannot be written to either.
            for path in (copy, *copy.rglob("*")):
                path.chmod(0o700 if path.is_dir() else 0o600)
        else:
            copy.mkdir()
        return copy
    return folder


def is_filled(folder: Path) -> bool:
    """Whether everything has been compiled into *folder*."""
    return (folder / _READY).exists()


def fill(folder: Path, compile_all: Callable[[], object]) -> None:
    """Compile into *folder*, in this process; of several processes that try one does it and the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_filled(folder):
            with used_by_numba(folder):
                compile_all()
            (folder / _READY).touch()


@contextmanager
def used_by_numba(folder: Path) -> Iterator[None]:
    """What is compiled meanwhile is kept in, or loaded from, *folder*."""
    import numba

    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


def fill_in_child(folder: Path, module: str) -> None:
    """``python -m module folder`` in a process of its own, so that the compiler doesn't hold up this one.

    Raises:
        RuntimeError: it failed.
    """
    path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if part)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", module, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"cannot compile {module}: {done.stderr.decode(errors='replace')[-2000:]}")


def _digest(sources: Sequence[Path]) -> str:
    import llvmlite
    import llvmlite.binding
    import numba

    whole = hashlib.sha256()
    for source in sources:
        whole.update(source.read_bytes())
    processor = f"{llvmlite.binding.get_host_cpu_name()} {llvmlite.binding.get_host_cpu_features().flatten()}"
    settings: Any = numba.config
    wanted = f"{settings.CPU_NAME} {settings.CPU_FEATURES}"
    for part in (sys.version, numba.__version__, llvmlite.__version__, processor, wanted):
        whole.update(part.encode() + b"\0")
    return whole.hexdigest()[:16]
