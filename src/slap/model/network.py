"""The network of SLAP without the training loop: encoders, pooling, objectives and teacher.

N packed rows, B clips, C captions, E shared dimension.

`slap.training.module.SLAP` is this network with its training step. A trained model in use needs this file alone, and so
no import of Lightning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.model.contracts import AlignsFrames, AudioEncoder, Calibrated, Classifier, Objective, TextEncoder, Writes
from slap.model.ema import EMATeacher, averaged_state
from slap.model.specs import INSTANCE, EncoderSpec, ObjectiveSpec, build_encoder, build_objectives, portable_spec
from slap.nn.pooling import Pooling

MAX_SECONDS = "max_seconds"
"""The key of a checkpoint that holds the duration of the longest clip of its training, in seconds."""

AVERAGES = "averages"
"""The key of a checkpoint that holds the names of the modules whose averages it has, see `EMATeacher.names`."""

Weights = Literal["raw", "ema"]
"""The weights of a checkpoint: as they were trained, or their exponential moving averages."""


def chosen_state(checkpoint: Mapping[str, Any], weights: Weights, path: str | Path) -> Mapping[str, Tensor]:
    """Return the state of a checkpoint with the chosen weights.

    Args:
        checkpoint: its content.
        weights: which of its weights.
        path: of the file, for messages.

    Raises:
        ValueError: there is no such choice, or the checkpoint has no averages of the whole model.
    """
    state: Mapping[str, Tensor] = checkpoint["state_dict"]
    if weights not in get_args(Weights):
        raise UserError(f"weights must be one of {', '.join(get_args(Weights))}; got {weights!r}")
    if weights == "raw":
        return state
    if AVERAGES in checkpoint:
        return averaged_state(state, checkpoint[AVERAGES])
    why = "it was trained without; `ema: true` of the model (--model.ema true) keeps them"
    if any(name.startswith("teacher.") for name in state):
        why = "the version of slap-audio that wrote it averaged the audio side alone"
    raise UserError(f"{path} has no averages of its weights (weights 'ema'): {why}. Its other weights are 'raw'")


class Network(nn.Module):
    """An audio and a text encoder with pooling into one space, and the objectives that train them.

    Args:
        audio: the audio encoder, see `SLAP`.
        text: the text encoder, see `SLAP`.
        objectives: the objectives by name, see `SLAP`; may be empty for a network that is not trained.
        embedding_dim: E.
        mask_ratio: share of patches that the masked view hides.
        ema_momentum: momentum of the teacher at the start and at the end of training.
        mask_block: time steps of a block of patches that is hidden as a whole; 0 hides single patches.
        pool_duration: let the pooled embedding of audio depend on the clip's duration.
        ema: keep a teacher, whose averages can be used, even if no objective needs it.
    """

    def __init__(
        self,
        audio: EncoderSpec,
        text: EncoderSpec,
        objectives: Mapping[str, ObjectiveSpec],
        embedding_dim: int = 512,
        mask_ratio: float = 0.5,
        ema_momentum: tuple[float, float] = (0.994, 1.0),
        ema: bool = False,
        mask_block: int = 0,
        pool_duration: bool = False,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.mask_ratio = mask_ratio
        self.mask_block = mask_block
        self.audio = build_encoder(AudioEncoder, audio)
        self.text = build_encoder(TextEncoder, text)
        self.audio_pool: Pooling = self.audio.pooling(embedding_dim, pool_duration)
        self.text_pool: Pooling = self.text.pooling(embedding_dim)
        self.objectives, self.weights = build_objectives(objectives)
        self.teacher: EMATeacher | None = None
        if ema or any(objective.uses_teacher for objective in self.objectives.values()):
            self.teacher = EMATeacher(ema_momentum)
            self.teacher.track(self.audio)
            self.teacher.track(self.audio_pool)
        for objective in self.objectives.values():
            assert isinstance(objective, Objective)
            objective.setup(self)
        if self.teacher is not None:  # after the heads, whose places in checkpoints are older
            kinds = (Calibrated, Writes, Classifier, AlignsFrames)
            used = [part for part in self.objectives.values() if isinstance(part, kinds)]
            for part in (self.text, self.text_pool, *used):
                self.teacher.track(part)

    def portable(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that rebuild this network where files and hubs are out of reach, with what it learned.

        Args:
            arguments: as plain data, the arguments that it was made with, and others, which stay as they are.
        """
        portable = dict(arguments)
        for side, encoder in (("audio", self.audio), ("text", self.text)):
            spec = arguments[side]
            if isinstance(spec, Mapping) or not spec.startswith(INSTANCE):
                options = {"name": spec} if isinstance(spec, str) else dict(spec)
                portable[side] = {"name": options.pop("name"), **encoder.portable(options)}
        portable["objectives"] = {
            name: portable_spec(self.objectives[name], spec)  # type: ignore[arg-type]
            for name, spec in arguments["objectives"].items()
        }
        return portable

    def embed_audio(self, audio: Packed) -> Tensor:
        """Embed waveforms, (N,) at `audio.sample_rate`, as (B, E), each of length 1."""
        return self.audio_pool(self.audio(self.audio.patchify(audio)))

    def embed_text(self, tokens: Packed) -> Tensor:
        """Embed tokens, (N,), as (C, E), each of length 1."""
        return self.text_pool(self.text(tokens))

    def embed_captions(self, captions: list[str]) -> Tensor:
        """Embed captions, given as text, as (len(captions), E)."""
        return self.embed_text(self.text.tokenize(captions).to(self.text_pool.device))
