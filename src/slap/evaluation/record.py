"""An evaluation as one JSON file: written whole or not at all, after every row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slap.evaluation.published import published
from slap.evaluation.tasks.base import TaskResult

SCHEMA = "slap-evaluation/1"
"""Of the file; another number means that something of the same name changed its meaning."""

NAMED = 50
"""Clips that could not be used which a result names; it counts all."""


def as_record(result: TaskResult) -> dict[str, Any]:
    """A result as plain data; plots are named, not drawn."""
    return {
        "task": result.task,
        "dataset": result.dataset,
        "split": result.split,
        "metrics": {name: asdict(metric) for name, metric in result.metrics.items()},
        "definitions": {name: text for name, text in result.definitions.items() if name in result.metrics},
        "paper": published(result.task, result.dataset),
        "settings": result.settings,
        "counts": result.counts,
        "ids_sha256": result.ids_sha256,
        "warnings": result.warnings,
        "per_class": result.per_class,
        "unusable": [{"id": name, "reason": reason} for name, reason in result.failed[:NAMED]],
        "plots": sorted(result.plots),
    }


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def read(path: Path) -> dict[str, Any]:
    """The record of an earlier evaluation; empty if there is none.

    Raises:
        ValueError: the file is something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no evaluation: {error}; name another file, or give --overwrite") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not of the schema {SCHEMA}; name another file, or give --overwrite")
    return content
