from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from common.config import ServiceSettings, env_names
from services.settings_page import PAGES, page
from services.storage.config import StorageSettings
from tests.stack import ROOT


def test_the_page_of_settings_is_what_the_classes_say() -> None:
    """Made anew by ``python -m services.settings_page > docs/settings.md``."""
    assert (ROOT / "docs" / "settings.md").read_text() == page()


def test_every_setting_says_what_it_is_for() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(len(row.split(" | ")[-1]) > 10 for row in rows)


@pytest.mark.parametrize(("settings", "name"), [(s, name) for _, s in PAGES for name in s.model_fields])
def test_each_default_may_be_given_as_text(
    settings: type[ServiceSettings], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = settings.model_fields[name]
    if not isinstance(field.default, str | int | float | Path):
        pytest.skip("its default is no text")
    monkeypatch.setenv(env_names(name, field)[0], str(field.default))
    assert getattr(settings(), name) == field.default


def test_a_page_size_is_one_that_sqlite_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_STORAGE_PAGE_BYTES", "8192")
    assert StorageSettings().storage_page_bytes == 8192
    monkeypatch.setenv("TIDEGATE_STORAGE_PAGE_BYTES", "5000")
    with pytest.raises(ValidationError, match="is none of 4096, 8192"):
        StorageSettings()
