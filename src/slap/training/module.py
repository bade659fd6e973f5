"""SLAP: the model and its one training step.

B clips, C captions, N packed rows, E shared dimension.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from slap.core.batch import Batch
from slap.core.sharded_tensors import average_whole, clip_norm, is_shard, total_norm
from slap.model.contracts import Classifier
from slap.model.grad_cache import views_of
from slap.model.network import MAX_SECONDS, Network
from slap.model.specs import EncoderSpec, ObjectiveSpec, describe, portable_spec
from slap.model.views import Views
from slap.nn.stack import compile_blocks
from slap.training import step
from slap.training.callbacks.loss_logger import SourceLosses
from slap.training.held_out import HeldOutMetrics
from slap.training.nonfinite import skip_step
from slap.training.optim import freeze as freeze_parts
from slap.training.optim import parameter_groups, warmup_cosine
from slap.training.step import StepOutput


class SLAP(Network, LightningModule):
    """An audio and a text encoder, pooled into one space, trained by a weighted sum of objectives (arXiv 2601.12594).

    Args:
        audio: the audio encoder: a registered name, `{"name": ..., argument: value}`, or an instance.
        text: the text encoder, likewise.
        objectives: by name a weight, `{"weight": ..., argument: value}`, or an instance. Default: `contrastive`.
        embedding_dim: E, the dimension that audio and text share (not in the paper; our choice).
        mask_ratio: share of patches that the masked view hides (the paper: 0.5).
        ema_momentum: of the teacher at the start and the end of training (the paper: 0.994 to 1, cosine).
        lr: learning rate after warm-up (the paper: 1e-4).
        weight_decay: of linear layers (not in the paper; our choice).
        betas: AdamW's (the paper names no optimizer; our choice).
        warmup_steps: linear warm-up (the paper: 2000); a cosine down to 0 at the trainer's `max_steps` follows.
        compile: compile the blocks of encoders, decoder and teacher when training begins, see `slap.nn.stack`.
        freeze: parts that do not learn, by the beginning of their parameters' names: "audio", "audio.blocks.0", ...
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        lr_scales: factors on the learning rate of parts, by the beginning of their parameters' names, as for `freeze`.
        micro_clips: compute at most so many clips at once, on each process. A larger batch then takes the memory of so
            many clips and a third more time, and has the gradient of the whole, see `slap.model.grad_cache`.

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
        ema_momentum: tuple[float, float] = (0.994, 1.0),
        lr: float = 1e-4,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.98),
        warmup_steps: int = 2000,
        compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
        freeze: Sequence[str] = (),
        layer_decay: float = 1.0,
        lr_scales: Mapping[str, float] | None = None,
        micro_clips: int | None = None,
    ) -> None:
        objectives = {"contrastive": 1.0} if objectives is None else objectives
        if not objectives:
            raise ValueError("a model needs at least one objective, e.g. {'contrastive': 1.0}")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay is a factor above 0 and up to 1, got {layer_decay}")
        if micro_clips is not None and micro_clips < 1:
            raise ValueError(f"micro_clips is the number of clips computed at once, at least 1; got {micro_clips}")
        super().__init__(audio, text, objectives, embedding_dim, mask_ratio, ema_momentum)
        self.save_hyperparameters(
            {
                "audio": describe(audio),
                "text": describe(text),
                "objectives": describe(objectives),
                "embedding_dim": embedding_dim,
                "mask_ratio": mask_ratio,
                "ema_momentum": list(ema_momentum),
                "lr": lr,
                "weight_decay": weight_decay,
                "betas": list(betas),
                "warmup_steps": warmup_steps,
                "compile": compile,
                "freeze": list(freeze),
                "layer_decay": layer_decay,
                "lr_scales": dict(lr_scales or {}),
                "micro_clips": micro_clips,
            }
        )
        freeze_parts(self, freeze)
        self.evaluation = HeldOutMetrics()
        self.source_losses = SourceLosses([*self.objectives], ())
        self.micro_clips = micro_clips
        self._batches: list[Batch] = []  # of a step that takes several
        self.last_step: StepOutput | None = None  # what the last training step saw, for callbacks that watch the run
        self.max_seconds: float | None = None  # the longest clip taken at once; a checkpoint carries it

    # -- training -----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Let the text encoder learn its tokenizer, if it needs one, and compile what is to be compiled."""
        if stage == "fit":
            if self.hparams["compile"]:
                compile_blocks(self)
            # Lightning warns of modules that do not train, which a teacher never does.
            warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode at the start of training")
            if isinstance(self.trainer.strategy, DDPStrategy):
                # Some parameters serve only some objectives, e.g. the token of hidden patches.
                self.trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
            if self.trainer.ckpt_path is None:  # a checkpoint brings its tokenizer
                self.text.prepare(self.trainer.datamodule.captions())  # type: ignore[attr-defined]
            for objective in self.objectives.values():
                objective.prepare(self.trainer.datamodule)  # type: ignore[operator, attr-defined]
            self.source_losses = SourceLosses([*self.objectives], self._sources("train"))
            # Whoever uses the model cuts audio into windows as the evaluation during training did.
            self.max_seconds = getattr(self.trainer.datamodule, "window", None)  # type: ignore[attr-defined]

    def configure_model(self) -> None:
        """Under FSDP2, keep only a part of the parameters on each process, once.

        Raises:
            ValueError: `micro_clips` under FSDP2, whose processes gather parameters for each part: those with fewer
                parts would keep the others waiting for ever.
        """
        if self.device_mesh is not None and self.micro_clips is not None:
            raise ValueError(
                f"micro_clips={self.micro_clips} cannot be used with the strategy fsdp2: processes may have unequal "
                "numbers of parts and would wait for each other; use accumulate_grad_batches, or the strategy ddp"
            )
        if self.device_mesh is not None and not any(is_shard(p) for p in self.parameters()):
            from slap.training.fsdp import shard  # nobody else waits for it

            shard(self, self.device_mesh["data_parallel"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted sum of the objectives on the views of the step's clips.

        Where a step takes several batches, they are one to the objectives: all but the last are only kept until then.
        """
        del batch_idx
        self._batches.append(batch)
        trainer = self._trainer
        if trainer is not None and trainer.fit_loop._should_accumulate():
            return torch.zeros((), device=self.device, requires_grad=True)
        batches, self._batches = self._batches, []
        views = views_of(self, batches, self.micro_clips)
        loss, self.last_step = step.compute(self, views)
        for name, losses in self.last_step.by_clip.items():
            self.source_losses.add(name, losses, views.batch.source)
        self._log_step(self.last_step)
        # Lightning divides by the number of batches, each of which it takes for a mean of its own.
        return loss if trainer is None else loss * trainer.accumulate_grad_batches

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One optimizer step, then the teacher follows; neither where the gradient is not finite."""
        super().optimizer_step(*args, **kwargs)
        self._log_sources()
        if self.teacher is not None:
            bad = None if self.last_step is None else self.last_step.nonfinite
            self.teacher.update(self.trainer.global_step / self.trainer.max_steps, bad)

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and cosine decay.

        Raises:
            ValueError: the trainer has no `max_steps`, which the schedules of learning rate and teacher need.
        """
        total = self.trainer.max_steps
        if total < 1:
            raise ValueError(f"the schedules need the number of steps: set the trainer's max_steps, which is {total}")
        hparams = self.hparams
        speeds = hparams["layer_decay"], hparams["lr_scales"]
        groups = parameter_groups(self, hparams["lr"], hparams["weight_decay"], *speeds)
        # One kernel for all parameters. Not with a gradient scaler: the fused optimizer unscales by itself, after
        # gradients are clipped.
        fused = self.device.type == "cuda" and self.trainer.precision != "16-mixed"
        optimizer = AdamW(groups, betas=tuple(hparams["betas"]), eps=1e-6, fused=fused or None)
        schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, hparams["warmup_steps"], total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer says, and log the norm of the gradient before it."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        average_whole(parameters)
        norm = total_norm(p.grad for p in parameters if p.grad is not None)
        self.log("train/grad_norm", norm)
        self.log("train/lr", self._number(max(group["lr"] for group in optimizer.param_groups)))
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
            # Lightning would compute the norm again, and refuses the fused optimizer.
            clip_norm(parameters, gradient_clip_val, norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self._leave_out_if_not_finite(optimizer, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Have a checkpoint name no file and no hub, and say how long clips may be (see `slap.core.windows`)."""
        if self.max_seconds is not None:
            checkpoint[MAX_SECONDS] = self.max_seconds
        arguments = checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]
        for side, encoder in (("audio", self.audio), ("text", self.text)):
            if isinstance(arguments[side], Mapping):
                options = dict(arguments[side])
                arguments[side] = {"name": options.pop("name"), **encoder.portable(options)}
        arguments["objectives"] = {
            name: portable_spec(self.objectives[name], spec)  # type: ignore[arg-type]
            for name, spec in arguments["objectives"].items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how long clips may be before they are cut into windows."""
        self.max_seconds = checkpoint.get(MAX_SECONDS, self.max_seconds)

    def _leave_out_if_not_finite(self, optimizer: Optimizer, norm: Tensor) -> None:
        """Have the step change nothing at all if the norm of the gradient, the same everywhere, is not finite."""
        assert self.last_step is not None  # a training step came before
        self.last_step.nonfinite = ~norm.isfinite()
        skip_step(optimizer, self.last_step.nonfinite)
        self.last_step.kept.restore(self.last_step.nonfinite)

    def _log_step(self, seen: StepOutput) -> None:
        clips = max(len(seen.ids), 1)
        for name, loss in seen.losses.items():
            self.log(f"train/{name}", loss, batch_size=clips)
            self.log(f"train/weight/{name}", self._number(self.weights[name]), batch_size=clips)
            for extra, value in seen.extras[name].items():
                self.log(f"train/{name}/{extra}", value.detach(), batch_size=clips)
        # Lightning reads back what is for its progress bar at every step, drawn or not; for GPUs see
        # `slap.training.callbacks.progress_bar`.
        self.log("train/loss", seen.loss, prog_bar=self.device.type == "cpu", batch_size=clips)

    def _number(self, value: float) -> Tensor:
        """A number to log, written on the device: a copy from the host would wait for what the GPU is doing."""
        return torch.full((), value, device=self.device)

    def _log_sources(self) -> None:
        """Where a row of the logs is due, the objectives' losses by source since the last one."""
        if (self.trainer.global_step + 1) % max(self.trainer.log_every_n_steps, 1) == 0:  # type: ignore[attr-defined]
            self.log_dict({f"train/{name}": mean for name, mean in self.source_losses.take(self.device).items()})

    # -- use ----------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings of the clips, or of windows of long ones, (B, E), and of the captions, (C, E)."""
        audio = self.embed_audio(batch.audio)
        return audio, self.embed_text(batch.text) if len(batch.text) else audio.new_zeros(0, self.embedding_dim)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The clips' ids with their embeddings, (B, E); `spans` says what is a window of a long clip (see `Batch`)."""
        del batch_idx
        spans = batch.spans or tuple((0, size) for size in batch.audio.sizes)
        return {"ids": batch.ids, "spans": spans, "embeddings": self.embed_audio(batch.audio)}

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect embeddings, and the scores of classifiers; the metrics need all of them."""
        del batch_idx
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
        prompts: Mapping[str, str] = self.trainer.datamodule.prompts  # type: ignore[attr-defined]
        heads = self.heads
        embeddings = len(heads) < len(self.objectives)
        self.evaluation.compute(prompts, self.embed_captions, self._sources(stage), heads, embeddings)
        results = self.evaluation.results | self.evaluation.median_ranks
        # All processes have the same values; saying so spares a warning for each.
        self.log_dict({f"{stage}/{name}": result.value for name, result in results.items()}, sync_dist=True)

    def _sources(self, split: str) -> tuple[str, ...]:
        """The names of the sources of a split's clips, if the data module names any."""
        names = getattr(self.trainer.datamodule, "source_names", {})  # type: ignore[attr-defined]
        return tuple(names.get(split, ()))
