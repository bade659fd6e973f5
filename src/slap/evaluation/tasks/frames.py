"""Sound event detection by the similarity of texts to frames: when is what heard?

n clips, F frames of a clip, K classes: the different phrases of the segments of all clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slap.audio.reader import AudioError
from slap.core.errors import MissingDependencyError, UserError
from slap.core.progress import Progress
from slap.core.registry import register
from slap.core.segments import Segment
from slap.core.units import Seconds
from slap.evaluation.eval_set import EvalClip, EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.tasks.base import Task, TaskResult, UnavailableError, result_of
from slap.inference.frames import Frames
from slap.inference.stream import NotFiniteError
from slap.metrics.bootstrap import MetricValue, order_of, units_of
from slap.metrics.psds import psds
from slap.metrics.sound_events import LENGTH, Detections, frame_auroc, merged_segments, segment_f1

PLACE = "{label}"

IN_WORDS = {
    "segment_F1": f"x 100; mean over classes of F1 over segments of {LENGTH:g} s, in which a class is heard if any "
    "event of it overlaps; events as `slap frames` finds them; chance: every class everywhere",
    "frame_AUROC": "x 100; mean over classes of the area under the ROC curve over all frames; a class is heard in a "
    "frame if it is in its middle",
    "PSDS1": "x 100; polyphonic sound detection score by sed_scores_eval: DTC 0.7, GTC 0.7, alpha_ST 1, up to 100 "
    "false positives per hour; chance: the scores of other clips of the set, half of the set away",
    "PSDS2": "x 100; likewise: DTC 0.1, GTC 0.1, CTTC 0.3, alpha_CT 0.5, alpha_ST 1",
}


@dataclass
class _Heard:
    """Rows of the clips that could be used with what was found in them, and the other clips."""

    rows: list[int]
    detections: list[Detections]
    failed: list[tuple[str, str]]
    hop: Seconds
    probabilities: bool


@register("frames")
class FrameSimilarity(Task):
    """Find when sounds are heard by the similarity of texts to frames: segment-based F1, AUROC of frames, PSDS.

    Args:
        template: text of a class, with `{label}` for the phrase of its segments.
        hop: seconds from frame to frame. Default: those of the model's time steps.
        threshold: cosine from which on a class is heard, for F1. Default: that of `slap frames`.
        psds: compute PSDS too, which needs the extra `sed`, and minutes for a thousand clips.
        psds_samples: bootstrap samples of PSDS.
    """

    uses = ("segments",)
    headline = ("segment_F1", "frame_AUROC", "PSDS1", "PSDS2")

    def __init__(
        self,
        template: str = PLACE,
        hop: float | None = None,
        threshold: float | None = None,
        psds: bool = True,
        psds_samples: int = 200,
    ) -> None:
        if PLACE not in template:
            raise UserError(f"the template needs {PLACE} where the phrase goes; got {template!r}")
        if psds_samples < 2:
            raise UserError(f"psds_samples must be at least 2, got {psds_samples}")
        self.template, self.hop, self.threshold = template, hop, threshold
        self.psds, self.psds_samples = psds, psds_samples

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Compare every frame of every clip with the phrases of all clips.

        Raises:
            UnavailableError: the model has no frames.
            ValueError: no clip can be used, or no phrase is heard in any.
        """
        test = data.part("test")
        classes = sorted({one.text for clip in test.clips for one in clip.segments or ()})
        if not classes:
            raise UserError(f"no clip of {data.name} has segments in which something is heard")
        heard = self._detect(subject, test, classes, progress)
        if not heard.rows:
            raise UserError(f"no clip of {data.name} can be used")
        ids = test.ids(heard.rows)
        order = order_of(ids)
        clips = [heard.detections[i] for i in order.tolist()]
        unit = units_of(test.origins(heard.rows), order)
        known = {one.text for clip in clips for one in clip.segments}
        classes_heard = [name for name in classes if name in known]
        clips = [_of_classes(clip, classes, classes_heard) for clip in clips]
        f1, f1_each = segment_f1(clips, classes_heard, unit)
        area, area_each = frame_auroc(clips, classes_heard, unit)
        metrics = {"segment_F1": f1} if area is None else {"segment_F1": f1, "frame_AUROC": area}
        warnings = self._psds(
            metrics, dict(zip([ids[i] for i in order.tolist()], clips, strict=True)), classes_heard, unit
        )
        result = self._result(subject, data, heard, metrics)
        result.warnings += warnings
        result.per_class = [
            {"class": name, "segment_F1": _percent(a), "frame_AUROC": _percent(b), "clips": count}
            for name, a, b, count in zip(
                classes_heard, f1_each.tolist(), area_each.tolist(), _clips_with(clips, classes_heard), strict=True
            )
        ]
        return result

    def _detect(self, subject: EvaluatedModel, test: EvalSet, classes: Sequence[str], progress: Progress) -> _Heard:
        model = subject.model
        try:
            width = model.localizer.frame_samples
        except UserError as error:
            raise UnavailableError(str(error)) from error
        heard = _Heard([], [], [], self.hop or width / model.sample_rate, False)
        directions = model.embed_text([self.template.replace(PLACE, name) for name in classes])
        bar = progress(len(test.clips), f"{test.name}: frames", "clips")
        for row, clip in enumerate(test.clips):
            try:
                found = model.frames_by(clip.audio, tuple(classes), directions, heard.hop)
            except NotFiniteError as error:  # a fault of the model, not of the clip
                raise UserError(f"{clip.id}: {error}") from error
            except AudioError as error:
                heard.failed.append((clip.id, str(error)))
            else:
                heard.rows.append(row)
                heard.detections.append(self._detections(found, clip))
                heard.probabilities = found.calibration is not None
            bar.update()
        bar.close()
        return heard

    def _detections(self, found: Frames, clip: EvalClip) -> Detections:
        begins = found.begins
        events = [
            Segment(event.onset - begins, event.offset - begins, event.text) for event in found.events(self.threshold)
        ]
        inner = found.times[1:].double() - begins - found.hop / 2
        edges = torch.cat([inner.new_zeros(1), inner, inner.new_tensor([found.seconds])])
        scores = found.similarity if found.probability is None else found.probability
        return Detections(scores, edges, events, merged_segments(clip.segments or ()))

    def _psds(
        self, metrics: dict[str, MetricValue], clips: Mapping[str, Detections], classes: Sequence[str], unit: Tensor
    ) -> list[str]:
        """Add the PSDS to metrics, or say why it is not there."""
        if not self.psds:
            return []
        if len(clips) < 2:
            return ["without PSDS1, PSDS2: their interval and chance need two clips or more"]
        try:
            metrics |= psds(clips, classes, unit, self.psds_samples)
        except MissingDependencyError as error:
            return [f"without PSDS1, PSDS2: {error}"]
        return []

    def _result(
        self, subject: EvaluatedModel, data: EvalSet, heard: _Heard, metrics: Mapping[str, MetricValue]
    ) -> TaskResult:
        seconds = [clip.seconds for clip in heard.detections]
        features = Embeddings(heard.rows, torch.empty(len(heard.rows), 0), seconds, heard.failed)
        settings: dict[str, Any] = {
            "template": self.template,
            "hop_seconds": heard.hop,
            "frames": "of the objective frame_alignment" if heard.probabilities else "pooled, never trained for frames",
            "threshold": "that of slap frames" if self.threshold is None else self.threshold,
        }
        words = {name: IN_WORDS[name] for name in metrics}
        result = result_of("frames", subject, data.part("test"), features, metrics, words, settings)
        rule = "of a longer clip the frames are those of overlapping windows; nothing is cropped or padded"
        result.settings["windowing"] = {**result.settings["windowing"], "rule": rule}
        return result


def _of_classes(clip: Detections, classes: Sequence[str], kept: Sequence[str]) -> Detections:
    """Return what was found of some classes: those that are heard in the clips that can be used."""
    columns = [number for number, name in enumerate(classes) if name in kept]
    events = [event for event in clip.events if event.text in kept]
    return Detections(clip.scores[:, columns], clip.edges, events, clip.segments)


def _clips_with(clips: Sequence[Detections], classes: Sequence[str]) -> list[int]:
    return [sum(any(one.text == name for one in clip.segments) for clip in clips) for name in classes]


def _percent(value: float) -> float | None:
    return None if value != value else 100 * value
