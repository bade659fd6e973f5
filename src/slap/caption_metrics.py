"""How good written captions are, by the field's metrics, through the field's own code where that is Java or settled.

G clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slap.cider import cider_d
from slap.java_tools import meteor, package_folder, ptb_tokenize


@dataclass(frozen=True)
class CaptionScore:
    """One metric over a set of written captions.

    Attributes:
        corpus: its value for the set; for BLEU not the mean over clips.
        clips: G values, one a clip.
    """

    corpus: float
    clips: tuple[float, ...]


def caption_scores(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, CaptionScore]:
    """BLEU-1 to BLEU-4, ROUGE-L, METEOR and CIDEr-D, all on the PTB tokenizer's tokens, as coco-caption has them.

    Published CIDEr figures of audio captioning are this CIDEr-D, most of them times 100.

    Args:
        written: G captions, one a clip.
        references: for each clip one or more captions of its own.

    Returns:
        By name `bleu_1` ... `bleu_4`, `rouge_l`, `meteor` (0 to 1) and `cider_d` (0 to 10).

    Raises:
        ValueError: there are no captions, or the numbers do not match.
        MissingToolError: pycocoevalcap or Java is missing; says how to get it.
    """
    if not written or len(written) != len(references) or not all(references):
        raise ValueError(
            f"each clip needs one written caption and at least one reference; got {len(written)} written captions and "
            f"{len(references)} groups of references, {sum(not group for group in references)} of them empty"
        )
    package_folder()  # complains before anything is computed
    ours, theirs = _tokenized(written, references)
    corpus, clips = meteor(ours, theirs)
    cider = cider_d(ours, theirs)
    return {
        **_bleu(ours, theirs),
        "rouge_l": _rouge(ours, theirs),
        "meteor": CaptionScore(corpus, tuple(clips)),
        "cider_d": CaptionScore(sum(cider) / len(cider), tuple(cider)),
    }


def _tokenized(written: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Everything in one run of the tokenizer, since starting Java takes longer than its work."""
    tokens = ptb_tokenize([*written, *(caption for group in references for caption in group)])
    rest = iter(tokens[len(written) :])
    return tokens[: len(written)], [[next(rest) for _ in group] for group in references]


def _bleu(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, CaptionScore]:
    from pycocoevalcap.bleu.bleu import Bleu

    corpus, clips = Bleu(4).compute_score(*_as_coco(written, references), verbose=0)
    return {f"bleu_{n + 1}": CaptionScore(float(corpus[n]), tuple(map(float, clips[n]))) for n in range(4)}


def _rouge(written: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScore:
    from pycocoevalcap.rouge.rouge import Rouge

    corpus, clips = Rouge().compute_score(*_as_coco(written, references))
    return CaptionScore(float(corpus), tuple(map(float, clips)))


def _as_coco(
    written: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    return dict(enumerate(map(list, references))), {clip: [caption] for clip, caption in enumerate(written)}
