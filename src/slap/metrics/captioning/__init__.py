"""Captioning metrics: those that this machine can compute, with their intervals, and why others are missing.

G clips, S bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slap.metrics.bootstrap import MetricValue, kind_of, order_of, percentile_interval, times_drawn, units_of
from slap.metrics.captioning.cider import cider_d
from slap.metrics.captioning.fense import Fense, find_fense
from slap.metrics.captioning.plain_tokens import plain_tokenize
from slap.metrics.captioning.ptb import MissingToolError, coco_folder, package_folder, ptb_tokenize
from slap.metrics.captioning.scores import CaptionScore, bleu, check, mean_of, meteor_score, part_of, rouge_l, tokenized
from slap.metrics.captioning.spice import Spice, find_spice

NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor", "cider_d", "spice", "spider", "fense")
"""All of them; FENSE reads captions as they are, the others their tokens."""


@dataclass
class CaptionMetrics:
    """Captioning metrics that this machine can compute; made once, used for many sets.

    Attributes:
        tokenizer: `PTB`, or `plain` where there is no Java.
        coco: whether pycocoevalcap is installed.
        spice: SPICE, if it can be had.
        fense: FENSE, if it can be had.
        missing: the reason, in one line, for each metric that cannot be computed.
    """

    tokenizer: str
    coco: bool
    spice: Spice | None = None
    fense: Fense | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the metrics depend on, as plain data."""
        return {
            "tokenizer": self.tokenizer,
            **({"fense": self.fense.settings} if self.fense else {}),
            **({"missing_metrics": dict(self.missing)} if self.missing else {}),
        }

    def scores(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, CaptionScore]:
        """Compute the metrics of `NAMES` that can be had, in that order.

        CIDEr-D is 0 to 10, SPIDEr 0 to 5.5, the others 0 to 1.

        Args:
            written: G captions, one a clip.
            references: for each clip one or more captions of its own.

        Raises:
            ValueError: there are no captions, or the numbers do not match.
            ToolFailedError: one of the programs failed.
        """
        check(written, references)
        return self._scores(written, references, len(references))

    def scores_and_guesses(
        self, written: Sequence[str], others: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, CaptionScore], dict[str, CaptionScore]]:
        """Compute `scores` of captions and of others for the same clips, in one run of each program: they start slowly.

        Args:
            written: G captions.
            others: G more, e.g. those of other clips.
            references: for each clip one or more captions of its own.
        """
        check(written, references)
        check(others, references)
        clips = len(references)
        both = self._scores([*written, *others], [*references, *references], clips)
        ours = {name: part_of(score, slice(clips)) for name, score in both.items()}
        theirs = {name: part_of(score, slice(clips, None)) for name, score in both.items()}
        return ours, theirs

    def _scores(
        self, written: Sequence[str], references: Sequence[Sequence[str]], clips: int
    ) -> dict[str, CaptionScore]:
        """Score one or two sets of so many clips; document frequencies of CIDEr-D are those of one set."""
        tokenize = ptb_tokenize if self.tokenizer == "PTB" else plain_tokenize
        ours, theirs = tokenized(written, references, tokenize)
        found: dict[str, CaptionScore] = {}
        if self.coco:
            found |= {**bleu(ours, theirs), "rouge_l": rouge_l(ours, theirs)}
        if "meteor" not in self.missing:
            found["meteor"] = meteor_score(ours, theirs)
        found["cider_d"] = mean_of(cider_d(ours[:clips], theirs[:clips]) + cider_d(ours[clips:], theirs[clips:]))
        if self.spice is not None:
            found["spice"] = mean_of(self.spice.score(ours, theirs))
            both = zip(found["cider_d"].clips, found["spice"].clips, strict=True)
            found["spider"] = mean_of([(cider + spice) / 2 for cider, spice in both])
        if self.fense is not None:
            found["fense"] = mean_of(self.fense.score(written, references))
        return found


def caption_tools(
    spice: str | Path | None = None, fense: str | Path | None = None, device: str | torch.device = "cpu"
) -> CaptionMetrics:
    """Find the tools of the metrics on this machine.

    Args:
        spice: folder with the files of SPICE, see `slap.metrics.captioning.spice.find_spice`.
        fense: folder with the files of FENSE, see `slap.metrics.captioning.fense`.
        device: that FENSE computes on.

    Raises:
        FileNotFoundError: a folder is named, by an option or an environment variable, but something is not in it.
    """
    missing: dict[str, str] = {}
    coco = _had(coco_folder, missing, "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor", "spice", "spider")
    java = _had(package_folder, missing, "meteor", "spice", "spider")
    tools = CaptionMetrics("PTB" if java else "plain", coco is not None, missing=missing)
    if java:
        tools.spice = _had(lambda: find_spice(spice), missing, "spice", "spider")
    tools.fense = _had(lambda: find_fense(fense, device), missing, "fense")
    return tools


def _had(find: Callable[[], Any], missing: dict[str, str], *names: str) -> Any:
    try:
        return find()
    except MissingToolError as error:
        missing |= {name: str(error) for name in names if name not in missing}
        return None


def caption_result(
    score: CaptionScore,
    guess: CaptionScore,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    origins: Sequence[str] | None = None,
) -> MetricValue:
    """Compute a metric times 100, with its 95 % bootstrap interval over clips.

    Of CIDEr-D the inverse document frequencies stay those of all references. BLEU and METEOR are computed anew from the
    counts of the clips that are drawn.

    Args:
        score: the metric of G clips.
        guess: the metric of captions that were written for other clips: the value that guessing reaches.
        ids: G ids of the clips, which are put in their order. Default: the clips are in that order.
        seed: seed of the bootstrap.
        origins: the origin of each clip, over which the interval is, see `slap.metrics.bootstrap.units_of`.
    """
    clips = len(score.clips)
    each = torch.tensor(score.clips, dtype=torch.float64)[:, None] if score.totals is None else score.totals.each
    order = torch.arange(clips) if ids is None else order_of(ids)
    unit = units_of(origins, order)
    sums = torch.zeros(int(unit.max()) + 1, each.shape[1], dtype=torch.float64).index_add_(
        0, unit, each[order].double()
    )
    sizes = unit.bincount().double()

    def values(drawn: Tensor) -> Tensor:
        times = times_drawn(drawn, torch.float64)
        total = times @ sums
        return total[:, 0] / (times @ sizes) if score.totals is None else score.totals.value(total)

    low, high = percentile_interval(values, len(sums), seed)
    value, chance = 100 * score.corpus, 100 * guess.corpus
    return MetricValue(value, 100 * low, 100 * high, chance, clips, None, kind_of(unit))
