"""R29 with a few kills: tests/faults/test_identity_kills.py has the many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.identity_changes import VICTIMS, BucketDelete, Changes, PasswordSet, TokenCreate, prove


@pytest.mark.parametrize("kind", [TokenCreate, PasswordSet, BucketDelete])
def test_r29_after_a_kill_a_change_is_whole_or_absent(kind: type[Changes], tmp_path: Path) -> None:
    prove(kind, tmp_path / "stack", len(VICTIMS))
