from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from common import compile_cache


def test_a_read_only_cache_is_used_from_a_private_copy_that_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.py"
    source.write_text("x = 1\n")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    folder = compile_cache.cache_folder("engine", [source])
    compile_cache.fill(folder, lambda: None)
    (folder / "inner").mkdir()
    (folder / "inner" / "code.nbc").write_bytes(b"code")
    for path in (folder / "inner" / "code.nbc", folder / "inner", folder):
        path.chmod(0o500 if path.is_dir() else 0o400)
    real = tempfile.TemporaryFile

    def refuse_there(*arguments: Any, **named: Any) -> Any:  # root may write anywhere, so the refusal is played
        if named.get("dir") == folder:
            raise PermissionError
        return real(*arguments, **named)

    monkeypatch.setattr(compile_cache.tempfile, "TemporaryFile", refuse_there)
    copy = compile_cache.cache_folder("engine", [source])
    assert copy != folder
    assert compile_cache.is_filled(copy)
    assert (copy / "inner" / "code.nbc").read_bytes() == b"code"
    assert {path.stat().st_mode & 0o777 for path in (copy, copy / "inner")} == {0o700}
    (folder / "inner").chmod(0o700)
    folder.chmod(0o700)


def test_another_source_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    source = tmp_path / "source.py"
    source.write_text("x = 1\n")
    first = compile_cache.cache_folder("engine", [source])
    source.write_text("x = 2\n")
    assert compile_cache.cache_folder("engine", [source]) != first
