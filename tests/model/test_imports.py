"""Light modules import nothing heavy, and no modules import each other in a circle. `make layers` checks the layers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"slap": "src/slap"} | {f"slap.{name}": name for name in ("encoders", "objectives", "datamodules", "recipes")}


@pytest.mark.parametrize("module", ["slap", "slap.cli.main", "slap.cli.plugins"])
def test_light_modules_import_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in ('torch', 'lightning', 'lhotse') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_modules_import_each_other_in_a_circle():
    """Check all imports, also those within functions and for types alone."""
    assert circles(imports()) == []


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set()}
    assert circles(graph) == [frozenset("abc")]


def imports() -> dict[str, set[str]]:
    """Return for each module of the package the modules of the package that it imports anywhere in its file."""
    files = {name: path for package, folder in FOLDERS.items() for name, path in modules(package, ROOT / folder)}
    return {name: imported(path, set(files)) - {name} for name, path in files.items()}


def modules(package: str, folder: Path) -> list[tuple[str, Path]]:
    names = [(path.relative_to(folder).with_suffix("").parts, path) for path in sorted(folder.rglob("*.py"))]
    return [(".".join([package, *(part for part in parts if part != "__init__")]), path) for parts, path in names]


def imported(path: Path, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & known or {node.module}
    return found & known


def circles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """Return the groups of two or more modules each of which reaches every other."""
    reach = {name: reachable(graph, name) for name in graph}
    groups = {frozenset({name, *(other for other in reach[name] if name in reach[other])}) for name in graph}
    return sorted((group for group in groups if len(group) > 1), key=sorted)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found, left = set(), [start]
    while left:
        for name in graph[left.pop()] - found:
            found.add(name)
            left.append(name)
    return found
