"""Modules of the user's that register plug-ins or are recipes, imported by name or path, with messages for people."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from slap.cli.main import suggestion
from slap.core.registry import load_module


def load_plugins(names: Iterable[str]) -> None:
    """Import modules, by dotted name or by the path of a .py file, that register plug-ins.

    Raises:
        ValueError: there is no such module.
        FileNotFoundError: no such file.
    """
    for name in names:
        found_module(name, f"module {name!r} to load as plug-ins", ["the path of a .py file", "the name of a module"])


def found_module(where: str, what: str, valid: list[str]) -> ModuleType:
    """Import a module.

    Args:
        where: its dotted name, or the path of a .py file.
        what: how messages call it.
        valid: what would be accepted.

    Raises:
        ValueError: there is none.
        FileNotFoundError: no such file.
    """
    try:
        return load_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise  # it is there, but something that it imports is not
        raise ValueError(f"there is no {what}; {suggestion(where, valid)}") from error
