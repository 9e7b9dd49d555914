"""Which folder may import which: one way only, so that a folder can be read without those that build on it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("dynafront", "search", "spaces", "trainers", "storage")
ALLOWED = {
    "dynafront": {"search", "spaces", "trainers", "storage"},
    "search": {"spaces", "trainers", "storage"},
    "trainers": {"spaces"},
    "spaces": set(),
    "storage": set(),
}


def folder_of(file: Path) -> str:
    """The folder of a module as a name: "search.front"; the package itself for a module that lies in none."""
    return ".".join(file.relative_to(ROOT).parent.parts)


def imported(text: str) -> Iterator[str]:
    """The modules that a module imports, inside functions and for type checkers alone too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(package: str) -> dict[str, dict[str, list[str]]]:
    """For each folder of a package, the folders that it imports from, and by which files."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    folders = {module.replace("/", "."): folder for module, folder in _modules()}
    for file in sorted((ROOT / package).rglob("*.py")):
        if file == ROOT / "search" / "cli.py":  # it starts everything
            continue
        here = folder_of(file)
        for name in imported(file.read_text(encoding="utf-8")):
            there = folders.get(name)
            if there is not None and there != here:
                found[here][there].append(f"{file.relative_to(ROOT)} imports {name}")
    return found


def _modules() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if file.name != "__init__.py":
                yield str(file.relative_to(ROOT).with_suffix("")), folder_of(file)


def circle(graph: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """The folders of a circle, the first also last; empty where there is none."""
    try:
        TopologicalSorter({folder: set(others) for folder, others in graph.items()}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_a_package_import_each_other_one_way(package: str) -> None:
    graph = arrows(package)
    found = circle(graph)
    reasons = [graph[a][b][0] for a, b in pairwise(found)]
    assert not found, f"{' -> '.join(found)}: {'; '.join(reasons)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    upward = [
        reason
        for others in arrows(package).values()
        for folder, reasons in others.items()
        if folder.partition(".")[0] not in ALLOWED[package] | {package}
        for reason in reasons
    ]
    assert upward == []


def test_a_circle_of_folders_is_found() -> None:
    graph = {"a": {"b": [""]}, "b": {"c": [""]}, "c": {"b": [""]}, "d": {"a": [""]}}
    assert sorted(set(circle(graph))) == ["b", "c"]
    assert circle({"a": {"b": [""]}, "b": {"c": [""]}}) == []
