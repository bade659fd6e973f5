"""SLAP's own network behind the protocol `AudioTextModel`, and how it is rebuilt from plain data.

n clips or texts, E shared dimension.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slap.core.calibration import Calibration
from slap.core.decoding import GREEDY, Decoding, draws
from slap.core.packed import Packed
from slap.core.registry import plugins
from slap.inference.frames import frame_count
from slap.model.contracts import Classifier
from slap.model.network import Network
from slap.model.views import View
from slap.nn.linear import prepack

TEXTS = 256
"""Texts that are encoded together."""

DEFAULT_MAX_SECONDS = 30.0
"""The trained maximum of a checkpoint that does not say; the paper's."""

CONTEXT = 1
"""Time steps before and after a frame whose features are pooled with its own (our choice): 480 ms, where one step of
160 ms alone is far from the whole clips that the pooling head learnt on."""

ARGUMENTS = ("audio", "text", "embedding_dim")
"""Of a checkpoint's hyperparameters, those that the network in use depends on, beside its objectives."""

DRAWS = {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "erfinv_", "mul_", "add_", "clamp_"}
"""What first weights are made with."""


@runtime_checkable
class Calibrated(Protocol):
    """An objective that learns how cosines become probabilities."""

    def calibration(self) -> Calibration:
        """What it learnt."""


@runtime_checkable
class Writes(Protocol):
    """An objective that learns to write captions."""

    def generate(self, audio: Packed, decoding: Decoding = GREEDY, draws: Tensor | None = None) -> Packed:
        """Tokens of a caption for each clip, from dense features; `draws` as `slap.core.decoding.draws` gives them."""


class NetworkBackend:
    """A SLAP network in use; see `slap.inference.model.AudioTextModel`.

    Args:
        network: in any mode; it is set to evaluation, and its parameters want no gradient any more.
        arguments: what `network` was made with, as plain data.
        max_seconds: the longest clip of its training.
        absent: objectives that it was trained with, but which are not in use, by name with the reason.
        lent: leave modes and gradients of `network` to its owner, who has set it to evaluation.
    """

    def __init__(
        self,
        network: Network,
        arguments: Mapping[str, Any],
        max_seconds: float = DEFAULT_MAX_SECONDS,
        absent: Mapping[str, str] | None = None,
        lent: bool = False,
    ) -> None:
        self.network = network if lent else network.eval().requires_grad_(False)
        if not lent:
            prepack(network)
        self.arguments = dict(arguments)
        self.max_seconds = max_seconds
        self.absent = dict(absent or {})
        self.sample_rate = network.audio.sample_rate
        self.embedding_dim = network.embedding_dim

    @cached_property
    def name(self) -> str:
        """The first 16 digits of `digest`."""
        return digest(self.arguments, self._state_in_use())[:16]

    def _state_in_use(self) -> dict[str, Tensor]:
        """What a checkpoint of the network would be loaded with: no objectives that only training needs, nor theirs."""
        objectives = self.network.objectives
        unused = {f"objectives.{name}." for name in objectives if name not in self.arguments["objectives"]}
        if not any(objectives[name].uses_teacher for name in objectives if name in self.arguments["objectives"]):
            unused.add("teacher.")
        state = self.network.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(tuple(unused))}

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.audio_pool.query.device

    @property
    def calibration(self) -> Calibration | None:
        """Of the first objective that learns one."""
        found = (part.calibration() for part in self.network.objectives.values() if isinstance(part, Calibrated))
        return next(found, None)

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are kept in, and what it computes in."""
        return self.network.audio_pool.query.dtype

    @torch.no_grad()
    def encode_audio(self, clips: Sequence[Tensor]) -> Tensor:
        """Clips, (T_i,) each, to (n, E)."""
        return self.network.audio_pool(self._dense(clips)).float().cpu()

    @torch.no_grad()
    def encode_frames(self, clip: Tensor, hop: int) -> Tensor:
        """A clip, (T,), to an embedding every `hop` samples, (F, E); see `slap.inference.frames`.

        Raises:
            ValueError: the patches have no time, or their step is no multiple of `hop`.
        """
        step = self.frame_samples
        if hop < 1 or step % hop:
            raise ValueError(f"frames come every {step} samples or a whole fraction of it; got {hop}")
        passes = [clip[start:] for start in range(0, min(step, len(clip)), hop)]
        dense = self._dense(passes)
        assert dense.positions is not None
        near, shift, time = neighborhoods(dense, dense.positions[:, 0].long())
        embeddings = self.network.audio_pool(near).float().cpu()
        frame = (time * (step // hop) + shift).cpu()
        count = frame_count(len(clip), hop, step)
        frames = torch.empty(count, self.embedding_dim)
        frames[frame[frame < count]] = embeddings[frame < count]
        return frames

    @property
    def frame_samples(self) -> int:
        """Samples that a time step of the patches spans.

        Raises:
            ValueError: they have no time.
        """
        step = self.network.audio.step
        if step is None:
            raise ValueError("the audio encoder does not say what time its patches stand for (its attribute `step`)")
        return round(step * self.sample_rate)

    @property
    def no_captions(self) -> str:
        """Why it writes no captions; "" if it does."""
        why = self.absent.get("captioning", "it was not trained with one")
        return "" if self._writer else f"the model writes no captions, for it has no captioning objective: {why}"

    @property
    def _writer(self) -> Writes | None:
        return next((part for part in self.network.objectives.values() if isinstance(part, Writes)), None)

    @torch.no_grad()
    def write(self, clips: Sequence[Tensor], decoding: Decoding) -> tuple[list[str], Tensor]:
        """A caption for each clip, and the clips' embeddings, (n, E), from the same pass of the encoder.

        Raises:
            ValueError: the model did not learn to write.
        """
        writer = self._writer
        if writer is None:
            raise ValueError(self.no_captions)
        dense = self._dense(clips)
        tokens = writer.generate(dense, decoding, draws(clips, decoding))
        return self.network.text.detokenize(tokens.to("cpu")), self.network.audio_pool(dense).float().cpu()

    @property
    def heads(self) -> dict[str, Classifier]:
        """The classification heads that it was trained with, by name."""
        return {name: part for name, part in self.network.objectives.items() if isinstance(part, Classifier)}

    @torch.no_grad()
    def encode_labels(self, clips: Sequence[Tensor], head: Classifier) -> Tensor:
        """Clips, (T_i,) each, to the scores of a head's classes, (n, K)."""
        dense = self._dense(clips)
        # Heads stay in float32, see `cast`.
        view = View(dense.replace(dense.values.float()), lambda _: self.network.audio_pool(dense))
        return head.scores(view).cpu()

    def _dense(self, clips: Sequence[Tensor]) -> Packed:
        """Clips, (T_i,) each, to dense features, (N, D)."""
        patches = self.network.audio.patchify(Packed.pack(clips).to(self.device))
        return self.network.audio(patches.replace(patches.values.to(self.dtype)))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts to (m, E)."""
        parts = [list(texts[i : i + TEXTS]) for i in range(0, len(texts), TEXTS)]
        return torch.cat([self.network.embed_captions(part).float().cpu() for part in parts])


def neighborhoods(tokens: Packed, time: Tensor) -> tuple[Packed, Tensor, Tensor]:
    """The tokens around each time step of each item, as items of their own.

    Args:
        tokens: (N, D), B items.
        time: (N,) int64, the time step of each.

    Returns:
        For each of S time steps the tokens of that step and of `CONTEXT` steps before and after, packed; the item, and
        the step within it, (S,) each.
    """
    span = int(time.max()) + 1
    key, order = (tokens.item * span + time).sort(stable=True)
    step, counts = key.unique_consecutive(return_counts=True)
    starts = counts.cumsum(0) - counts
    item, place = step // span, torch.arange(len(step), device=step.device)
    ends = [torch.searchsorted(item, item, right=right) for right in (False, True)]  # of each item's steps
    first = torch.maximum(place - CONTEXT, ends[0])
    last = torch.minimum(place + CONTEXT, ends[1] - 1)
    lengths = starts[last] + counts[last] - starts[first]
    owner = torch.arange(len(step), device=step.device).repeat_interleave(lengths)
    within = torch.arange(len(owner), device=step.device) - (lengths.cumsum(0) - lengths)[owner]
    rows = order[starts[first][owner] + within]
    return Packed(tokens.values[rows], lengths.int()), item, step % span


def for_use(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Of a model's arguments those that its use depends on, and the objectives that are left out, with the reason.

    Kept are objectives that learn something of use after training: a calibration, to write captions, or to classify.

    Raises:
        ValueError: they are no arguments of a model, or an encoder would be read from a file or a hub.
    """
    _check_arguments(arguments)
    for side, kind in (("audio", "audio encoder"), ("text", "text encoder")):
        _refuse_sources(kind, arguments[side])
    kept, absent = {}, {}
    known = plugins("objective")
    for name, spec in arguments["objectives"].items():
        plugin = known.get(name)
        if plugin is None:
            absent[name] = "it is not registered here; import the plug-in that defines it first"
        elif not issubclass(plugin, Calibrated | Writes | Classifier):
            absent[name] = "only training needs it"
        elif isinstance(spec, str) or (isinstance(spec, Mapping) and "objective" in spec):
            absent[name] = "it was an instance, which a checkpoint cannot hold"
        else:
            kept[name] = spec
    return {**{key: arguments[key] for key in ARGUMENTS}, "objectives": kept}, absent


def _check_arguments(arguments: Any) -> None:
    """Refuse what is not built like the arguments of a model; whether they fit is seen when it is built."""
    wanted = {"audio": str | Mapping, "text": str | Mapping, "embedding_dim": int, "objectives": Mapping}
    for name, kind in wanted.items():
        value = arguments.get(name) if isinstance(arguments, Mapping) else None
        if not isinstance(value, kind):
            raise ValueError(f"the model's arguments are damaged: `{name}` is {repr(value)[:80]}")
        if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
            raise ValueError(f"the model's arguments are damaged: `{name}` has other keys than texts")
        if isinstance(value, Mapping) and name != "objectives" and not isinstance(value.get("name"), str):
            raise ValueError(f"the model's arguments are damaged: the name of `{name}` is {value.get('name')!r}")


def _refuse_sources(kind: str, spec: Any) -> None:
    """A model that was received may not send its reader to other files or hubs."""
    if isinstance(spec, Mapping):
        sources = getattr(plugins(kind).get(spec.get("name", "")), "sources", ())
        named = {name: spec[name] for name in sources if spec.get(name) is not None}
        if named:
            raise ValueError(f"the model's {kind} names {named}; a saved model brings everything with it")


def build(arguments: Mapping[str, Any], state: Mapping[str, Tensor], take: bool = False) -> Network:
    """The network of plain arguments, filled with a state; what the state has beyond it is ignored.

    Args:
        arguments: from `for_use`.
        state: of the whole model or of the network in use alone.
        take: have the network keep these very tensors where their types are its own, which spares a copy.

    Raises:
        ValueError: an unknown plug-in or argument, or a state that lacks weights or has others.
    """
    with uninitialized():
        network = Network(**arguments)
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(state))
    shapes = [
        f"{name} has {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and isinstance(value, Tensor) and not _extra(name) and state[name].shape != value.shape
    ]
    if missing or shapes:
        raise ValueError(f"the weights do not fit the model: missing are {missing or 'none'}; of other shape: {shapes}")
    own = all(state[name].dtype == value.dtype for name, value in wanted.items())
    network.load_state_dict({name: state[name] for name in wanted}, assign=take and own)
    return network


def cast(network: Network, dtype: torch.dtype) -> Network:
    """Keep the weights in another precision, from now on; what follows from them is computed in it.

    Spectrograms stay in float32, as do single numbers, such as the scale of cosines, and classification heads.
    """
    heads = [part for part in network.objectives.values() if isinstance(part, Classifier)]
    kept = {id(weights) for head in heads for weights in head.parameters()}
    for weights in network.parameters():
        if weights.dim() and id(weights) not in kept:
            weights.data = weights.data.to(dtype)
    return network


def _extra(name: str) -> bool:
    return name.endswith("_extra_state")


def digest(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of a model: its arguments, and the names, shapes, types and bytes of its weights."""
    total = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode())
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return total.hexdigest()


@contextmanager
def uninitialized() -> Iterator[None]:
    """Make modules without drawing their first weights, which takes seconds for large ones, for a state to fill."""
    with _NoDraws():
        yield


class _NoDraws(TorchFunctionMode):
    """Leaves parameters as they are where they would be filled at random."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in DRAWS:
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs)
