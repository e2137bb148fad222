"""The cache of the compiled form: filled by a process of its own, read by others, also where it cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.lineprotocol import compiled

ROOT = Path(__file__).parents[4]
PROGRAM = """
from common.lineprotocol import compiled
from common.lineprotocol.parse import Body, parse
body = [Body(b"m,b=1,a=2 v=1i 5", 1, 0)]
before = parse(body, bytes(16))
assert not compiled.is_compiled()
compiled.prepare()
assert compiled.is_compiled()
after = parse(body, bytes(16))
assert before.series_ids.tolist() == after.series_ids.tolist()
"""


def run(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def built(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def test_without_a_cache_a_child_compiles_and_then_it_is_only_read(tmp_path: Path) -> None:
    run(tmp_path)
    first = built(tmp_path)
    assert len(first) >= 10
    run(tmp_path)
    assert built(tmp_path) == first


def test_a_compiler_that_fails_is_reported_and_the_plain_form_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "is_compiled", lambda: False)
    monkeypatch.setattr("common.compile_cache.sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="cannot compile"):
        compiled.prepare()
