"""The model that comes with the package, by its name: `slap.load("starter")`.

Its folder is `starter` beside this file, as `slap export` writes it, and is part of the wheel.
"""

from __future__ import annotations

import logging
from pathlib import Path

from slap.core.errors import UserError
from slap.inference.saved_model import recognizes

STARTER = "starter"
"""Name of the model. A path that begins with `./` names a file or folder of that name, as does any `pathlib.Path`."""

FOLDER = Path(__file__).parent / STARTER

LARGEST = 8_000_000
"""Bytes that its folder may have: everyone who installs the package downloads it."""

log = logging.getLogger(__name__)


def is_shipped(model: object) -> bool:
    """Return whether a model is given by the name of the one that comes with the package."""
    return isinstance(model, str) and model == STARTER


def located(model: str | Path) -> Path:
    """Return the path of a model that is given by its path or by the name `starter`.

    The name always means the model of the package, so that no file of a working directory changes what a command does.

    Raises:
        UserError: the name is given, and the package was built without the model.
    """
    if not is_shipped(model):
        return Path(model)
    if not recognizes(FOLDER):
        raise UserError(
            f"this installation of slap-audio comes without the model {STARTER!r}: there is none in {FOLDER}. Name a "
            "checkpoint (runs/mine/best.ckpt) or a folder that `slap export` wrote, or install another build"
        )
    if Path(STARTER).exists():
        log.warning(
            "%r is the model that comes with slap-audio, not ./%s in this folder, which is named ./%s", *[STARTER] * 3
        )
    return FOLDER
