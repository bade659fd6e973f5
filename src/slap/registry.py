"""Names for plug-ins: `@register("name")` on an encoder or an objective, and building them from plain arguments."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from torch import nn

from slap.contracts import AudioEncoder, Objective, TextEncoder

T = TypeVar("T", bound=type[nn.Module])

KINDS: dict[str, type[nn.Module]] = {
    "audio encoder": AudioEncoder,
    "text encoder": TextEncoder,
    "objective": Objective,
}
"""What can be registered, by the name that messages use. Each kind has names of its own."""

RESERVED = {"audio encoder": {"name"}, "text encoder": {"name"}, "objective": {"weight", "objective"}}
"""Words that a specification uses itself, so that no plug-in may have an argument of that name."""

_plugins: dict[str, dict[str, type[nn.Module]]] = {kind: {} for kind in KINDS}
_loaded = False


def register(name: str) -> Callable[[T], T]:
    """Class decorator: make an `AudioEncoder`, `TextEncoder` or `Objective` known by a name.

    Raises:
        TypeError: the class is none of the three, or its arguments cannot be listed or collide with a reserved word.
        ValueError: another class has this name.

    Example:
        >>> from slap import Objective, register
        >>> @register("doctest_zero")
        ... class Zero(Objective):
        ...     def forward(self, views):
        ...         return views.full.embedding.sum() * 0
    """

    def add(plugin: T) -> T:
        kind = next((kind for kind, base in KINDS.items() if issubclass(plugin, base)), None)
        if kind is None:
            raise TypeError(f"{plugin.__qualname__} must derive from AudioEncoder, TextEncoder or Objective")
        for argument in arguments(plugin).values():
            if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
                raise TypeError(f"{plugin.__qualname__}.__init__ must name its arguments instead of `{argument}`")
            if argument.name in RESERVED[kind]:
                raise TypeError(f"{plugin.__qualname__}.__init__ may not have an argument called {argument.name!r}")
        known = _plugins[kind].get(name)
        if known is not None and (known.__module__, known.__qualname__) != (plugin.__module__, plugin.__qualname__):
            raise ValueError(f"{kind} {name!r} is registered already, by {known.__module__}.{known.__qualname__}")
        _plugins[kind][name] = plugin
        return plugin

    return add


def arguments(plugin: type) -> dict[str, inspect.Parameter]:
    """The arguments that a plug-in's constructor takes, without `self`."""
    constructor = plugin.__init__  # type: ignore[misc]
    if constructor in (nn.Module.__init__, object.__init__):  # it has no constructor of its own
        return {}
    return dict(list(inspect.signature(constructor).parameters.items())[1:])


def plugins(kind: str) -> dict[str, type[nn.Module]]:
    """All plug-ins of a kind by name, in the order of their names; loads the installed plug-in packages first."""
    load_installed()
    return dict(sorted(_plugins[kind].items()))


def load_installed() -> None:
    """Import what installed packages, this one included, list in the entry-point group `slap.plugins`."""
    global _loaded
    if _loaded:
        return
    _loaded = True  # first, so that a plug-in that asks the registry while it loads does not start over
    try:
        for entry in entry_points(group="slap.plugins"):
            entry.load()
    except BaseException:
        _loaded = False  # or the next look-up would list half of the plug-ins as if they were all
        raise


def load_module(where: str) -> ModuleType:
    """Import a module by its dotted name or by the path of its file.

    Raises:
        FileNotFoundError: `where` ends in .py and is not there.
        ModuleNotFoundError: no such module.
    """
    if not where.endswith(".py"):
        if str(Path.cwd()) not in sys.path:  # a console script does not look where the user stands, as `python -m` does
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(where)
    path = Path(where).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None:
        raise ImportError(f"{path} cannot be imported as {path.stem!r}: a module of that name is loaded already")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # before it runs, so that its classes can be pickled
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def build(kind: str, name: str, options: Mapping[str, Any]) -> nn.Module:
    """Make the plug-in that is registered under a name.

    Raises:
        ValueError: the name or an argument is unknown, or an argument without default is missing; lists what is valid.
    """
    known = plugins(kind)
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; {_choices(name, known)}")
    valid = arguments(known[name])
    for option in options:
        if option not in valid:
            raise ValueError(f"{kind} {name!r} has no argument {option!r}; {_choices(option, valid)}")
    missing = [arg.name for arg in valid.values() if arg.default is arg.empty and arg.name not in options]
    if missing:
        raise ValueError(f"{kind} {name!r} needs {', '.join(missing)}; it takes {', '.join(valid)}")
    return known[name](**options)


def _choices(wrong: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, list(valid), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}valid are: {', '.join(valid) or 'none'}"
