"""Recipes as source code: their names, descriptions and options, without importing what makes them slow to import.

A misspelled option is refused before torch and Lightning are imported.

A function of a recipe offers its own arguments and, where it passes `**options` straight on, those of the function or
class that receives them, except for the ones that the call sets itself. LightningCLI resolves the same by importing
everything; this module follows the imports as text.
"""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from slap import recipes
from slap.core.errors import UserError, suggest

CONFIG = "config.yaml"
"""The file in a run's folder from which `--config` repeats the run."""

PARTS = ("model", "data", "trainer")
"""Functions of a recipe."""

COMMON = (
    *(f"--{name}" for name in ("help", "config", "print_config", "seed_everything", "recipe", "plugins", "ckpt_path")),
    "--weights",
    *(f"--{part}" for part in PARTS),
)
"""Options of every recipe; those of its functions follow a dot, as in `--model.lr`."""


def built_in() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(module.name for module in pkgutil.iter_modules(recipes.__path__) if not module.name.startswith("_"))


def module_of(recipe: str) -> str:
    """Return the dotted name, or the path, of the module of a recipe.

    Args:
        recipe: a built-in name, a module's dotted name, or the path of a .py file.
    """
    return f"{recipes.__name__}.{recipe}" if recipe in built_in() else recipe


def description(module: str) -> str:
    """Return the docstring of a recipe without importing it; "" if there is none."""
    return ast.get_docstring(_tree(_located(module))) or ""


def refuse_absent(recipe: str) -> None:
    """Refuse a name that is neither a built-in recipe nor a module; paths and dotted names are left to their import.

    Raises:
        ValueError: there is no such recipe; lists the built-in ones.
    """
    if "." in recipe or recipe in built_in() or Path(f"{recipe}.py").is_file() or Path(recipe).is_dir():
        return
    if _located(recipe) is None:
        valid = [*built_in(), "the path of a .py file", "the name of a module"]
        raise UserError(f"there is no recipe {recipe!r}; {suggest(recipe, valid)}")


def refuse_unknown(module: str, arguments: Sequence[str]) -> None:
    """Refuse options such as `--model.lrr` that a recipe does not offer.

    Options that cannot be decided from the source alone are left to the parser.

    Args:
        module: the recipe's dotted name, or the path of its file.
        arguments: of the command line.

    Raises:
        ValueError: an unknown option; lists the valid ones of the same function.
    """
    for argument in arguments:
        option, _, rest = argument.partition("=")[0].partition(".")
        if not option.startswith("--"):
            continue
        if option not in COMMON:
            raise UserError(f"unrecognized arguments: {argument}; {suggest(option, COMMON)}")
        valid = offered(module, option.removeprefix("--")) if rest else None
        if valid is not None and rest.split(".")[0].removesuffix("+") not in {*valid, "help"}:
            wrong, names = f"{option}.{rest}", [f"{option}.{name}" for name in valid]
            raise UserError(f"unrecognized arguments: {wrong}; {suggest(wrong, names)}")


def offered(module: str, part: str) -> list[str] | None:
    """Return the options of one function of a recipe, or None where the source does not say them.

    Args:
        module: the recipe's dotted name, or the path of its file.
        part: one of `PARTS`.
    """
    names = _arguments(_located(module), part)
    linked = _links(_tree(_located(module)))
    return names and [name for name in names if f"{part}.{name}" not in linked]


def _arguments(path: Path | None, name: str) -> list[str] | None:
    """Return the argument names of a function, or of a class's constructor, those passed on included."""
    found = _definition(path, name)
    if found is None:
        return None
    path, function = found
    spec = function.args
    own = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs) if argument.arg != "self"]
    if spec.kwarg is None:
        return own
    call = _receiver(function, spec.kwarg.arg)
    if call is None:
        return None
    parents = _arguments(*_referenced(path, call.func, function))
    if parents is None:
        return None
    given = {keyword.arg for keyword in call.keywords} | {*parents[: len(call.args)]}
    own += _taken_out(function, spec.kwarg.arg)
    return own + [name for name in parents if name not in own and name not in given]


def _receiver(function: ast.FunctionDef, options: str) -> ast.Call | None:
    """Find the call that takes the function's `**options`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg is None and isinstance(keyword.value, ast.Name) and keyword.value.id == options:
                    return node
    return None


def _taken_out(function: ast.FunctionDef, options: str) -> list[str]:
    """Return the options that the function takes out of its `**options` itself, by `options.pop("name", default)`."""
    return [
        str(node.args[0].value)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) == (options, "pop")
        and isinstance(node.args[0], ast.Constant)
    ]


def _definition(path: Path | None, name: str) -> tuple[Path, ast.FunctionDef] | None:
    """Find where a function, or the constructor of a class, is defined, through the imports that hand it on."""
    if path is None:
        return None
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ClassDef) and node.name == name:
            inits = (part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
            return next(((path, init) for init in inits), None)
    origin = dict(_imports(path)).get(name)
    return origin and _definition(_located(origin[0]), origin[1])


def _referenced(path: Path, called: ast.expr, caller: ast.FunctionDef) -> tuple[Path | None, str]:
    """Return the file and the name that a call refers to.

    It is `function(...)`, `Class(...)`, `module.function(...)`, or `super().__init__(...)` in a constructor.
    """
    if isinstance(called, ast.Name):
        return path, called.id
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        package, name = dict(_imports(path)).get(called.value.id, ("", ""))
        return _located(f"{package}.{name}" if name else package), called.attr
    if isinstance(called, ast.Attribute) and ast.unparse(called) == "super().__init__":
        classes = [node for node in _tree(path).body if isinstance(node, ast.ClassDef) and caller in node.body]
        return next(
            ((path, base.id) for node in classes for base in node.bases if isinstance(base, ast.Name)), (None, "")
        )
    return None, ""


def _imports(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each imported name with the module that it comes from and its name there, "" for a module."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((alias.asname or alias.name, (node.module, alias.name)) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, (alias.name, "")) for alias in node.names)


def _links(tree: ast.Module) -> set[str]:
    """Return the options that another one decides: the keys of the recipe's constant `LINKS`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "LINKS" for t in node.targets):
            return {*ast.literal_eval(node.value)}
    return set()


def _located(module: str) -> Path | None:
    """Return the file of a module; of packages other than this one without importing them."""
    if module.endswith(".py"):
        return Path(module) if Path(module).is_file() else None
    top, *rest = module.split(".")
    try:
        spec = find_spec(module if top == "slap" else top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if top == "slap" or not rest:
        return path
    path = path.parent.joinpath(*rest)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _tree(path: Path | None) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8") if path else "")
