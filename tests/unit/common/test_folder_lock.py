"""A folder is held by one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.folder_lock import FolderHeld, FolderLock


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "data", "x.lock"), FolderLock(tmp_path / "data", "x.lock")
    first.take()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    with pytest.raises(FolderHeld, match="held by process"):
        second.take()
    first.give_back()
    second.take()
    second.give_back()
