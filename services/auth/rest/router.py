"""Paths with named parts → what stands at them · pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Match(Generic[F]):
    """What a path leads to: the route as the table has it, its functions by method, and the named parts."""

    route: str
    functions: Mapping[str, F]
    params: Mapping[str, str]


@dataclass(slots=True)
class _Node(Generic[F]):
    """A place in the tree of paths: fixed words below it, one named part, and what is at the place itself."""

    words: dict[str, _Node[F]] = field(default_factory=dict)
    name: str = ""
    named: _Node[F] | None = None
    route: str = ""
    functions: Mapping[str, F] = field(default_factory=dict)


class Router(Generic[F]):
    """Finds paths in a table.

    Args:
        routes: paths such as ``/orgs/{id}/secrets``, each with a function by method; of two paths that part at a
            named part both give it the same name.
    """

    def __init__(self, routes: Mapping[str, Mapping[str, F]]) -> None:
        self._root: _Node[F] = _Node()
        for route, functions in routes.items():
            node = self._root
            for part in _parts(route):
                node = self._below(node, part)
            node.route, node.functions = route, functions

    def _below(self, node: _Node[F], part: str) -> _Node[F]:
        if not part.startswith("{"):
            return node.words.setdefault(part, _Node())
        if node.named is None:
            node.name, node.named = part[1:-1], _Node()
        if node.name != part[1:-1]:
            raise ValueError(f"{part} is called {{{node.name}}} in another path")
        return node.named

    def find(self, path: str) -> Match[F] | None:
        """What *path* leads to, fixed words first; the empty parts of ``a//b`` match nothing."""
        node, params = self._root, {}
        for part in _parts(path):
            if part in node.words:
                node = node.words[part]
            elif node.named is not None and part:
                params[node.name] = part
                node = node.named
            else:
                return None
        return Match(node.route, node.functions, params) if node.functions else None


def _parts(path: str) -> list[str]:
    return path.strip("/").split("/")
