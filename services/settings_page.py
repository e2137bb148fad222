"""Writes docs/settings.md from the classes of settings: ``python -m services.settings_page > docs/settings.md``."""

from __future__ import annotations

import sys

from common.config import ServiceSettings, env_names
from services.auth.config import AuthSettings
from services.gateway.config import GatewaySettings
from services.ingest.config import IngestSettings
from services.query.config import QuerySettings
from services.storage.config import StorageSettings

PAGES: tuple[tuple[str, type[ServiceSettings]], ...] = (
    ("gateway", GatewaySettings),
    ("auth", AuthSettings),
    ("ingest", IngestSettings),
    ("query", QuerySettings),
    ("storage", StorageSettings),
)
_HEAD = """# Settings

Each is an environment variable; `NAME_FILE` gives the path of a file that holds the value instead. This page is made by
`python -m services.settings_page` from the classes in `common/config.py` and `services/*/config.py`.

The supervisor reads besides: `STORAGE`, `AUTH`, `INGEST`, `QUERY`, `GATEWAY` = how many replicas of each it starts
(`INGEST=3 make run`).
"""


def table(settings: type[ServiceSettings], without: set[str]) -> list[str]:
    """The rows of one class: name, default, meaning; fields in *without* are left out."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        if name in without:
            continue
        default = field.default
        shown = "" if default in ("", None) else f"`{default}`"
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows += [f"| `{' / '.join(env_names(name, field))}` | {shown} | {meaning} |"]
    return rows


def page() -> str:
    """The whole page."""
    common = set(ServiceSettings.model_fields)
    parts = [_HEAD, "## Every service\n", *table(ServiceSettings, set()), ""]
    for service, settings in PAGES:
        own = table(settings, common)
        if len(own) > 2:
            parts += [f"## {service}\n", *own, ""]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
