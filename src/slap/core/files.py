"""YAML files of settings: plain data only, and messages for people where it is something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file is an empty one.

    Raises:
        ValueError: it is no YAML, no UTF-8 text, or no mapping; tags that would make Python objects are no YAML here.
        OSError: it cannot be read.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML of plain data: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold `name: value`, not a {type(found).__name__}")
    return found
