"""The pages that are made of the installed package: rooms, commands, recipes and plug-ins, and the figure of the rooms.

They are written to `docs/generated` before Sphinx reads the sources, since their headings belong in the navigation.
"""

from __future__ import annotations

import importlib
import pkgutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

from command_pages import commands_page
from option_pages import plugins_page, recipes_page
from rooms_figure import rooms_figure
from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]


STABLE = """\
Stable are these names and what they take and return, the commands and their options, the options of recipes, the names
and arguments of plug-ins, the contracts of ``slap.model.contracts``, the entry points, and the formats of checkpoints,
exported folders and indexes. Before version 1.0 a release may still change one of them; the changelog then names the
change and what to write instead. All else may change with every release: what is imported from a module below, and the
layers within an encoder."""
"""The promise of the page about the Python API."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when Sphinx begins."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(app: Sphinx | None = None) -> None:
    """Write all generated pages; one whose text is the same stays untouched, so that Sphinx does not read it again."""
    layers = read_layers()
    rooms = [room for layer in layers for room in layer]
    pages = {
        "commands.md": commands_page(),
        "recipes.md": recipes_page(),
        "plugins.md": plugins_page(),
        "rooms.svg": rooms_figure(layers),
        "api/index.rst": api_index(rooms),
        **{f"api/{room}.rst": room_page(f"slap.{room}") for room in rooms},
    }
    folder = DOCS / "generated"
    for path in [path for path in folder.rglob("*.*") if path.relative_to(folder).as_posix() not in pages]:
        path.unlink()  # a room that is gone
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def read_layers() -> list[list[str]]:
    """Read the rooms of the package from the contract that import-linter holds, the highest layer first."""
    settings = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [[room.strip().removeprefix("slap.") for room in layer.split("|")] for layer in layers]


def api_index(rooms: list[str]) -> str:
    """Return the page that lists the public names of `slap` and all rooms."""
    slap = importlib.import_module("slap")
    names = "\n".join(f"   * - ``slap.{name}``\n     - {home_of(name)}" for name in slap.__all__)
    toctree = "\n".join(f"   {room}" for room in rooms)
    return (
        f"{heading('Python API')}\n"
        "The names that most programs need lie in ``slap`` itself:\n\n"
        f".. list-table::\n   :header-rows: 1\n\n   * - name\n     - defined as\n{names}\n\n"
        f"{STABLE}\n\n"
        "Everything else is imported from its module. Each room of the package has a page; "
        "the rooms are listed from the top layer down.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{toctree}\n"
    )


def home_of(name: str) -> str:
    """Return a link to the definition of a public name of `slap`, or its type where it is a plain value."""
    value = getattr(importlib.import_module("slap"), name)
    if hasattr(value, "__qualname__"):
        return f":py:obj:`{value.__module__}.{value.__qualname__}`"
    return f"a ``{type(value).__name__}``"


def room_page(package: str) -> str:
    """Return the page of a room: the public members of all of its modules."""
    modules = list(public_modules(package))
    sections = "\n".join(f"{heading(name, '-')}\n{automodule(name)}" for name in modules)
    return f"{heading(package)}\n{automodule(package)}\n{sections}"


def public_modules(package: str) -> Iterator[str]:
    """Yield the dotted names of the modules below a package, without those that begin with an underscore."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield module.name


def automodule(name: str) -> str:
    """Return the directive that documents a module."""
    return f".. automodule:: {name}\n   :members:\n   :ignore-module-all:\n   :show-inheritance:\n"


def heading(text: str, line: str = "=") -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{line * len(text)}\n"
