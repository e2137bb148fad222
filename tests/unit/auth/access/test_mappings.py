"""Virtual mappings."""

from __future__ import annotations

from services.auth.access import mappings


def test_the_names_of_virtual_mappings() -> None:
    assert mappings.virtual_names("a") == ("a", "autogen", True)
    assert mappings.virtual_names("a/b/c") == ("a", "b/c", False)
