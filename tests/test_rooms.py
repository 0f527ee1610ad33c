# SPDX-License-Identifier: Apache-2.0
"""The rooms of the code: which may import which, read from the imports; and the size of files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT

# low to high: a room imports rooms before it, and its own parts
PACKAGE = ["core", "bfloat16", "losses", "metrics", "postprocessing", "inferers", "networks", "data"]
PACKAGE += ["released", "bundle", "handlers", ""]
SCRIPTS = ["common", "benchmarks", "label_app", "runtime", ""]


def imported(path: Path, package: str) -> Iterator[str]:
    """Full names of what a file of ``package`` imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def modules(folder: Path, top: str) -> dict[str, tuple[Path, str]]:
    """Full name -> file and the package that it is in."""
    found = {}
    for path in folder.rglob("*.py"):
        parts = (
            [top, *path.relative_to(folder).with_suffix("").parts]
            if top
            else [*path.relative_to(folder).with_suffix("").parts]
        )
        if parts[-1] == "__init__":
            found[".".join(parts[:-1])] = (path, ".".join(parts[:-1]))
        else:
            found[".".join(parts)] = (path, ".".join(parts[:-1]))
    return found


def edges(folder: Path, top: str) -> dict[str, set[str]]:
    """Module -> the modules of the same tree that it imports."""
    every = modules(folder, top)
    return {name: {*imported(*place)} & every.keys() - {name} for name, place in every.items()}


def room(name: str, top: str) -> str:
    parts = name.split(".")[1:] if top else name.split(".")
    return parts[0] if parts and (parts[0] in PACKAGE or parts[0] in SCRIPTS) else ""


def wrong(graph: dict[str, set[str]], rooms: list[str], top: str) -> list[str]:
    """Imports from a lower room to a higher one."""
    rank = {name: index for index, name in enumerate(rooms)}
    return [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in sorted(targets)
        if target != top and rank[room(target, top)] > rank[room(name, top)]
    ]


def circle(graph: dict[str, set[str]], top: str) -> list[str]:
    """Modules that import each other, directly or not; packages' __init__ files are left out."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for target in sorted(graph[name]):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return []

    for name in graph:
        if found := visit(name, []):
            return found
    return []


@pytest.mark.parametrize(
    ("folder", "top", "rooms"), [("unetv2_monai", "unetv2_monai", PACKAGE), ("scripts", "", SCRIPTS)]
)
def test_imports_go_downwards(folder, top, rooms):
    graph = edges(ROOT / folder, top)
    assert len(graph) > 10
    assert {room(name, top) for name in graph} == set(rooms)
    assert wrong(graph, rooms, top) == []
    assert circle(graph, top) == []


def test_commands_do_not_import_each_other():
    graph = edges(ROOT / "scripts", "")
    commands = {name for name in graph if "." not in name and room(name, "") == ""}
    assert len(commands) > 10
    assert {name: graph[name] & commands for name in commands if graph[name] & commands} == {}


def test_an_import_upwards_and_a_circle_are_found(tmp_path):
    for name, text in {
        "pkg/networks/net.py": "from ..handlers import table",
        "pkg/handlers/table.py": "def f():\n    import pkg.networks.net",
        "pkg/networks/__init__.py": "",
        "pkg/handlers/__init__.py": "",
        "pkg/__init__.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = edges(tmp_path / "pkg", "pkg")
    assert "pkg.networks.net imports pkg.handlers.table" in wrong(graph, PACKAGE, "pkg")
    assert sorted(circle(graph, "pkg")) == ["pkg.handlers.table", "pkg.networks.net"]


def test_no_file_is_long():
    paths = [path for folder in ("unetv2_monai", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    paths += (ROOT / "bundle" / "configs").rglob("*.*")
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > 400} == {}
