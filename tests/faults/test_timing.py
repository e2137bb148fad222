"""S03 in full: 20,000 of each kind of wrong token. A shorter one: tests/system/security/test_tokens.py."""

from __future__ import annotations

from tests.stack import Stack
from tests.system.security.timing import compare_refusals


def test_s03_a_right_beginning_takes_no_longer(stack: Stack) -> None:
    compare_refusals(stack, 20_000)
