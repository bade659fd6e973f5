"""SLAP's models for the benchmarks of the mteb library, MAEB (sounds and their texts) among them.

n items of a task, E shared dimension.

    model = MtebModel(slap.load("exported"))
    mteb.evaluate(model, mteb.get_benchmark("MAEB"))

The library downloads the data of its tasks from the Hugging Face hub. Its audio is not decoded by the library, which
needs torchcodec and ffmpeg for it, but read as every other recording, see `slap.audio.recordings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.functional import normalize

from slap.core.errors import MissingDependencyError, UserError
from slap.inference.model import Model

try:
    import mteb
    from datasets import Audio, Dataset
    from mteb.cache import ResultCache
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
except ImportError as error:
    raise MissingDependencyError("MTEB's benchmarks need mteb: pip install 'slap-audio[mteb]'") from error

if TYPE_CHECKING:
    from mteb.results import TaskResult
    from torch.utils.data import DataLoader

SIDES = ("audio", "text")
"""Columns of a task's data that are embedded."""


class MtebModel(AbsEncoder):
    """A model behind mteb's protocol of encoders.

    Args:
        model: from `slap.load`.
        name: `organization/name`, under which mteb keeps the results; default: slap/ and the hash of the weights.

    Raises:
        UserError: another kind of name.
    """

    def __init__(self, model: Model, name: str | None = None) -> None:
        name = name or f"slap/{model.name}"
        if name.count("/") != 1:
            raise UserError(f"mteb names models organization/name; got {name!r}")
        self.model = model
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name,
                "revision": model.name,
                "embed_dim": model.embedding_dim,
                "modalities": list(SIDES),
                "framework": ["PyTorch"],
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    def encode(
        self,
        inputs: DataLoader[Any],
        *,
        task_metadata: Any,
        **options: Any,
    ) -> Tensor:
        """Embed the items of a task, (n, E). An item of a sound with a text has the mean direction of both.

        Args:
            inputs: the loader that mteb made; its data set is read in order.
            task_metadata: of the task, for messages.
            options: further ones of the protocol: the split, the subset, the kind of prompt and the size of a batch, on
                which no embedding depends; and `precision`.

        Raises:
            UserError: the items are neither sounds nor texts, or embeddings of a lower precision are asked for.
            AudioError: a recording cannot be used.
        """
        if options.get("precision", "float32") != "float32":
            raise UserError(f"embeddings are float32 here; leave out precision={options['precision']!r}")
        data: Dataset = inputs.dataset
        found = [side for side in SIDES if side in data.column_names]
        if not found:
            raise UserError(
                f"{task_metadata.name} has the columns {', '.join(data.column_names)}; sounds and texts are embedded"
            )
        parts = [self._audio(data) if side == "audio" else self.model.embed_text(list(data["text"])) for side in found]
        return parts[0] if len(parts) == 1 else normalize(parts[0] + parts[1], dim=1)

    def _audio(self, data: Dataset) -> Tensor:
        if isinstance(data.features["audio"], Audio):
            data = data.cast_column("audio", Audio(decode=False))
        return self.model.embed_audio(_column(data))


def _column(data: Dataset) -> Iterator[Any]:
    """Yield the recordings of a data set, each read when it is asked for."""
    audio = data.select_columns(["audio"])
    return (row["audio"] for row in audio)


def run_tasks(model: MtebModel, tasks: Any, folder: Path) -> list[TaskResult]:
    """Run tasks of mteb that have no results in a folder yet; return the results of all.

    Args:
        model: the model.
        tasks: from `mteb.get_tasks`, or those of `mteb.get_benchmark`.
        folder: the folder in which mteb keeps results.
    """
    return list(mteb.evaluate(model, tasks, cache=ResultCache(folder)).task_results)
