"""Auth, storage and the gateway are killed in turn while tokens are made, passwords set, buckets deleted (R29)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.report import rounds
from tests.identity_changes import BucketDelete, Changes, PasswordSet, TokenCreate, prove


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [TokenCreate, PasswordSet, BucketDelete])
def test_a_change_of_identity_is_whole_or_absent(kind: type[Changes], tmp_path: Path) -> None:
    prove(kind, tmp_path / "stack", rounds(50))
