"""What auth keeps in storage: one frozen type a kind of record, with its unique keys, indexes and feed tags · pure.

Unique keys begin with the kind; parts of free text stand last, behind parts of fixed length, so that no two things
share a key. Source: docs/rpc.md, "storage.change_records" and "tag".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

ACTIVE, INACTIVE = "active", "inactive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A record as its rules see it. ``version`` is storage's: 0 = not stored yet."""

    KIND: ClassVar[str]
    id: str
    version: int = field(default=0, compare=False)

    @classmethod
    def from_record(cls, record: Sequence[Any]) -> Self:
        """Read ``[kind, id, version, body]``; members of *body* that a later release wrote are left alone."""
        _, id, version, body = record
        known = {f.name: body[f.name] for f in fields(cls) if f.name in body}
        return cls(**cls._decode({**known, "id": id, "version": version}))

    @classmethod
    def _decode(cls, members: dict[str, Any]) -> dict[str, Any]:
        return members

    def body(self) -> dict[str, Any]:
        """The members as storage keeps them."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("id", "version")}

    def changed(self, **members: Any) -> Self:
        """As it is after a PATCH: a member that is None was not given and stays."""
        return replace(self, **{name: value for name, value in members.items() if value is not None})

    def unique(self) -> list[str]:
        """Keys that no other record may hold."""
        return []

    def indexes(self) -> Mapping[str, str | list[str]]:
        """Fields by which records of this kind are listed; of a list, by each of its values."""
        return {}

    def tags(self) -> list[str]:
        """What a cached answer that rests on this record hangs on."""
        return []
