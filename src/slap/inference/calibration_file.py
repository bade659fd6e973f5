"""A calibration beside a model: a JSON file that `slap calibrate` writes and `slap.load` reads.

It holds the content hash of the model that it was fitted for; another model is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slap.core.calibration import Calibration
from slap.core.errors import UserError
from slap.core.files import atomic_write, read_json
from slap.inference.shipped import located

NAME, SUFFIX = "calibration.json", ".calibration.json"
FORMAT = 1


def beside(model: str | Path) -> Path:
    """Return the path of the calibration of a model: within its folder, or beside its checkpoint.

    Example:
        >>> beside("runs/mine/best.ckpt").name
        'best.calibration.json'
    """
    path = located(model)
    return path / NAME if path.is_dir() else path.with_suffix(SUFFIX)


def write_calibration(path: Path, model: str, calibration: Calibration, about: dict[str, Any]) -> None:
    """Write a calibration, whole or not at all.

    Args:
        path: of the file.
        model: content hash of the model.
        calibration: the rule.
        about: further facts, as plain data, for readers.
    """
    with atomic_write(path) as file:
        content = {"format": FORMAT, "model": model, "calibration": calibration.plain(), **about}
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_calibration(path: str | Path, model: str) -> Calibration:
    """Read a calibration of a model.

    Args:
        path: of the file.
        model: content hash of the model.

    Raises:
        FileNotFoundError: it is not there.
        UserError: it is damaged, or was fitted for another model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no calibration {path}; `slap calibrate` writes one")
    content = read_json(Path(path))
    if content.get("model") != model:
        raise UserError(
            f"{path} was fitted for the model {content.get('model')}, and this one is {model}; their cosines "
            "differ. Fit it again with `slap calibrate`"
        )
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, and this version of slap reads {FORMAT}")
        return Calibration.from_plain(content["calibration"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no calibration ({error}); write it with `slap calibrate`") from error
