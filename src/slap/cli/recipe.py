"""Recipes: modules whose functions `model`, `data` and `trainer` are a run.

`slap.training.trainer` says how to write one.
"""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lightning.pytorch import LightningDataModule, Trainer

from slap.core.registry import found_module
from slap.training.module import SLAP

PARTS = {"model": SLAP, "data": LightningDataModule, "trainer": Trainer}
"""The functions of a recipe, with what they return."""


@dataclass(frozen=True)
class Recipe:
    """A run.

    Attributes:
        name: as the user gave it: of a built-in recipe, of a module, or a path.
        module: the module's name.
        description: the module's docstring.
        model: makes the model.
        data: makes the data module.
        trainer: makes the trainer.
        links: options that another one decides, each by the name of the other: the recipe's constant `LINKS`, e.g.
            `{"trainer.corpus": "data.corpus"}`. The command line then has the other one alone.
    """

    name: str
    module: str
    description: str
    model: Callable[..., SLAP]
    data: Callable[..., LightningDataModule]
    trainer: Callable[..., Trainer]
    links: Mapping[str, str] = field(default_factory=dict)


def built_in() -> list[str]:
    """The names of the recipes that come with the package."""
    package = importlib.import_module("slap.recipes")  # by name: the framework knows no recipe
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load(name: str) -> Recipe:
    """A recipe by its built-in name, by a module's dotted name, or by the path of a .py file.

    Raises:
        ValueError: there is no such recipe, or it lacks a function or the annotation of what the function returns.
        FileNotFoundError: no such file.
    """
    valid = [*built_in(), "the path of a .py file", "the name of a module"]
    module = found_module(f"slap.recipes.{name}" if name in built_in() else name, f"recipe {name!r}", valid)
    for part, returns in PARTS.items():
        function = getattr(module, part, None)
        if not callable(function):
            raise ValueError(f"the recipe {name!r} has no function `{part}`; it needs {', '.join(PARTS)}")
        annotation = typing.get_type_hints(function).get("return")
        if not (isinstance(annotation, type) and issubclass(annotation, returns)):
            raise ValueError(f"`{part}` of the recipe {name!r} must be annotated to return {returns.__name__}")
    functions = module.model, module.data, module.trainer
    return Recipe(name, module.__name__, module.__doc__ or "", *functions, getattr(module, "LINKS", {}))
