"""Names for plug-ins: `@register("name")` on a class of some kind, and building them from plain arguments.

A kind is a base class with the name that messages use. The module of the base class adds it: `slap.model.contracts`
the encoders and objectives, `slap.datamodules.corpora` the corpora. So this module knows no plug-in and needs no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from slap.core.errors import UserError, suggest

GROUP = "slap.plugins"

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Kind:
    """A kind of plug-ins.

    Attributes:
        name: its name in messages, e.g. "objective". Plug-ins of different kinds may have the same name.
        base: the base class of all plug-ins of this kind.
        plural: its plural in lists.
        reserved: keys that a specification uses itself, so that no plug-in may have an argument of that name.
    """

    name: str
    base: type
    plural: str
    reserved: frozenset[str]


_kinds: dict[str, Kind] = {}
_plugins: dict[str, dict[str, type]] = {}
_loaded: set[str] = set()  # groups of entry points


def add_kind(name: str, base: type, plural: str | None = None, reserved: Iterable[str] = ()) -> None:
    """Add a kind of plug-ins; see `Kind` for the arguments.

    Raises:
        ValueError: another base class has this name.
    """
    known = _kinds.get(name)
    if known is not None and _path(known.base) != _path(base):
        raise UserError(f"the kind {name!r} is {_path(known.base)} already")
    _kinds[name] = Kind(name, base, plural or f"{name}s", frozenset(reserved))
    _plugins.setdefault(name, {})


def kinds() -> dict[str, Kind]:
    """Return all kinds, in the order of their names; loads the installed plug-in packages first."""
    load_installed()
    return dict(sorted(_kinds.items()))


def register(name: str) -> Callable[[T], T]:
    """Register an `AudioEncoder`, `TextEncoder`, `Objective` or `Corpus` under a name; a class decorator.

    Raises:
        TypeError: the class is none of these, or its arguments cannot be listed or collide with a reserved word.
        ValueError: another class has this name.

    Example:
        >>> from slap import Objective, register
        >>> @register("doctest_zero")
        ... class Zero(Objective):
        ...     def forward(self, views):
        ...         return views.full.embedding.sum() * 0
    """

    def add(plugin: T) -> T:
        kind = _kind_of(plugin)
        if kind is None:
            bases = ", ".join(kind.base.__name__ for kind in _kinds.values())
            raise TypeError(f"{plugin.__qualname__} must derive from one of {bases}")
        for argument in arguments(plugin).values():
            if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
                raise TypeError(f"{plugin.__qualname__}.__init__ must name its arguments instead of `{argument}`")
            if argument.name in kind.reserved:
                raise TypeError(f"{plugin.__qualname__}.__init__ may not have an argument called {argument.name!r}")
        known = _plugins[kind.name].get(name)
        if known is not None and _path(known) != _path(plugin):
            raise UserError(f"{kind.name} {name!r} is registered already, by {_path(known)}")
        _plugins[kind.name][name] = plugin
        return plugin

    return add


def arguments(plugin: type) -> dict[str, inspect.Parameter]:
    """Return the arguments of a plug-in's constructor, without `self`.

    A constructor that it inherits from its kind's base class or from above, e.g. from nn.Module, does not count.
    """
    kind, line = _kind_of(plugin), plugin.__mro__
    owner = next(cls for cls in line if "__init__" in vars(cls))
    if owner is object or (kind is not None and line.index(owner) > line.index(kind.base)):
        return {}
    return dict(list(inspect.signature(owner.__init__).parameters.items())[1:])  # type: ignore[misc]


def plugins(kind: str) -> dict[str, type]:
    """Return all plug-ins of a kind by name, sorted; load the installed ones of this kind first.

    Raises:
        ValueError: there is no such kind.
    """
    load_installed(kind)
    if kind not in _plugins:
        raise UserError(f"there is no kind {kind!r} of plug-ins; {suggest(kind, kinds())}")
    return dict(sorted(_plugins[kind].items()))


def registered(kind: str) -> dict[str, type]:
    """Return the plug-ins of a kind that are registered so far, in the order of their names; loads nothing."""
    return dict(sorted(_plugins.get(kind, {}).items()))


def find(kind: str, name: str) -> type:
    """Return the plug-in that is registered under a name; loads the installed packages only if it is not known yet.

    Raises:
        ValueError: there is no such plug-in; the message lists the valid names.
    """
    if name in _plugins.get(kind, {}):
        return _plugins[kind][name]
    known = plugins(kind)
    if name not in known:
        raise UserError(f"there is no {kind} {name!r}; {suggest(name, known)}")
    return known[name]


def load_installed(kind: str | None = None) -> None:
    """Import what installed packages, this one included, list as plug-ins of a kind, or of every kind.

    The modules stand in the entry-point group `slap.plugins.<kind>`, with `_` for spaces. Those in the group
    `slap.plugins` may register plug-ins of any kind, so they are imported with each.
    """
    groups = {GROUP, f"{GROUP}.{kind.replace(' ', '_')}"} if kind else _installed_groups()
    for group in sorted(groups - _loaded):
        _loaded.add(group)  # first, so that a plug-in that asks the registry while it loads does not start over
        try:
            for entry in entry_points(group=group):
                entry.load()
        except BaseException:
            _loaded.discard(group)  # or the next look-up would list half of the plug-ins as if they were all
            raise


def _installed_groups() -> set[str]:
    return {group for group in entry_points().groups if f"{group}.".startswith(f"{GROUP}.")}


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
        raise UserError(f"{path} cannot be imported as {path.stem!r}: a module of that name is loaded already")
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


def build(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Build the plug-in that is registered under a name.

    Raises:
        ValueError: the name or an argument is unknown, or an argument without default is missing; the message
            lists the valid ones.
    """
    plugin = find(kind, name)
    valid = arguments(plugin)
    for option in options:
        if option not in valid:
            raise UserError(f"{kind} {name!r} has no argument {option!r}; {suggest(option, valid)}")
    missing = [arg.name for arg in valid.values() if arg.default is arg.empty and arg.name not in options]
    if missing:
        raise UserError(f"{kind} {name!r} needs {', '.join(missing)}; it takes {', '.join(valid)}")
    return plugin(**options)


def _kind_of(plugin: type) -> Kind | None:
    return next((kind for kind in _kinds.values() if issubclass(plugin, kind.base)), None)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


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
        what: its name in messages.
        valid: accepted values, for messages.

    Raises:
        ValueError: there is no such module.
        FileNotFoundError: no such file.
    """
    try:
        return load_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise  # it is there, but something that it imports is not
        raise UserError(f"there is no {what}; {suggest(where, valid)}") from error
