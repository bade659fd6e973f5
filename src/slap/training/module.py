"""SLAP: the model and its one training step: views, losses, their weighted sum, the optimizer, the teacher.

B clips, C captions, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from slap.core.batch import Batch
from slap.inference.model import Model
from slap.model.grad_cache import views_of
from slap.model.specs import EncoderSpec, ObjectiveSpec, describe
from slap.training import lora as adapters
from slap.training import optim, step
from slap.training.callbacks.loss_logger import LossLogger
from slap.training.lightning_network import LightningNetwork, check_arguments
from slap.training.step import StepOutput


class SLAP(LightningNetwork):
    """An audio and a text encoder, pooled into one space, trained by a weighted sum of objectives (arXiv 2601.12594).

    Args:
        audio: the audio encoder: a registered name, `{"name": ..., argument: value}`, or an instance.
        text: the text encoder: a registered name, `{"name": ..., argument: value}`, or an instance.
        objectives: each objective by its name with a weight, `{"weight": ..., argument: value}`, or an instance;
            default: `contrastive`.
        embedding_dim: E, the dimension that audio and text share (not in the paper; our choice).
        mask_ratio: share of patches that the masked view hides (the paper: 0.5).
        mask_block: time steps (160 ms of the encoder `transformer`) of a block of patches that the masked view hides as
            a whole, in all bands; 0 hides single patches (our choice; the paper does not say).
        pool_duration: let the pooled embedding of audio depend on the clip's duration, which nothing else in it does
            (not in the paper). A window of a longer recording counts with its own duration.
        ema_momentum: momentum of the EMA teacher at the first and the last optimizer step (the paper: 0.994 to 1,
            cosine).
        ema: keep exponential moving averages of the weights, by this momentum, even if no objective needs the teacher.
            `--weights ema` of the commands, and `slap.load(weights="ema")`, use them.
        lr: learning rate after warm-up (the paper: 1e-4).
        weight_decay: weight decay of linear layers (not in the paper; our choice).
        betas: the two decay rates of AdamW's moments (the paper names no optimizer; our choice).
        warmup_steps: optimizer steps of linear warm-up (the paper: 2000); a cosine down to 0 at the trainer's
            `max_steps` follows.
        compile: compile the blocks of encoders, decoder and teacher when training begins, see `slap.nn.stack`.
        freeze: parts that do not learn, by the beginning of their parameters' names: audio, audio.blocks.0, ...
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        lr_scales: factors on the learning rate of parts, by the beginning of their parameters' names: {text: 0.1}.
        micro_clips: largest number of clips that are computed at once, per process. A larger batch then takes the
            memory of so many clips and a third more time, and has the gradient of the whole batch.
        lora: train low-rank adapters (LoRA) in the encoders instead of their weights: {rank: 8, alpha: 16, dropout:
            0.0, targets: [qkv, out]}, each optional, see `slap.inference.adapters.Lora`; default: train the weights.
            Needs the extra `lora`. Models in use have them merged.

    Raises:
        ValueError: an unknown plug-in, argument or part; lists the valid ones.

    Example:
        >>> from slap import SLAP
        >>> tiny = {"name": "transformer", "size": "tiny"}
        >>> model = SLAP(audio=tiny, text=tiny, objectives={"contrastive": 1.0, "sigmoid": {"weight": 0.5}})
        >>> sorted(model.weights.items())
        [('contrastive', 1.0), ('sigmoid', 0.5)]
    """

    def __init__(
        self,
        audio: EncoderSpec = "transformer",
        text: EncoderSpec = "transformer",
        objectives: Mapping[str, ObjectiveSpec] | None = None,
        embedding_dim: int = 512,
        mask_ratio: float = 0.5,
        mask_block: int = 0,
        pool_duration: bool = False,
        ema_momentum: tuple[float, float] = (0.994, 1.0),
        ema: bool = False,
        lr: float = 1e-4,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.98),
        warmup_steps: int = 2000,
        compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
        freeze: Sequence[str] = (),
        layer_decay: float = 1.0,
        lr_scales: Mapping[str, float] | None = None,
        micro_clips: int | None = None,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        objectives = {"contrastive": 1.0} if objectives is None else objectives
        lr_scales = lr_scales or {}
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_arguments(objectives, layer_decay, micro_clips, mask_block)
        super().__init__(
            audio, text, objectives, embedding_dim, mask_ratio, ema_momentum, ema, mask_block, pool_duration
        )
        if lora is not None:
            adapters.check(self, lora)
        self.save_hyperparameters(describe(arguments))
        optim.freeze(self, freeze)
        self.loss_logger = LossLogger([*self.objectives])
        self.micro_clips = micro_clips
        self._batches: list[Batch] = []  # of a step that takes several
        self.last_step: StepOutput | None = None  # for callbacks that watch the run

    def setup(self, stage: str) -> None:
        """Prepare for training, and learn the names of the sources of training clips."""
        super().setup(stage)
        if stage == "fit":
            self.loss_logger = LossLogger([*self.objectives], self.sources("train"))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted sum of the objectives' losses on the views of the step's clips.

        Where an optimizer step takes several batches, they are one batch to the objectives: all but the last are kept
        until then.
        """
        self._batches.append(batch)
        trainer = self._trainer
        if trainer is not None and trainer.fit_loop._should_accumulate():
            return torch.zeros((), device=self.device, requires_grad=True)
        batches, self._batches = self._batches, []
        views = views_of(self, batches, self.micro_clips)
        loss, self.last_step = step.compute(self, views)
        self.loss_logger.log_step(self, self.last_step, views.batch.source)
        # Lightning divides by the number of batches, since it takes the loss of each for a mean of its own.
        return loss if trainer is None else loss * trainer.accumulate_grad_batches

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the parameters, then the teacher; neither where the gradient is not finite."""
        super().optimizer_step(*args, **kwargs)
        step.constrain(self)
        self.loss_logger.log_sources(self)
        if self.teacher is not None:
            bad = None if self.last_step is None else self.last_step.nonfinite
            self.teacher.update(self.trainer.global_step / self.trainer.max_steps, bad)

    def as_model(self) -> Model:
        """Return this network as a `Model`, which embeds files and texts, classifies and writes captions.

        It has these very weights, so it changes as training goes on; the network itself stays as it is.
        """
        from slap.training.live import LiveBackend  # training itself needs nothing of it

        return Model(LiveBackend(self))

    def configure_optimizers(self) -> Any:
        """Return AdamW with linear warm-up and cosine decay."""
        return optim.configure(self)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as the trainer says, and skip the step if the gradient is not finite."""
        norm = optim.clip_gradients(self, optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.loss_logger.log_gradient(self, norm, optimizer)
        assert self.last_step is not None  # a training step came before
        self.last_step.skip_unless_finite(optimizer, norm)
