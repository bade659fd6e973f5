"""The network in Lightning: preparation for training, sharding, checkpoints, evaluation and prediction.

B clips, C captions, E shared dimension.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from slap.core.batch import Batch
from slap.core.errors import UserError
from slap.inference.adapters import LORA
from slap.metrics.finite import not_finite_line
from slap.model.contracts import AudioEncoder, Classifier, Encoder, TextEncoder
from slap.model.finite_weights import require_finite
from slap.model.network import AVERAGES, MAX_SECONDS, Network, Weights, chosen_state
from slap.model.specs import as_saved
from slap.model.views import Views
from slap.nn.stack import compile_blocks
from slap.training.held_out import HeldOutMetrics
from slap.training.lora import insert

log = logging.getLogger(__name__)


def check_arguments(
    objectives: Mapping[str, Any], layer_decay: float, micro_clips: int | None, mask_block: int
) -> None:
    """Check the arguments of `SLAP` that the network itself does not check.

    Raises:
        ValueError: one of them is not accepted.
    """
    if not objectives:
        raise UserError("a model needs at least one objective, e.g. {'contrastive': 1.0}")
    if not 0 < layer_decay <= 1:
        raise UserError(f"layer_decay is a factor above 0 and up to 1, got {layer_decay}")
    if micro_clips is not None and micro_clips < 1:
        raise UserError(f"micro_clips is the number of clips computed at once, at least 1; got {micro_clips}")
    if mask_block < 0:
        raise UserError(f"mask_block is a number of time steps, or 0 for single patches; got {mask_block}")


class LightningNetwork(Network, LightningModule):
    """A network that Lightning can prepare, shard, save, load, evaluate and predict with.

    Attributes:
        max_seconds: the longest clip of training, in seconds. Longer clips are cut into windows, see
            `slap.core.windows`. None before training.
        evaluation: the metrics of the last validation or test.
        micro_clips: the most clips that are computed at once; None for whole batches.
        weights_in_use: the weights of a checkpoint that are validated, tested or predicted with.
    """

    max_seconds: float | None = None
    micro_clips: int | None = None
    weights_in_use: Weights = "raw"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.evaluation = HeldOutMetrics()

    def setup(self, stage: str) -> None:
        """Before training, learn what is learned from the training clips (tokenizer, classes), and compile.

        Adapters are put in at every stage, since checkpoints have them.

        A model that is evaluated untrained learns the same, where the data module has training clips.
        """
        self._adapt()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage != "fit":
            untrained = self.trainer.ckpt_path is None and not self.trainer.global_step
            if untrained and getattr(data, "manifests", {}).get("train"):
                self._prepare(data)
            return
        if self.hparams["compile"]:
            compile_blocks(self)
        # Lightning warns of modules that do not train, which a teacher never does.
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode at the start of training")
        if isinstance(self.trainer.strategy, DDPStrategy):
            # Some parameters serve only some objectives, e.g. the token of hidden patches.
            self.trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
        self._prepare(data)
        self.max_seconds = getattr(data, "window", None)

    def _adapt(self) -> None:
        if self.hparams.get(LORA) is not None:
            insert(self, self.hparams[LORA])

    def _prepare(self, data: Any) -> None:
        if self.trainer.ckpt_path is None:  # a checkpoint brings its tokenizer
            captions = iter(data.captions())
            first = list(islice(captions, 1))
            # Training on audio alone may have no captions, and then needs no tokenizer.
            if first or any(objective.uses_text for objective in self.objectives.values()):
                self.text.prepare(chain(first, captions))
        for objective in self.objectives.values():
            objective.prepare(data)  # type: ignore[operator]
        if self.teacher is not None:
            self.teacher.refresh()

    def configure_model(self) -> None:
        """Under FSDP2, keep only a part of the parameters on each process, once.

        Raises:
            ValueError: `micro_clips` under FSDP2.
        """
        if self.device_mesh is not None:
            from slap.training.fsdp import shard_once  # without FSDP2 its imports would only take time

            shard_once(self, self.device_mesh["data_parallel"], self.micro_clips)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save arguments that name no file and no hub, and the longest clip of training."""
        if self.max_seconds is not None:
            checkpoint[MAX_SECONDS] = self.max_seconds
        if self.teacher is not None:
            checkpoint[AVERAGES] = self.teacher.names(self)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = self.portable(checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the longest clip of training.

        Raises:
            ValueError: weights that are not finite, or averages that are asked for and that the checkpoint has not.
        """
        self._adapt()
        require_finite(self, checkpoint.get("state_dict", {}), "take another checkpoint of the run")
        if self.weights_in_use != "raw":
            chosen_state(checkpoint, self.weights_in_use, "the checkpoint")
        saved = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        for side, kind in (("audio", AudioEncoder), ("text", TextEncoder)):
            self._adopt(side, as_saved(kind, saved.get(side)))
        self.max_seconds = checkpoint.get(MAX_SECONDS, self.max_seconds)

    def _adopt(self, side: str, saved: Any) -> None:
        """Give an encoder the arguments of an older checkpoint that were neither asked for nor defaults then."""
        encoder: Encoder = getattr(self, side)
        given = self.hparams[side]
        options = {"name": given} if isinstance(given, str) else given
        if not isinstance(saved, Mapping) or saved["name"] != options["name"]:
            return
        values = {name: saved[name] for name in encoder.older if name not in options}
        if values:
            encoder.adopt(values)
            if self.teacher is not None:
                self.teacher.copy_of(encoder).adopt(values)  # type: ignore[operator]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed the clips, or the windows of long ones, (B, E), and the captions, (C, E)."""
        audio = self.embed_audio(batch.audio)
        return audio, self.embed_text(batch.text) if len(batch.text) else audio.new_zeros(0, self.embedding_dim)

    def on_validation_start(self) -> None:
        """Take the averages of the weights, if they are to be validated; never within a training."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._take_weights()

    def on_test_start(self) -> None:
        """Take the averages of the weights, if they are to be tested."""
        self._take_weights()

    def on_predict_start(self) -> None:
        """Take the averages of the weights, if they are to be predicted with."""
        self._take_weights()

    def _take_weights(self) -> None:
        if self.weights_in_use == "ema":
            if self.teacher is None:
                raise UserError("the model keeps no averages of its weights (weights 'ema'): set --model.ema true")
            self.teacher.lend()

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return ids, `spans` (the samples of its clip that each row is, see `Batch`) and embeddings, (B, E)."""
        spans = batch.spans or tuple((0, size) for size in batch.audio.sizes)
        return {"ids": batch.ids, "spans": spans, "embeddings": self.embed_audio(batch.audio)}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect embeddings, and the scores of classifiers; the metrics need all of them."""
        heads = self.heads
        if len(heads) < len(self.objectives):
            audio, text = self(batch)
            self.evaluation.update(batch, audio, text, self.audio.sample_rate)
        if heads:
            view = Views(self, batch).full
            scores = {name: head.scores(view) for name, head in heads.items()}
            self.evaluation.update_classifiers(batch, scores, heads)

    @property
    def heads(self) -> dict[str, Classifier]:
        """The objectives that classify; a model that has no others is evaluated by them alone."""
        return {name: part for name, part in self.objectives.items() if isinstance(part, Classifier)}

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole set, see `HeldOutMetrics`."""
        self._report("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect as in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log as in validation."""
        self._report("test")

    def _report(self, stage: str) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        prompts: Mapping[str, str] = data.prompts
        heads = self.heads
        embeddings = len(heads) < len(self.objectives)
        own_only = getattr(data, "own_captions_only", False)
        self.evaluation.compute(prompts, self.embed_captions, self.sources(stage), heads, embeddings, own_only)
        if self.evaluation.not_finite and self.trainer.is_global_zero:
            log.warning("%s: %s", stage, not_finite_line(self.evaluation.not_finite))
        results = self.evaluation.results | self.evaluation.median_ranks
        # All processes have the same values; saying so spares a warning for each.
        self.log_dict({f"{stage}/{name}": result.value for name, result in results.items()}, sync_dist=True)

    def sources(self, split: str) -> tuple[str, ...]:
        """Return the names of the sources of a split's clips; none where the data module names none."""
        names = getattr(self.trainer.datamodule, "source_names", {})  # type: ignore[attr-defined]
        return tuple(names.get(split, ()))
