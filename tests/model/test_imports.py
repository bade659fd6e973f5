"""Imports run one way, recipes -> plug-ins -> framework, and what must be quick to import is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ("encoders", "objectives", "datamodules")
ROOMS = {"src/slap": (), **{room: (room,) for room in PLUGINS}, "recipes": (*PLUGINS, "recipes")}
"""For each room, those beside the framework whose modules it may import."""


def violations(source, allowed):
    """What a source imports although its room may not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level] if node.level else [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            by_folder = parts[0] in (*PLUGINS, "recipes", "")  # objectives.x instead of slap.objectives.x, or relative
            wrong_way = parts[0] == "slap" and parts[1:2] and parts[1] in {*PLUGINS, "recipes"} - {*allowed}
            if by_folder or wrong_way:
                found.append(name)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    files = sorted((ROOT / room).glob("**/*.py"))
    assert files
    found = {file.name: violations(file.read_text(), ROOMS[room]) for file in files}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("source", "allowed", "found"),
    [
        ("from slap.objectives import contrastive", (), ["slap.objectives.contrastive"]),
        ("from slap import objectives, Packed", (), ["slap.objectives"]),
        ("def f():\n    import slap.recipes.demo", ("encoders",), ["slap.recipes.demo"]),
        ("from slap.objectives.sinkhorn import sinkhorn", ("objectives",), []),
        ("from objectives.sinkhorn import sinkhorn", ("objectives",), ["objectives.sinkhorn.sinkhorn"]),
        ("from .sinkhorn import sinkhorn", ("objectives",), ["."]),
        ("from slap.core.packed import Packed\nimport slap.model.views\nimport torch", (), []),
    ],
)
def test_the_rule_itself(source, allowed, found):
    assert violations(source, allowed) == found


@pytest.mark.parametrize("module", ["slap", "slap.cli.main", "slap.cli.plugins"])
def test_light_modules_import_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in ('torch', 'lightning', 'lhotse') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
