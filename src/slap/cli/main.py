"""The command line: `slap COMMAND ...`, installed as `lightning` too.

Everything heavy is imported by the command that needs it, so that `slap --help` answers at once.

A command is a module that installed packages list in the entry-point group `slap.commands`. The first line of its
docstring is its help; `configure(parser)` adds its arguments to an `argparse.ArgumentParser`; `run(arguments)` takes
the parsed arguments and returns the exit status. A command with a parser of its own has `main(arguments)` instead,
which takes the strings after its name. Either imports what is heavy inside `run` or `main`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version

from slap.core.errors import PrintableFormatter, UserError, printable_lines, suggest
from slap.core.launched import refuse_torchrun

FIRST = ("fit", "validate", "test", "predict")
"""Commands that the help lists first."""

DEBUG = "SLAP_DEBUG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 2 after a message about what the user asked for."""
    debug = bool(os.environ.get(DEBUG))
    if logging.lastResort is not None:  # the handler of a program that sets up no logging
        logging.lastResort.setFormatter(PrintableFormatter())
    try:
        options = _parser().parse_args(arguments)
        debug = debug or options.debug
        if options.version:
            print(f"slap {version('slap-audio')}")
            return 0
        if options.help or options.command is None:
            print(_help())
            return 0
        return _run(options.command, options.arguments)
    except (UserError, OSError) as error:
        if debug:
            raise
        print(
            f"slap: error: {printable_lines(str(error))}\n(`slap --debug ...` or {DEBUG}=1 shows where)",
            file=sys.stderr,
        )
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slap", add_help=False, allow_abbrev=False)
    for option in ("--help", "--version", "--debug"):
        parser.add_argument(*(["-h"] if option == "--help" else []), option, action="store_true")
    parser.add_argument("command", nargs="?")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _run(command: str, arguments: list[str]) -> int:
    commands = _commands()
    if command not in commands:
        raise UserError(f"there is no command {command!r}; {suggest(command, commands)}")
    module = commands[command].load()
    if hasattr(module, "main"):
        return int(module.main(arguments))
    parser = argparse.ArgumentParser(prog=f"slap {command}", description=module.__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.configure(parser)
    parsed, rest = parser.parse_known_args(arguments)
    if rest:
        wrong = next((word.split("=")[0] for word in rest if word.startswith("--")), None)
        names = [name for name in parser._option_string_actions if name.startswith("--")]
        parser.error(f"unrecognized arguments: {' '.join(rest)}" + (f"; {suggest(wrong, names)}" if wrong else ""))
    if getattr(parsed, "devices", 1) == 1:  # with several, Lightning spreads the work over processes
        refuse_torchrun(command)
    return int(module.run(parsed))


def _commands() -> dict[str, EntryPoint]:
    installed = {entry.name: entry for entry in entry_points(group="slap.commands")}
    return {name: installed[name] for name in sorted(installed, key=lambda name: (*FIRST, name).index(name))}


def _help() -> str:
    lines = {name: _first_line(command) for name, command in _commands().items()}
    return "\n".join(
        [
            "usage: slap [--debug] COMMAND ...",
            "",
            "Train, evaluate and use language-audio models on audio of any duration.",
            "",
            "commands:",
            *(f"  {command:<10} {line}" for command, line in lines.items()),
            "",
            "`slap COMMAND --help` says more; for the options of a recipe, `slap fit --recipe NAME --help`.",
            "",
            "options:",
            "  -h, --help  show this and exit",
            "  --version   show the version and exit",
            "  --debug     show the traceback of every error",
        ]
    )


def _first_line(command: EntryPoint) -> str:
    try:
        return (command.load().__doc__ or "").strip().split("\n")[0]
    except ImportError as error:  # somebody's broken command does not take the others away
        return f"(cannot be imported: {error})"
