"""Contract tests of objectives.

B clips, C captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from slap.core.batch import Batch
from slap.core.batch_ops import without_captions
from slap.core.segments import Segment, phrases_of
from slap.model.captioned import SeenBy
from slap.model.contracts import Objective
from slap.model.views import Views
from slap.testing.checks import TWINS, assert_finite, gradients, promise, restored
from slap.testing.tiny import tiny_batch, tiny_model
from slap.training.module import SLAP
from slap.training.step import loss_of

NAME = "checked"

VIEWS = ("full", "masked", "visible", "teacher", "text", "phrases")

LABELS = ("bark", "rain")
"""Labels of the clips of training and of batches, alternating, for any task."""


def check_objective(objective: Objective, model: SLAP | None = None) -> None:
    """Check that an objective keeps its contract.

    Args:
        objective: an objective, before `setup`. If it learns from labels, clips have two, for any task. A state must be
            in buffers, which checkpoints hold.
        model: a model whose encoders the objective is tested with; its text encoder must be prepared. Default: tiny
            encoders.

    Raises:
        AssertionError: the objective breaks a promise; the message names it.
    """

    def make() -> SLAP:
        torch.manual_seed(0)
        audio, text = (None, None) if model is None else (deepcopy(model.audio), deepcopy(model.text))
        made = tiny_model({NAME: deepcopy(objective)}, audio, text)
        made.objectives[NAME].prepare(clips)  # type: ignore[operator]
        return made

    clips = _Clips()
    with promise(objective, "sets itself up on any model"):
        made = make()
    _keeps_to_itself(objective, made)
    batches = {name: _labeled(batch, clips.asked) for name, batch in _batches(made).items()}
    usual = batches["of four clips"]
    with promise(objective, "returns a scalar loss with a gradient, from views that exist"):
        _loss(made, usual)  # an objective may have a state, which is another from here on
    with promise(objective, "gives the same loss for the same batch, random numbers and state"):
        expected = _loss(deepcopy(made), usual)[0]
        assert torch.equal(_loss(deepcopy(made), usual)[0], expected), "it does not"
    with promise(objective, "gives the same loss after the model's state is saved and loaded"):
        assert torch.equal(_loss(restored(make(), made), usual)[0], expected), "it does not"
    for how, twin in TWINS.items():
        with promise(objective, f"gives the same loss after the model is {how}"):
            assert torch.equal(_loss(twin(made), usual)[0], expected), "it does not"
    with promise(objective, "scales the learning rate of each of its parameters by a number from 0 up"):
        mine = made.objectives[NAME]
        assert isinstance(mine, Objective)
        scales = {name: mine.lr_scale(name) for name, _ in mine.named_parameters()}
        assert all(isinstance(scale, float | int) and scale >= 0 for scale in scales.values()), f"got {scales}"
    with promise(objective, "gives every trainable parameter of its own a finite gradient"):
        loss = _loss(made, usual)[0]
        assert_finite(gradients(made.objectives[NAME], loss))
    made._trainer = _Forbidden()  # type: ignore[assignment]
    _losses(objective, made, batches)


def _batches(model: SLAP) -> dict[str, Batch]:
    """Make batches of all kinds that an objective must handle, the usual one first."""
    four = with_segments(model, tiny_batch(model), [0.31, None, 0.5, 0.12])
    return {
        "of four clips": four,
        "of clips without segments": replace(four, segments=(), phrases=None),
        "of clips in which no phrase is heard": replace(four, segments=((), None, (), None), phrases=None),
        "of one clip": tiny_batch(model, [0.3]),
        "of one clip of one sample": tiny_batch(model, [0.0]),
        "of clips with two captions": tiny_batch(model, captions_per_clip=2),
        "of clips that share captions": tiny_batch(model, [0.1] * 7),
        "of clips of which two have no captions": without_captions(four, [1, 3]),
        "of silence": replace(four, audio=four.audio.replace(torch.zeros_like(four.audio.values))),
        "of one clip twice": replace(tiny_batch(model, [0.3, 0.3]), clip_key=torch.zeros(2, dtype=torch.int64)),
    }


def with_segments(model: SLAP, batch: Batch, seconds: Sequence[float | None]) -> Batch:
    """Return the batch with two phrases in each clip: one that all share throughout, and one of its own in its middle.

    Args:
        model: the model whose text encoder gives the tokens.
        batch: B clips.
        seconds: B durations; None for a clip that was not annotated.
    """
    segments = tuple(
        None if end is None else (Segment(0.0, end, "a hum"), Segment(0.25 * end, 0.75 * end, f"sound {clip}"))
        for clip, end in enumerate(seconds)
    )
    return replace(batch, segments=segments, phrases=model.text.tokenize(phrases_of(segments)))


def _labeled(batch: Batch, tasks: set[str]) -> Batch:
    """Return the batch with labels of some tasks."""
    names = tuple(LABELS[clip % len(LABELS)] for clip in range(len(batch)))
    return replace(batch, labels={**batch.labels, **dict.fromkeys(sorted(tasks), names)})


def _keeps_to_itself(objective: Objective, model: SLAP) -> None:
    with promise(objective, "registers no part of the model as its own: that would be saved and optimized twice"):
        mine = model.objectives[NAME]
        assert all(module is not model for module in mine.modules()), "it holds the model"
        encoders = [model.audio, model.text, model.audio_pool, model.text_pool]
        theirs = {id(parameter) for encoder in encoders for parameter in encoder.parameters()}
        shared = [name for name, parameter in mine.named_parameters() if id(parameter) in theirs]
        assert not shared, f"it holds {', '.join(shared)}"


def _losses(objective: Objective, model: SLAP, batches: dict[str, Batch]) -> None:
    first: set[str] | None = None
    for name, batch in batches.items():
        with promise(objective, f"gives a finite scalar for a batch {name}, without the trainer's help"):
            loss, extras, read = _loss(model, batch)
            assert loss.isfinite(), f"it is {loss.item()}"
            found = gradients(model, loss)
            assert all(grad is None or grad.isfinite().all() for grad in found.values()), "a gradient is not finite"
        with promise(objective, "gives scalars to log, by name"):
            for key, value in extras.items():
                assert isinstance(key, str) and isinstance(value, Tensor), f"it gives {key!r}: {value!r}"  # noqa: PT018
                assert value.shape == () and value.isfinite(), f"{key!r} is {value}"  # noqa: PT018
        with promise(objective, "reads the same views whatever the data, or processes would wait for each other"):
            first = read if first is None else first
            assert read == first, f"it reads {sorted(read)} of a batch {name}, else {sorted(first)}"


def _loss(model: SLAP, batch: Batch) -> tuple[Tensor, dict[str, Tensor], set[str]]:
    """Compute the loss, the scalars to log, and the names of the views that were read."""
    torch.manual_seed(0)
    views = Views(model, batch)
    objective = model.objectives[NAME]
    loss, extras = loss_of(NAME, objective, SeenBy(views).of(objective))  # type: ignore[arg-type]
    read = {name for name in (*VIEWS, "hidden") if name in views.__dict__}
    read |= {f"{name}.embedding" for name in VIEWS if name in read and "embedding" in getattr(views, name).__dict__}
    return loss, extras, read


class _Clips:
    """Stand-in for the training clips; it records the tasks that it is asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def labels(self, task: str) -> list[tuple[str, ...]]:
        """Return one label for each of two clips."""
        self.asked.add(task)
        return [(name,) for name in LABELS]


class _Forbidden:
    """Stand-in for the trainer; any use of it is an error."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"it asks the trainer for `{name}`")
