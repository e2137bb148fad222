"""The import rules: the layout is the architecture (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import grimp
import pytest

from common.messages import CALLERS

ROOT = Path(__file__).parent.parent
SERVICES = ("auth", "gateway", "ingest", "query", "storage", "cli", "export")
# The rooms of a service, lowest first: a room imports itself and lower lines. What is in no room stands above them all.
ROOMS = {
    "auth": (
        ("config", "entities", "rest"), ("records", "security"), ("context",), ("access",), ("resources",), ("v1",),
        ("setup",),
    ),
    "query": (
        ("config", "influxql"), ("engine",), ("render",), ("control", "planning", "reading"), ("context",),
        ("execute",), ("evaluation", "schema"), ("administration", "removal"),
    ),
    "storage": (
        ("config", "catalog"), ("sqlite", "state"), ("commits",), ("reading",), ("changes", "compaction", "recovery"),
        ("sweep",),
    ),
}  # fmt: skip
# What a pure module must not reach, by whatever way: networks, event loops, SQL, files, environment, clock, randomness.
IMPURE = {
    "aiohttp", "asyncio", "aiosqlite", "sqlite3", "os", "pathlib", "socket", "subprocess", "tempfile", "shutil",
    "time", "random", "secrets", "uuid", "requests", "urllib", "http", "pydantic_settings", "structlog", "logging",
}  # fmt: skip


@cache
def graph() -> grimp.ImportGraph:
    # Its cache on disk goes wrong when several runs share it.
    return grimp.build_graph("services", "common", include_external_packages=True, cache_dir=None)


def ours() -> list[str]:
    return sorted(name for name in graph().modules if name.partition(".")[0] in ("services", "common"))


def source(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def docstring(module: str) -> str:
    return ast.get_docstring(ast.parse(source(module).read_text())) or ""


def pure_modules() -> list[str]:
    return [module for module in ours() if re.search(r"· pure\b", docstring(module))]


def test_common_does_not_know_that_services_exist() -> None:
    for module in ours():
        if module.startswith("common"):
            assert not [
                name for name in graph().find_modules_directly_imported_by(module) if name.startswith("services")
            ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_itself_and_common(service: str) -> None:
    for module in ours():
        if not module.startswith(f"services.{service}"):
            continue
        for imported in graph().find_modules_directly_imported_by(module):
            own = imported.startswith(f"services.{service}") or not imported.startswith("services")
            assert own, f"{module} imports {imported}"


@pytest.mark.parametrize("service", ROOMS)
def test_the_rooms_of_a_service_import_downwards(service: str) -> None:
    heights = {room: height for height, line in enumerate(ROOMS[service]) for room in line}
    folders = {path.parent.name for path in (ROOT / "services" / service).glob("*/__init__.py")}
    assert folders <= set(heights), "a room without a place in the order"

    def room_of(module: str) -> str:
        parts = module.split(".")
        return parts[2] if parts[:2] == ["services", service] and parts[2:] else ""

    for module in filter(lambda name: room_of(name) in heights, ours()):
        for imported in filter(room_of, graph().find_modules_directly_imported_by(module)):
            own, other = room_of(module), room_of(imported)
            assert own == other or heights.get(other, len(heights)) < heights[own], f"{module} imports {imported}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    for module in ours():
        waiting, reached = list(graph().find_modules_directly_imported_by(module)), set[str]()
        while waiting:
            imported = waiting.pop()
            if imported not in reached and imported.partition(".")[0] in ("services", "common"):
                reached.add(imported)
                waiting += graph().find_modules_directly_imported_by(imported)
        assert module not in reached, f"{module} is in a circle of imports"


def test_there_are_pure_modules_and_they_reach_nothing_impure() -> None:
    pure = pure_modules()
    assert len(pure) >= 10
    for module in pure:
        reached = {module}
        waiting = [module]
        while waiting:
            for imported in graph().find_modules_directly_imported_by(waiting.pop()):
                top = imported.partition(".")[0]
                assert top not in IMPURE, f"{module} is marked pure and reaches {imported}"
                if top in ("services", "common") and imported not in reached:
                    reached.add(imported)
                    waiting.append(imported)


def test_only_the_sqlite_folder_knows_sql() -> None:
    for module in ours():
        imported = graph().find_modules_directly_imported_by(module)
        if {"sqlite3", "aiosqlite"} & imported:
            assert module.startswith("services.storage.sqlite"), module


def test_every_module_says_what_it_is() -> None:
    for module in ours():
        if source(module).name != "__init__.py":
            assert docstring(module), module


def test_every_internal_call_is_documented_and_every_documented_one_exists() -> None:
    documented = set(re.findall(r"^### ([a-z]+\.[a-z_]+)", (ROOT / "docs" / "rpc.md").read_text(), re.MULTILINE))
    # The feed of storage and that of auth have a section of their own.
    assert documented | {"storage.feed", "auth.feed"} == set(CALLERS)


def test_the_procfile_the_compose_file_and_the_services_name_the_same_five() -> None:
    procfile = dict(
        re.findall(r"^(\w+): exec python -m services\.(\w+)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    )
    assert set(procfile) == {"auth", "gateway", "ingest", "query", "storage"}
    assert all(name == module for name, module in procfile.items())
