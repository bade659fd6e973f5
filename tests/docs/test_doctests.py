"""The examples in docstrings run, imported as `slap.objectives.x` and so on, as users import them."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("slap", "slap.encoders", "slap.objectives", "slap.datamodules", "slap.recipes")

MODULES = [
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found_in_every_corner():
    finder = doctest.DocTestFinder()
    examples = {
        name: sum(len(test.examples) for test in finder.find(importlib.import_module(name))) for name in MODULES
    }
    assert examples["slap.core.packed"] > 0
    assert sum(count > 0 for count in examples.values()) > 5
