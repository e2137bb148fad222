"""S05: the permission matrix, generated: each operation with tokens that hold what it needs, or nearly that."""

from __future__ import annotations

import pytest

from common.identity import RESOURCE_TYPES
from tests.stack import Stack
from tests.system.security.figures import show
from tests.system.security.operations import ABOUT_THE_CALLERS_OWN, PARTS, Operation
from tests.system.security.rules import Scope, Trial, trials
from tests.system.security.sides import PATHS, Side

TYPES = tuple(type for type in RESOURCE_TYPES if type != "instance")


@pytest.fixture(scope="module")
def sides(stack: Stack) -> tuple[Side, Side]:
    return Side(stack).build(), Side(stack).build()


class Tokens:
    """Tokens of given permissions, each made once."""

    def __init__(self, own: Side, other: Side) -> None:
        self._sides = {own.org_id: own, other.org_id: other}
        self._made: dict[tuple[str, frozenset[Scope]], str] = {}

    def of(self, trial: Trial) -> str:
        # A token has to hold something: one that may read views may do nothing here.
        held = trial.held or (Scope("read", "views"),)
        key = (trial.org_id, frozenset(held))
        if key not in self._made:
            permissions = [scope.json() for scope in dict.fromkeys(held)]
            self._made[key] = self._sides[trial.org_id].token(permissions)
        return self._made[key]


@pytest.mark.parametrize("part", PARTS)
def test_s05_no_wrong_allow_and_no_wrong_refusal(sides: tuple[Side, Side], part: str) -> None:
    own, other = sides
    tokens = Tokens(own, other)
    wrongly_allowed: list[str] = []
    wrongly_refused: list[str] = []
    operations = cells = allowances = 0
    for make in PARTS[part](own):
        operations += 1
        for number in range(len(_trials(make(), own, other))):
            operation = make()
            trial = _trials(operation, own, other)[number]
            if trial.org_id != own.org_id and operation.name in ABOUT_THE_CALLERS_OWN:
                continue
            answer = own.ask(operation.method, operation.path, tokens.of(trial), operation.body)
            expected = trial.covers(operation.needs) and (trial.org_id == own.org_id or not operation.inside)
            cells += 1
            allowances += expected
            told = f"{operation.name}, {trial.label}: {answer.status_code} {answer.text[:160]!r}"
            assert answer.status_code < 500, told
            if operation.allowed(answer) != expected:
                (wrongly_refused if expected else wrongly_allowed).append(told)
    print("\n".join(["wrong allow:", *wrongly_allowed[:30], "wrong refusal:", *wrongly_refused[:30]]))
    figure = f"{operations}operations,{cells}cells({allowances}allowed):{len(wrongly_allowed)}+{len(wrongly_refused)}"
    show(f"S05 {part}", figure, "0+0", not wrongly_allowed and not wrongly_refused and allowances > 0)


def _trials(operation: Operation, own: Side, other: Side) -> list[Trial]:
    return trials(operation.needs, own.org_id, other.org_id, other.ids["buckets"], TYPES)


def test_s05_a_list_shows_what_may_be_read_and_nothing_else(sides: tuple[Side, Side]) -> None:
    own, other = sides
    tokens = Tokens(own, other)
    faults, cells = [], 0
    for kind, path in PATHS.items():
        needs = _listed_needs(own, kind)
        params = _filter(own, kind)
        for trial in trials(needs, own.org_id, other.org_id, other.ids["buckets"], TYPES):
            answer = own.ask("GET", path, tokens.of(trial), params=params)
            cells += 1
            if (answer.status_code == 200 and own.ids[kind] in answer.text) != trial.covers(needs):
                faults.append(f"{kind} {trial.label}: {answer.status_code} {answer.text[:150]!r}")
    print("\n".join(faults[:30]))
    show("S05 lists", f"{len(faults)}/{cells}", 0, not faults)


def _listed_needs(own: Side, kind: str) -> tuple[Scope, ...]:
    id = own.ids[kind]
    if kind in ("authorizations", "legacy"):
        return Scope("read", "authorizations", id, own.org_id), Scope("read", "users", own.owner_id)
    if kind in ("orgs", "users"):
        return (Scope("read", kind, id),)
    on_type = "buckets" if kind == "dbrps" else kind
    return (Scope("read", on_type, own.ids[on_type], own.org_id),)


def _filter(own: Side, kind: str) -> dict[str, str]:
    """What narrows the list, so that the object is on its first page."""
    if kind == "orgs":
        return {"orgID": own.org_id}
    return {"id": own.ids[kind]} if kind == "users" else {"orgID": own.org_id, "limit": "100"}
