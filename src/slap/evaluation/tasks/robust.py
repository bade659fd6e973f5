"""Robustness: the change of every metric when recordings are softer, noisier, coded, cut, ..., on the same clips.

Each of the tasks `robust/level`, `robust/silence`, `robust/noise`, `robust/rate`, `robust/cut` and `robust/codec` uses
one function of `slap.evaluation.perturbations`. What is measured depends on the clips: retrieval where they have
captions, zero-shot classification where they have labels, and the choice among candidates where they have questions.

The clean metric has its own name; `<metric>:<condition>` is its change under a condition, in points, and
`<metric>:worst` the change under the condition that lowers it most.

n clips, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.core.progress import Progress
from slap.core.registry import register
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.perturbations import Perturbation
from slap.evaluation.tasks.base import Measured, Task, TaskResult, result_of
from slap.evaluation.tasks.choice import Choice
from slap.evaluation.tasks.retrieval import Retrieval
from slap.evaluation.tasks.zero_shot import ZeroShot
from slap.metrics.bootstrap import MetricValue

WORST = "worst"

SHOWN = ("accuracy", "mAP", "t2a_R@1")
"""Metrics of which a terminal shows the change under every condition; of others it shows the worst change."""


class Robust(Task):
    """The base class of these tasks.

    Args:
        conditions: the conditions to evaluate under.

    Attributes:
        name: of the task.
    """

    name: str
    uses = ("captions", "labels", "tags", "choices")
    every_kind = True
    only_named = True

    def __init__(self, conditions: Sequence[Perturbation]) -> None:
        if len({condition.name for condition in conditions}) < max(len(conditions), 1):
            raise UserError(f"{self.name} needs one condition or more, each once; got {[c.name for c in conditions]}")
        self.conditions = conditions

    @classmethod
    def shows(cls, metric: str) -> bool:
        """Return whether tables on a terminal show a metric."""
        name, _, condition = metric.partition(":")
        return condition in ("", WORST) or name in SHOWN

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Measure the clean clips, and the same clips under each condition.

        A clip that the model cannot embed under a condition counts as wrong under it, and is named.

        Raises:
            ValueError: as the task raises that measures the clean clips.
        """
        test, task = data.part("test"), task_for(data)
        clean = subject.features(test, progress)
        before = task.measured(subject, test, clean, progress)
        after: dict[str, Measured] = {}
        warnings = [*before.warnings]
        for condition in self.conditions:
            features = subject.features(test, progress, condition)
            warnings += [f"{condition.name}: {name} cannot be used: {why}" for name, why in _lost(clean, features)]
            after[condition.name] = task.measured(subject, test, _on_rows(features, clean), progress)
        metrics, definitions, worst = changes(before, after)
        settings = {
            **before.settings,
            "conditions": {condition.name: condition.key for condition in self.conditions},
            "worst": worst,
        }
        result = result_of(self.name, subject, test, clean, metrics, definitions, settings)
        result.warnings += warnings
        return result


def task_for(data: EvalSet) -> Retrieval | ZeroShot | Choice:
    """Return the task that measures clips by what they have: labels, questions, or captions."""
    if data.classes:
        return ZeroShot()
    return Choice() if any(clip.choices for clip in data.clips) else Retrieval()


def changes(
    before: Measured, after: Mapping[str, Measured]
) -> tuple[dict[str, MetricValue], dict[str, str], dict[str, str]]:
    """Compute the change of every metric.

    Args:
        before: the clean clips.
        after: the same clips, by the name of the condition; at least one.

    Returns:
        The metrics, each clean one before its changes; their definitions; and by metric the worst condition.
    """
    metrics: dict[str, MetricValue] = {}
    definitions: dict[str, str] = {}
    worst: dict[str, str] = {}
    for name, clean in before.answers.items():
        found = {condition: clean.change_to(there.answers[name]) for condition, there in after.items()}  # type: ignore[arg-type]
        worst[name] = min(found, key=lambda condition: found[condition].value)
        metrics |= {name: before.metrics[name], **{f"{name}:{condition}": value for condition, value in found.items()}}
        metrics[f"{name}:{WORST}"] = found[worst[name]]
        definitions[name] = before.definitions[name]
        definitions |= {f"{name}:{condition}": f"change of {name} in points, on the same clips" for condition in found}
        definitions[f"{name}:{WORST}"] = (
            f"that of {worst[name]}, with its interval; since these clips selected it, it looks worse than it is"
        )
    return metrics, definitions, worst


def _lost(clean: Embeddings, features: Embeddings) -> list[tuple[str, str]]:
    known = {name for name, _ in clean.failed}
    return [(name, why) for name, why in features.failed if name not in known]


def _on_rows(features: Embeddings, clean: Embeddings) -> Embeddings:
    """Return the embeddings, (n, E), of the clips that can be used clean; NaN where they cannot be used here."""
    place = {row: i for i, row in enumerate(features.rows)}
    nothing = torch.full((features.embeddings.shape[1],), torch.nan)
    rows: list[Tensor] = [features.embeddings[place[row]] if row in place else nothing for row in clean.rows]
    return replace(clean, embeddings=torch.stack(rows))


@register("robust/level")
class Level(Robust):
    """Change under gain, by default -30 to +20 dB: what the model owes to the level of recordings.

    Args:
        decibels: gains, in dB.
        clip: whether samples beyond full scale are clipped, as a recorder does. By default only the level changes.
    """

    name = "robust/level"

    def __init__(self, decibels: Sequence[float] = (-30, -20, -10, 10, 20), clip: bool = False) -> None:
        super().__init__(
            [Perturbation(f"{value:+g}dB", "gain", {"decibels": value, "clip": clip}) for value in decibels]
        )


@register("robust/silence")
class Silence(Robust):
    """Change under silence before, or after, the recording.

    Args:
        seconds: lengths of the silence.
    """

    name = "robust/silence"

    def __init__(self, seconds: Sequence[float] = (0.15, 0.4, 1.2)) -> None:
        sides = ("lead", "trail")
        super().__init__(
            [Perturbation(f"{side}{value:g}s", "silence", {side: value}) for side in sides for value in seconds]
        )


@register("robust/noise")
class Noise(Robust):
    """Change under white noise.

    Args:
        snr: ratios of the recording's mean power to that of the noise, in dB.
        seed: seed of the noise, which is another one for each clip.
    """

    name = "robust/noise"

    def __init__(self, snr: Sequence[float] = (20, 10, 0), seed: int = 0) -> None:
        super().__init__([Perturbation(f"{value:g}dB", "white_noise", {"snr": value, "seed": seed}) for value in snr])


@register("robust/rate")
class Rate(Robust):
    """Change where recordings have a lower sample rate; a model of no higher rate loses nothing.

    Args:
        hertz: sample rates, in Hz.
    """

    name = "robust/rate"

    def __init__(self, hertz: Sequence[int] = (8000,)) -> None:
        super().__init__([Perturbation(f"{value}Hz", "narrow", {"hertz": value}) for value in hertz])


@register("robust/cut")
class Cut(Robust):
    """Change where only the first part of each recording is there.

    Args:
        share: parts of the recordings, 0 to 1.
    """

    name = "robust/cut"

    def __init__(self, share: Sequence[float] = (0.5,)) -> None:
        if not all(0 < value <= 1 for value in share):
            raise UserError(f"{self.name}.share are parts of recordings above 0 and up to 1, got {list(share)}")
        super().__init__([Perturbation(f"first{value:g}", "first_part", {"share": value}) for value in share])


@register("robust/codec")
class Codec(Robust):
    """Change through lossy codecs: MP3 at 32 kbit/s and Opus at 16 kbit/s.

    Args:
        mp3: bit rates of MP3, in bits per second.
        opus: bit rates of Opus, in bits per second.
    """

    name = "robust/codec"

    def __init__(self, mp3: Sequence[int] = (32_000,), opus: Sequence[int] = (16_000,)) -> None:
        rates = [("mp3", bits) for bits in mp3] + [("opus", bits) for bits in opus]
        options = [{"codec": name, "bit_rate": bits} for name, bits in rates]
        names = [f"{name}_{bits / 1000:g}k" for name, bits in rates]
        super().__init__([Perturbation(name, "coded", one) for name, one in zip(names, options, strict=True)])
