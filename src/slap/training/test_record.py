"""Record of a test run: its metrics, and what they depend on: checkpoint, manifests, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from slap.core.checkpoint_file import provenance
from slap.core.software import software
from slap.metrics.retrieval_pairs import RIGHT
from slap.training.checkpoint.io import BEST
from slap.training.held_out import HeldOutMetrics

SCHEMA = "slap-test/1"
"""Schema of `results.json`; another number means that a key of the same name changed its meaning."""

FOLDER = "test"
"""Folder, in that of the run, with a folder for each test set and checkpoint."""


@dataclass(frozen=True)
class Provenance:
    """The model and the clips of a test run.

    Attributes:
        model: path, SHA-256 and step of the checkpoint; the first two are None without one.
        manifests: path and SHA-256 of each manifest of the test set.
        own_only: whether a caption's own clip alone was right for it.
        warnings: what a reader of the metrics must know.
    """

    model: Mapping[str, Any]
    manifests: Sequence[Mapping[str, str]] = ()
    own_only: bool = False
    warnings: Sequence[str] = ()

    @classmethod
    def by(cls, trainer: Trainer) -> Provenance:
        """Describe the test run of a trainer."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        manifests: Mapping[str, Sequence[Path]] = getattr(data, "manifests", {})
        path = None if trainer.ckpt_path is None else Path(trainer.ckpt_path)
        model = {"path": None, "sha256": None, "step": trainer.global_step} if path is None else provenance(path)
        warnings = []
        if path is not None and path.name == BEST and selected_on_test(manifests):
            warnings.append(
                "the test clips selected this checkpoint, as they are the validation clips too: the metrics are too "
                "high; test the run's last checkpoint, or other clips"
            )
        own_only = getattr(data, "own_captions_only", False)
        return cls(model, data.provenance("test") if manifests else (), own_only, warnings)

    @property
    def name(self) -> str:
        """Name of the test set and the checkpoint; no other test set has it, wherever its manifests lie."""
        parts = [(*Path(file["path"]).name.partition("#")[::2], file["sha256"]) for file in self.manifests]
        stems = [name.partition(".")[0] for name, _, _ in parts]
        content = sha256("\n".join(f"{wanted} {known}" for _, wanted, known in parts).encode()).hexdigest()[:8]
        data = [*dict.fromkeys(stems[:3]), content] if stems else ["clips"]
        return "-".join([*data, Path(self.model["path"]).stem if self.model["path"] else "none"])

    def in_words(self) -> str:
        """Write one sentence on the model that is tested."""
        model = self.model
        if model["path"] is None and not model["step"]:
            return "The model is untrained: no checkpoint was loaded."
        if model["path"] is None:
            return f"The model in memory, after step {model['step']}."
        return f"Checkpoint {model['path']}, step {model['step']}, sha256 {model['sha256']}."

    def record(self, evaluation: HeldOutMetrics) -> dict[str, Any]:
        """Return the metrics and what they depend on, as plain data."""
        return {
            "schema": SCHEMA,
            "model": dict(self.model),
            "manifests": [dict(manifest) for manifest in self.manifests],
            "software": software(),
            "metrics": {name: asdict(result) for name, result in evaluation.results.items()},
            "median_ranks": {name: asdict(result) for name, result in evaluation.median_ranks.items()},
            "right": RIGHT[self.own_only],
            "left_out": evaluation.left_out,
            "not_finite": list(evaluation.not_finite),
            "warnings": list(self.warnings),
        }


def selected_on_test(manifests: Mapping[str, Sequence[Path]]) -> bool:
    """Return whether validation, which selects `best.ckpt`, reads a manifest of the test too."""
    val, test = ({str(Path(path).absolute()) for path in manifests.get(split, ())} for split in ("val", "test"))
    return bool(val & test)
