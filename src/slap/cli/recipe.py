"""Recipes on the command line: `slap fit`, `validate`, `test` and `predict` find one and hand it to LightningCLI.

Lightning takes seconds to import, so everything that can be answered without it is answered here: help without a
recipe, a recipe that does not exist, an option that it does not offer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from slap.cli.recipe_beside import refuse_imports
from slap.cli.recipe_source import CONFIG, built_in, description, module_of, refuse_absent, refuse_unknown
from slap.core.errors import UserError
from slap.core.files import read_yaml
from slap.core.own_files import is_own
from slap.core.registry import load_plugins


def main(command: str, about: str, arguments: Sequence[str]) -> int:
    """Run one of the four commands.

    Args:
        command: its name.
        about: what it does, for its help.
        arguments: those after its name.

    Raises:
        ValueError: an option, recipe, plug-in or checkpoint that does not exist or does not fit.
        FileNotFoundError: a file that does not exist.
    """
    asked, rest, unnamed = _ask_first(arguments)
    if not asked.recipe:
        if {"-h", "--help"} & set(rest):
            print(_help_without_recipe(command, about))
            return 0
        raise UserError(f"`slap {command}` needs --recipe: one of {', '.join(built_in())}, a path, or a module")
    refuse_absent(asked.recipe)
    refuse_unknown(module_of(asked.recipe), rest)
    load_plugins(asked.plugins)
    from slap.cli import recipe_cli

    recipe_cli.run(command, about, recipe_cli.load(asked.recipe), asked.plugins, rest, unnamed)
    return 0


def _ask_first(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str], Path | None]:
    """Return the recipe and the plug-ins, on which the other options depend, and the remaining arguments.

    They may come from the command line, from a config file, or from the one that lies beside the checkpoint. The path
    of the latter is returned too if it is not the user's own; see `slap.cli.recipe_beside`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--plugins", nargs="+", action="extend", default=[])
    asked, rest = parser.parse_known_args(arguments)
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("--ckpt_path")
    seen, _ = parser.parse_known_args(arguments)
    beside = Path(seen.ckpt_path or "").parent / CONFIG
    if not asked.recipe and not seen.config and seen.ckpt_path and beside.is_file():
        if not is_own(beside):
            asked.recipe = refuse_imports(beside, arguments)
            return asked, rest, beside
        seen.config = [str(beside)]
        rest = ["--config", str(beside), *rest]
    for path in map(Path, seen.config):
        if path.is_file():  # otherwise the parser proper complains
            config = read_yaml(path)
            asked.recipe = seen.recipe or config.get("recipe") or asked.recipe
            asked.plugins += [plugin for plugin in config.get("plugins") or [] if plugin not in asked.plugins]
    return asked, rest, None


def _help_without_recipe(command: str, about: str) -> str:
    recipes = "\n".join(f"  {name:<20} {description(module_of(name)).splitlines()[0]}" for name in built_in())
    return (
        f"usage: slap {command} --recipe NAME [--plugins MODULE ...] [--config FILE] [--ckpt_path FILE] [options]\n\n"
        f"{about}\n\nrecipes, besides the path of a .py file or the name of a module:\n{recipes}\n\n"
        f"`slap {command} --recipe NAME --help` shows the options of a recipe."
    )
