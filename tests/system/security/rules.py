"""The rules of permissions, stated once more, apart from the code's own: the oracle of the matrix · pure.

Source: "authorizations", scope of a permission, with the choice that an id does not lift the organization.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.system.security.figures import permission

WITHOUT_ORG = ("orgs", "users")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a permission is held or needed on. ``org_id`` None: held in all organizations, or the object has none."""

    action: str
    type: str
    id: str | None = None
    org_id: str | None = None

    def json(self) -> dict[str, Any]:
        scope = {"id": self.id, "orgID": self.org_id}
        return permission(self.action, self.type, **{name: value for name, value in scope.items() if value})


def covers(held: Scope, needed: Scope) -> bool:
    """The action, the type, and no scope that names something else.

    An org-wide permission covers only what belongs to that organization; one by id covers that object alone, and
    nothing that is about to be made.
    """
    if (held.action, held.type) != (needed.action, needed.type):
        return False
    if held.id is not None:
        same_org = None in (held.org_id, needed.org_id) or held.org_id == needed.org_id
        return held.id == needed.id and same_org
    return held.org_id is None or held.org_id == needed.org_id


@dataclass(frozen=True, slots=True)
class Trial:
    """What a token holds, the organization that it is of, and what is special about it."""

    label: str
    org_id: str
    held: tuple[Scope, ...]

    def covers(self, needs: Iterable[Scope]) -> bool:
        return all(any(covers(held, needed) for held in self.held) for needed in needs)


def trials(needs: tuple[Scope, ...], own: str, other: str, foreign: str, types: Iterable[str]) -> list[Trial]:
    """Tokens to try a call with that needs *needs* in the organization *own*.

    All that is needed in each width; then, for each part of it, that part narrowed, turned or moved while the rest is
    held everywhere; then all the other types.

    Args:
        other: another organization.
        foreign: an id of an object there.
        types: all resource types.
    """
    wide = tuple(Scope(need.action, need.type) for need in needs)
    exact = tuple(replace(need, org_id=None) if need.id else need for need in needs)
    found = [
        Trial("everywhere", own, wide),
        Trial("in its organization", own, tuple(_within(need, own) for need in needs)),
        Trial("by id", own, exact),
        Trial("by id in its organization", own, tuple(replace(need, org_id=own) for need in exact)),
    ]
    for number, need in enumerate(needs):
        rest = wide[:number] + wide[number + 1 :]
        turned = "read" if need.action == "write" else "write"
        changed = {
            "missing": (),
            "the other action": (Scope(turned, need.type),),
            "the other organization's": (Scope(need.action, need.type, None, other),),
            "another id": (Scope(need.action, need.type, foreign),),
            "the other organization's by id": (Scope(need.action, need.type, need.id or foreign, other),),
            "org-wide": (Scope(need.action, need.type, None, own),),
            "by id": (replace(need, org_id=None),) if need.id else (),
        }
        for label, part in changed.items():
            # A token of an organization carries no permission that names another one.
            org = other if any(held.org_id == other for held in part) else own
            found.append(Trial(f"{need.action} {need.type} {label}", org, (*rest, *part)))
    needed = {need.type for need in needs}
    everything_else = tuple(Scope(action, t) for t in types if t not in needed for action in ("read", "write"))
    return [*found, Trial("all other types", own, everything_else)]


def _within(need: Scope, org_id: str) -> Scope:
    """Org-wide where the object has an organization, else by id."""
    return need if need.type in WITHOUT_ORG else Scope(need.action, need.type, None, org_id)
