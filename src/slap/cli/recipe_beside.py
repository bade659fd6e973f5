"""The `config.yaml` that lies beside a checkpoint, and that nobody named: it may have come with the checkpoint.

All of it is taken where the user's own `slap fit` wrote it at that place. Of any other, only what is listed here is
taken: sizes and numbers, names of installed plug-ins, and a recipe of the package. What imports, names a file or
decides where results go is refused by its name; `--config`, or the same option on the command line, gives it knowingly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slap.cli.recipe_source import PARTS, built_in
from slap.core.errors import UserError, printable
from slap.core.files import read_yaml

PLAIN = {
    "model": None,
    "data": {
        *("max_duration", "max_clips", "min_clips", "num_buckets", "repeats", "temperature", "epoch_clips", "min_clip"),
        *("max_clip", "window", "unlabelled_share", "empty_captions", "stream_batches", "disjoint", "seed", "fold"),
        "val_fold",
    },
    "trainer": {
        *("max_steps", "val_check_interval", "gradient_clip_val", "log_every_n_steps", "accumulate_grad_batches"),
        *("max_skipped", "stop_on_collapse", "save_every", "save_minutes"),
    },
}
"""Options that may be numbers, switches and lists of these, by function of the recipe; None: all of them."""

WORDS = {
    *("weights", "model.corpus", "model.task", "model.features", "data.corpus"),
    *("trainer.precision", "trainer.monitor", "trainer.mode"),
}
"""Options that may be one word."""

WORD = re.compile(r"[\w@/+-]{1,80}", re.ASCII)
"""A word: no dot, so that none is the path of a module."""

ENCODERS = {"model.audio": "audio encoder", "model.text": "text encoder"}
OBJECTIVES = ("model.objectives", "model.others")

LONGEST = 200
"""Characters of a value in a message."""


def refuse_imports(config: Path, given: Sequence[str]) -> str | None:
    """Return the recipe that a config beside a checkpoint names, and refuse one that would import anything else.

    Args:
        config: path of the config.
        given: arguments of the command line.

    Raises:
        ValueError: it names plug-ins to import, or a recipe that does not come with the package.
    """
    options = read_yaml(config)
    recipe, plugins = options.get("recipe"), options.get("plugins")
    imported = {"plugins": plugins} if plugins else {}
    if recipe is not None and recipe not in built_in():
        imported = {"recipe": recipe, **imported}
    _refuse(config, imported, given)
    return recipe


def plain_options(config: Path, defaults: Mapping[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Return what may be taken from a config that lies beside a checkpoint, nested as it is.

    Args:
        config: path of the config.
        defaults: options of the recipe with their defaults, nested, as plain data. What equals them is left out.
        given: arguments of the command line; what they set is left out too.

    Raises:
        ValueError: it sets something else; the message lists it, and says how to give it.
    """
    taken: dict[str, Any] = {}
    refused: dict[str, Any] = {}
    known = _flat(defaults)
    for key, value in _flat(read_yaml(config)).items():
        part, _, name = key.rpartition(".")
        if key in known and known[key] == value:
            continue
        if key == "recipe" or _is_plain(key, value):
            (taken.setdefault(part, {}) if part else taken)[name] = value
        elif not _is_given(key, given):
            refused[key] = value
    _refuse(config, refused, given)
    return taken


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their names on the command line, such as `model.lr`."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        inner = value.items() if key in PARTS and isinstance(value, Mapping) else None
        flat |= {str(key): value} if inner is None else {f"{key}.{name}": option for name, option in inner}
    return flat


def _is_plain(key: str, value: Any) -> bool:
    part, _, name = key.partition(".")
    if value is None:
        return True
    if key in ENCODERS:
        return _is_plugin(ENCODERS[key], value)
    if key in OBJECTIVES:
        names = _names("objective")
        return isinstance(value, Mapping) and all(one in names and _is_number(spec) for one, spec in value.items())
    if key in WORDS and isinstance(value, str):
        return WORD.fullmatch(value) is not None
    if key == "seed_everything":
        return _is_number(value)
    listed = PLAIN.get(part, set())
    return (listed is None or name in listed) and _is_number(value)


def _is_plugin(kind: str, spec: Any) -> bool:
    """Return True for the name of an installed encoder, or its name and size with numbers."""
    if isinstance(spec, str):
        return spec in _names(kind)
    if not isinstance(spec, Mapping):
        return False
    words = {"name": _names(kind)}
    numbers = {name: value for name, value in spec.items() if name not in ("name", "size")}
    named = "name" not in spec or spec["name"] in words["name"]
    size = spec.get("size")
    return named and (size is None or _is_word(size)) and _is_number(numbers)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    """Return True for numbers and switches, also in lists and under names."""
    if isinstance(value, Mapping):
        return all(_is_word(name) for name in value) and all(map(_is_number, value.values()))
    if isinstance(value, list):
        return all(map(_is_number, value))
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _names(kind: str) -> set[str]:
    import slap.model.contracts  # noqa: F401 - adds the kinds
    from slap.core.registry import plugins

    return {*plugins(kind)}


def _is_given(key: str, given: Sequence[str]) -> bool:
    return any(argument.partition("=")[0] in (f"--{key}", f"--{key}+") for argument in given)


def _refuse(config: Path, refused: Mapping[str, Any], given: Sequence[str]) -> None:
    refused = {key: value for key, value in refused.items() if not _is_given(key, given)}
    if not refused:
        return
    lines = [f"  --{key} {_shown(value)}" for key, value in refused.items()]
    raise UserError(
        f"{config}, which lies beside the checkpoint, is not what your own `slap fit` wrote there, so only sizes, "
        f"numbers, names of installed plug-ins and a recipe of the package are taken from it. It sets besides\n"
        + "\n".join(map(printable, lines))
        + f"\nGive what you need of these on the command line, or, if you have read the file and trust it: "
        f"--config {config}"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
