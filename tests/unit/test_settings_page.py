from __future__ import annotations

from services.settings_page import page
from tests.stack import ROOT


def test_the_page_of_settings_is_what_the_classes_say() -> None:
    """Made anew by ``python -m services.settings_page > docs/settings.md``."""
    assert (ROOT / "docs" / "settings.md").read_text() == page()


def test_every_setting_says_what_it_is_for() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(len(row.split(" | ")[-1]) > 10 for row in rows)
