"""The pages of recipes and plug-ins: tables of their options with defaults and descriptions, from their docstrings."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import docstring_parser
import jsonargparse
from command_pages import escaped

from slap.cli.plugins import listing
from slap.cli.recipe_cli import Recipe, load
from slap.cli.recipe_source import built_in
from slap.core.registry import kinds

PARTS = {"model": "Model", "data": "Data", "trainer": "Trainer"}


def recipes_page() -> str:
    """Return the page of recipes in Markdown."""
    sections = "\n".join(recipe_section(name) for name in built_in())
    return (
        "# Recipes\n\n"
        "A recipe is a module with the functions `model`, `data` and `trainer`, whose arguments are the options of "
        "`slap fit --recipe NAME`. Options of Lightning's trainer that the package does not change are listed once, "
        "below [`base`](#base).\n\n"
        f"{sections}"
    )


def recipe_section(name: str) -> str:
    """Return the section of one recipe."""
    recipe = load(name)
    own = "\n".join(
        f"### {title} of {name}\n\n{table(function_options(recipe, part, lightning=False))}\n"
        for part, title in PARTS.items()
    )
    more = ""
    if name == "base":
        more = f"### Lightning's trainer\n\n{table(function_options(recipe, 'trainer', lightning=True))}\n"
    description = "\n".join(escaped(line) for line in recipe.description.strip().splitlines())
    return f"## {name}\n\n{description}\n\n{own}\n{more}"


def function_options(recipe: Recipe, part: str, lightning: bool) -> Iterator[tuple[str, Any, str]]:
    """Yield name, default and description of the options of a recipe's function.

    Args:
        recipe: the recipe.
        part: the function, one of `PARTS`.
        lightning: yield the options that come from Lightning's trainer, or the others.
    """
    own = set(inspect.signature(importlib.import_module("slap.training.trainer").trainer).parameters)
    parameters = inspect.signature(getattr(recipe, part)).parameters
    own |= set(parameters)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(getattr(recipe, part), part, fail_untyped=False)
    for action in parser._actions:
        option = action.dest.removeprefix(f"{part}.")
        plain = action.option_strings[:1] == [f"--{action.dest}"] and action.dest.startswith(f"{part}.")
        if not plain or action.dest.endswith(".help") or action.dest in recipe.links:
            continue
        if part != "trainer" or lightning == (option not in own):
            required = option in parameters and parameters[option].default is inspect.Parameter.empty
            yield f"--{action.dest}", "required" if required else action.default, first_paragraph(action.help)


def plugins_page() -> str:
    """Return the page of the registered encoders, objectives, corpora and whatever else is a plug-in."""
    sections = [
        f"## {kinds()[kind].plural.capitalize()}\n\n" + "\n".join(plugin_section(*item) for item in found.items())
        for kind, found in listing().items()
    ]
    return (
        "# Built-in plug-ins\n\n"
        "`slap plugins` prints this list, together with the plug-ins that you have installed. The arguments are "
        "written as in `--model.audio '{name: transformer, size: small}'`.\n\n" + "\n".join(sections)
    )


def plugin_section(name: str, about: dict[str, Any]) -> str:
    """Return the section of one plug-in."""
    module, _, attribute = about["class"].rpartition(".")
    documented = docstring_parser.parse(getattr(importlib.import_module(module), attribute).__doc__ or "")
    help_of = {param.arg_name: param.description or "" for param in documented.params}
    rows = [
        (argument, "required" if entry["required"] else entry["default"], help_of.get(argument, ""))
        for argument, entry in about["arguments"].items()
    ]
    arguments = table(rows) if rows else "It has no arguments.\n"
    return f"### {name}\n\n{escaped(about['about'])} Class {{py:obj}}`{about['class']}`.\n\n{arguments}\n"


def table(rows: typing.Iterable[tuple[str, Any, str]]) -> str:
    """Return a table of names, defaults and descriptions in Markdown."""
    lines = [f"| `{name}` | {shown(default)} | {cell(text)} |" for name, default, text in rows]
    return "\n".join(["| option | default | |", "|---|---|---|", *lines]) + "\n"


def shown(default: Any) -> str:
    """Return a default as a cell of a table."""
    if default == "required":
        return str(default)
    text = str(default) if isinstance(default, str) and default else repr(default)
    return f"`{text}`".replace("|", "\\|")


def cell(text: str) -> str:
    """Return a description as a cell of a table."""
    return escaped(" ".join(text.split())).replace("|", "\\|")


def first_paragraph(text: str | None) -> str:
    """Return a description without the sentence on the default that Lightning writes behind it."""
    return (text or "").split("\nDefault:")[0].replace("``", "`")
