"""Captioning: a caption for each clip, compared with the captions that people wrote.

n clips.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from slap.core.decoding import Decoding
from slap.core.errors import UserError
from slap.core.progress import Progress
from slap.core.registry import register
from slap.evaluation.eval_set import EvalClip, EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.tasks.base import Task, TaskResult, UnavailableError, result_of
from slap.inference.stream import NotFiniteError
from slap.metrics.bootstrap import MetricValue, order_of
from slap.metrics.captioning import CaptionMetrics, caption_result, caption_tools
from slap.metrics.captioning.scores import CaptionScore
from slap.metrics.finite import not_finite_line

TITLES = {
    **{f"bleu_{n}": f"BLEU-{n}" for n in (1, 2, 3, 4)},
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "cider_d": "CIDEr-D",
    "spice": "SPICE",
    "spider": "SPIDEr",
    "fense": "FENSE",
}

IN_WORDS = {
    **{f"BLEU-{n}": f"x 100; n-grams up to {n}, of the whole corpus, nearest reference length" for n in (1, 2, 3, 4)},
    "ROUGE-L": "x 100; mean over clips of the F-measure (beta 1.2) of the longest common subsequence",
    "METEOR": "x 100; METEOR 1.5, English, of the whole corpus",
    "CIDEr-D": "x 100, so 0 to 1000; mean over clips, document frequencies of the references of this set",
    "SPICE": "x 100; mean over clips of the F-measure of scene-graph tuples",
    "SPIDEr": "x 100; mean of CIDEr-D and SPICE",
    "FENSE": "x 100; mean over clips of the cosine of sentences to the references, a tenth of it for broken English",
}

BEAM = 4

WINDOWS = (
    "of a longer clip every overlapping window is described, and the description nearest to the whole clip's embedding "
    "is taken; nothing is cropped or padded"
)

OTHER = "chance: the captions of other clips of the set, half of the set away"


@dataclass
class _Written:
    """Rows of the clips with a caption, the captions, durations, and the clips that cannot be used, or got no caption.

    The model's output for the last is not finite.
    """

    rows: list[int]
    captions: list[str]
    seconds: list[float]
    failed: list[tuple[str, str]]
    lost: list[str]


@register("captioning")
class CaptioningTask(Task):
    """Describe clips in words: BLEU, ROUGE-L, METEOR, CIDEr-D, and SPICE, SPIDEr and FENSE where they are supplied.

    Args:
        beam: beginnings kept; 1 is greedy. Default: 4 (our choice, the paper does not say), or 1 where `top_p` is set.
        max_length: tokens of a caption at most.
        length_penalty: of a beam, see `slap.core.decoding.Decoding`.
        top_p: draw from the nucleus instead.
        temperature: with `top_p`.
        seed: with `top_p`.
        spice: folder of what SPICE needs, see `slap.metrics.captioning.spice`; also the environment variable
            SLAP_SPICE.
        fense: folder of what FENSE needs, see `slap.metrics.captioning.fense`; also the environment variable
            SLAP_FENSE.
    """

    uses = ("captions",)
    headline = ("METEOR", "CIDEr-D", "SPICE", "SPIDEr", "FENSE")

    def __init__(
        self,
        beam: int | None = None,
        max_length: int = 64,
        length_penalty: float = 1.0,
        top_p: float | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        spice: str | None = None,
        fense: str | None = None,
    ) -> None:
        if beam is None:
            beam = BEAM if top_p is None else 1
        self.decoding = Decoding(max_length, beam, length_penalty, top_p, temperature, seed)
        self.spice, self.fense = spice, fense

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Describe every clip that can be used and has a caption to compare with.

        Raises:
            UnavailableError: the model writes no captions.
            ValueError: no clip with captions can be used.
        """
        if subject.model.no_captions:
            raise UnavailableError(subject.model.no_captions)
        tools = caption_tools(self.spice, self.fense, getattr(subject.model.backend, "device", "cpu"))
        test = data.part("test")
        written = self._write(subject, test, progress)
        if not written.rows:
            raise UserError(f"no clip of {data.name} has captions and audio that can be used")
        clips = [test.clips[row] for row in written.rows]
        references = [clip.captions for clip in clips]
        ids = [clip.id for clip in clips]
        others = _of_others(written.captions, ids)
        scores, guesses = tools.scores_and_guesses(written.captions, others, references)
        origins = [clip.origin for clip in clips]
        metrics = {TITLES[name]: caption_result(scores[name], guesses[name], ids, origins=origins) for name in scores}
        result = self._result(subject, data, written, metrics, tools)
        result.files["captions.jsonl"] = captions_file(clips, written.captions, scores)
        return result

    def _write(self, subject: EvaluatedModel, test: EvalSet, progress: Progress) -> _Written:
        rows = [row for row, clip in enumerate(test.clips) if clip.captions]
        found: dict[int, tuple[str, float]] = {}
        failed, lost = [], []
        bar = progress(len(rows), f"{test.name}: captions", "clips")
        audio = [test.clips[row].audio for row in rows]
        for done in subject.model.stream_captions(audio, self.decoding, subject.batch_seconds):
            if done.silent:
                failed.append((test.clips[rows[done.index]].id, f"{done.name}: {done.note}"))
            elif done.result is not None:
                found[rows[done.index]] = done.result, done.seconds
            elif isinstance(done.error, NotFiniteError):  # a fault of the model: an empty caption scores worst
                found[rows[done.index]] = "", done.seconds
                lost.append(test.clips[rows[done.index]].id)
            else:
                failed.append((test.clips[rows[done.index]].id, str(done.error)))
            bar.update()
        bar.close()
        used = sorted(found)
        return _Written(used, [found[row][0] for row in used], [found[row][1] for row in used], failed, lost)

    def _result(
        self,
        subject: EvaluatedModel,
        data: EvalSet,
        written: _Written,
        metrics: Mapping[str, MetricValue],
        tools: CaptionMetrics,
    ) -> TaskResult:
        features = Embeddings(written.rows, torch.empty(len(written.rows), 0), written.seconds, written.failed)
        settings = {"generation": self.decoding.settings(), "scoring": tools.settings, "guessing": OTHER}
        result = result_of("captioning", subject, data.part("test"), features, metrics, IN_WORDS, settings)
        result.settings["windowing"] = {**result.settings["windowing"], "rule": WINDOWS}
        result.warnings += missing_in_words(tools)
        if written.lost:
            result.warnings.append(not_finite_line(written.lost))
        return result


def _of_others(captions: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Give each clip the caption of the clip that is half of the set away in the order of ids."""
    order = order_of(ids).tolist()
    half = len(order) // 2
    found = dict(zip(order, order[half:] + order[:half], strict=True))
    return [captions[found[row]] for row in range(len(captions))]


def missing_in_words(tools: CaptionMetrics) -> list[str]:
    """Write a line per reason why metrics are missing, and one where scores differ from published ones."""
    reasons: dict[str, list[str]] = {}
    for name, why in tools.missing.items():
        reasons.setdefault(why, []).append(TITLES[name])
    lines = [f"without {', '.join(names)}: {why}" for why, names in reasons.items()]
    if tools.tokenizer != "PTB":
        lines.append(
            "tokens are not the PTB tokenizer's, which needs Java: scores may differ slightly from published ones"
        )
    return lines


def captions_file(clips: Sequence[EvalClip], written: Sequence[str], scores: Mapping[str, CaptionScore]) -> str:
    """Write JSON lines with the id, the written caption, the references and the scores of each clip, to score anew."""
    lines = []
    for i, (clip, caption) in enumerate(zip(clips, written, strict=True)):
        about: dict[str, Any] = {"id": clip.id, "caption": caption, "references": list(clip.captions)}
        about["scores"] = {TITLES[name]: score.clips[i] for name, score in scores.items()}
        lines.append(json.dumps(about))  # in ASCII: captions may hold what others take for the end of a line
    return "\n".join(lines) + "\n"
