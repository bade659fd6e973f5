"""Record of an evaluation, its model and its software: one JSON file, written whole or not at all after every row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slap.core.checkpoint_file import provenance
from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.evaluation.published import published
from slap.evaluation.tasks.base import TaskResult
from slap.inference.model import Model

SCHEMA = "slap-evaluation/2"
"""Schema of the file; another number means that a key of the same name changed its meaning."""

NAMED = 50
"""Unusable clips that a result names; it counts all of them."""


def as_record(result: TaskResult) -> dict[str, Any]:
    """Return a result as plain data; plots are named, not drawn."""
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
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read the record of an earlier evaluation; empty if there is none.

    Raises:
        ValueError: the file is something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no evaluation: {error}; name another file, or give --overwrite") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UserError(f"{path} is not of the schema {SCHEMA}; name another file, or give --overwrite")
    return content


def model_record(model: Model, path: str) -> dict[str, Any]:
    """Describe a model: a hash of its content, where it was, and its kind; of a checkpoint, its step and SHA-256.

    Args:
        model: the model.
        path: the path that it was loaded from.
    """
    backend = model.backend
    holder = backend if hasattr(backend, "device") else getattr(backend, "model", None)  # readers of others' models
    device = getattr(holder, "device", None)
    file = Path(path)
    return {
        **(provenance(file) if file.suffix == ".ckpt" and file.is_file() else {"path": path}),
        "hash": model.name,
        "kind": type(backend).__name__,
        "weights": getattr(backend, "weights", "raw"),
        "sample_rate": model.sample_rate,
        "max_seconds": model.max_seconds,
        "embedding_dim": model.embedding_dim,
        "device": str(device) if device is not None else "unknown",
    }
