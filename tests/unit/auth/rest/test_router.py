"""Paths with named parts."""

from __future__ import annotations

import pytest

from services.auth.rest.router import Router

ROUTER = Router(
    {
        "/a": {"GET": "list"},
        "/a/{id}": {"GET": "one", "DELETE": "end"},
        "/a/{id}/b/{key}": {"PUT": "put"},
        "/a/{id}/b/all": {"PUT": "put all"},
    }
)


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("/a", "/a", {}),
        ("/a/", "/a", {}),
        ("/a/1", "/a/{id}", {"id": "1"}),
        ("/a/1/b/2", "/a/{id}/b/{key}", {"id": "1", "key": "2"}),
        ("/a/1/b/all", "/a/{id}/b/all", {"id": "1"}),
    ],
)
def test_a_path_leads_to_its_route_and_a_fixed_word_goes_before_a_named_part(
    path: str, route: str, params: dict[str, str]
) -> None:
    found = ROUTER.find(path)
    assert found is not None
    assert (found.route, found.params) == (route, params)


@pytest.mark.parametrize("path", ["/", "", "/b", "/a/1/b", "/a/1/c", "/a//b/2", "/a/1/b/2/c"])
def test_what_the_table_does_not_have_is_not_found(path: str) -> None:
    assert ROUTER.find(path) is None


def test_the_functions_of_a_route_are_told_by_method() -> None:
    found = ROUTER.find("/a/1")
    assert found is not None
    assert found.functions == {"GET": "one", "DELETE": "end"}


def test_a_part_has_one_name() -> None:
    with pytest.raises(ValueError, match="id"):
        Router({"/a/{id}": {"GET": 1}, "/a/{key}/b": {"GET": 2}})
