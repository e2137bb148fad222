"""Labels, variables and telegraf configurations: kept for others · pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.auth.entities.entity import Entity


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Entity):
    KIND = "label"
    org_id: str
    name: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def unique(self) -> list[str]:
        return [f"label:{self.org_id}:{self.name.strip().casefold()}"]

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMapping(Entity):
    """A label on a bucket, telegraf configuration or variable."""

    KIND = "label_mapping"
    label_id: str
    resource: str

    @staticmethod
    def key(label_id: str, resource: str) -> str:
        return f"label_mapping:{label_id}:{resource}"

    def unique(self) -> list[str]:
        return [self.key(self.label_id, self.resource)]

    def indexes(self) -> dict[str, str]:
        return {"label_id": self.label_id, "resource": self.resource}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable(Entity):
    """``arguments`` is ``{"type": constant | map | query, "values": ...}``."""

    KIND = "variable"
    org_id: str
    name: str
    description: str = ""
    selected: tuple[str, ...] | None = None
    arguments: Mapping[str, Any]
    created_ns: int
    updated_ns: int

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        selected = members.get("selected")
        return {**members, "selected": None if selected is None else tuple(selected)}

    def unique(self) -> list[str]:
        return [f"variable:{self.org_id}:{self.name.strip().casefold()}"]

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Telegraf(Entity):
    """A configuration that Telegraf fetches: TOML text."""

    KIND = "telegraf"
    org_id: str
    name: str = ""
    description: str = ""
    config: str = ""
    metadata_buckets: tuple[str, ...] = ()

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        return {**members, "metadata_buckets": tuple(members.get("metadata_buckets", ()))}

    def indexes(self) -> dict[str, str]:
        return {"org_id": self.org_id}
