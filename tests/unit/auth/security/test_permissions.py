"""Who has a part in an organization."""

from __future__ import annotations

from common.identity import Identity, Permission, operator_permissions
from services.auth.security.permissions import all_access, has_part_in


def _identity(*permissions: Permission, org_id: str | None = None) -> Identity:
    return Identity("token", "1" * 16, "2" * 16, org_id, permissions)


def test_who_has_a_part_in_an_organization() -> None:
    ours, theirs, user = "a" * 16, "b" * 16, "c" * 16
    assert has_part_in(_identity(*operator_permissions()), theirs)
    member = _identity(*all_access(ours, user))
    assert has_part_in(member, ours)
    assert not has_part_in(member, theirs)
    assert not has_part_in(_identity(Permission("read", "users", user)), ours)
    assert not has_part_in(_identity(Permission("read", "users")), ours)
