"""The page of the command line: each command's description and options, from its argparse parser."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from importlib.metadata import entry_points
from types import ModuleType

from slap.cli.main import main
from slap.cli.recipe_source import built_in, description, module_of

LISTED = re.compile(r"^  (\w+) +(\S.*)$", re.MULTILINE)
"""A command and its first line in the output of `slap --help`."""


def commands_page() -> str:
    """Return the page in Markdown."""
    sections = "\n".join(command_section(parser) for parser in parsers().values())
    usage = help_of(["fit"]).splitlines()[0].removeprefix("usage: ")
    recipes = "\n".join(f"| [`{name}`](recipes.md#{name}) | {first_line(name)} |" for name in built_in())
    listed = "\n".join(f"| `slap {name}` | {escaped(about)} |" for name, about in LISTED.findall(help_of([])))
    return (
        "# Command line\n\n"
        f"| command | |\n|---|---|\n{listed}\n\n"
        "`slap --version` prints the version; `slap --debug COMMAND ...` shows the traceback of every error.\n\n"
        "## slap fit, validate, test, predict\n\n"
        "These commands run a recipe. The options of each recipe are listed [on their page](recipes.md) and by "
        f"`slap fit --recipe NAME --help`.\n\n```text\n{usage}\n```\n\n"
        "`--plugins` imports modules or .py files before, `--config` reads options from a YAML file, and `--ckpt_path` "
        "names the checkpoint to continue or to load: a path, `best` or `last`. Besides the names below, NAME may be "
        f"the path of a .py file or the name of a module.\n\n| recipe | |\n|---|---|\n{recipes}\n\n{sections}"
    )


def first_line(recipe: str) -> str:
    """Return the first line of a recipe's docstring as Markdown."""
    return escaped(description(module_of(recipe)).splitlines()[0])


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command whose options do not depend on a recipe, by the command's name."""
    modules = {entry.name: entry.load() for entry in entry_points(group="slap.commands")}
    return {name: parser_of(name, modules[name]) for name in sorted(modules) if hasattr(modules[name], "configure")}


def parser_of(command: str, module: ModuleType) -> argparse.ArgumentParser:
    """Return the parser of one command, as the command line makes it."""
    parser = argparse.ArgumentParser(prog=f"slap {command}", description=module.__doc__, allow_abbrev=False)
    module.configure(parser)
    return parser


def help_of(arguments: list[str]) -> str:
    """Return what `slap ARGUMENTS --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return printed.getvalue().strip()


def command_section(parser: argparse.ArgumentParser) -> str:
    """Return the section of one command."""
    description = markdown_of(parser.description or "")
    options = "\n".join(option_item(parser, action) for action in parser._actions if action.help != argparse.SUPPRESS)
    epilog = f"```text\n{parser.epilog}\n```\n" if parser.epilog else ""
    return f"## {parser.prog}\n\n{description}\n\n{options}\n\n{epilog}"


def option_item(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return an option and its help as an item of a definition list."""
    value = "" if action.nargs == 0 else argparse.HelpFormatter(parser.prog)._format_args(action, value_name(action))
    names = ", ".join(action.option_strings)
    term = f"{names} {value}".strip()
    help_ = (action.help or "") % {**vars(action), "prog": parser.prog}
    return f"`{term}`\n: {escaped(help_)}\n"


def value_name(action: argparse.Action) -> str:
    """Return the name of an option's value, as argparse shows it."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    name = choices or (action.dest.upper() if action.option_strings else action.dest)
    return str(action.metavar or name)


def markdown_of(text: str) -> str:
    """Return a docstring of plain text as Markdown: its indented blocks are code already, `<` and `*` are escaped."""
    lines = text.strip().splitlines()
    return "\n".join(line if line.startswith("    ") else escaped(line) for line in lines)


def escaped(text: str) -> str:
    """Escape what Markdown would take for markup, outside of backticks."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for part in parts[::2]]
    return "`".join(parts)
